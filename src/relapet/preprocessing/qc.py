"""Pictures of each step, and one page on which a person looks through a cohort's preprocessing."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from matplotlib.figure import Figure

from relapet.files import atomic_path, write_text
from relapet.imaging.resample import voxel_size
from relapet.types import Mask, Volume

_SLICES = 5
_COLOURS = ("#ff3b30", "#34c7ff")

Picture = tuple[str, str, Path]
"""Visit, caption, PNG."""


def draw_outlines(image: nib.Nifti1Image, masks: Sequence[Mask], out: Path, title: str) -> None:
    """Draw outlines of masks ``(X, Y, Z)`` over slices of a grey image in three planes."""
    data = np.asarray(image.dataobj)
    top = np.percentile(data[masks[0]], 99) if masks[0].any() else data.max()
    _draw(image, masks, out, title, [(data, {"cmap": "gray", "vmin": 0, "vmax": 1.15 * top})])


def draw_overlay(
    image: nib.Nifti1Image, pet: Volume, window: tuple[float, float], brain: Mask, out: Path, title: str
) -> None:
    """Draw a PET in SUVr, half transparent, over the T1w on the same grid, with the brain's outline."""
    grey = np.asarray(image.dataobj)
    top = np.percentile(grey[brain], 99) if brain.any() else grey.max()
    layers = [
        (grey, {"cmap": "gray", "vmin": 0, "vmax": 1.15 * top}),
        (pet, {"cmap": "inferno", "vmin": window[0], "vmax": window[1], "alpha": 0.55}),
    ]
    _draw(image, (brain,), out, title, layers)


def _draw(
    image: nib.Nifti1Image,
    masks: Sequence[Mask],
    out: Path,
    title: str,
    layers: Sequence[tuple[Volume, dict[str, Any]]],
) -> None:
    size = voxel_size(image.affine)
    voxels = np.argwhere(masks[0])
    low, high = (voxels.min(0), voxels.max(0)) if len(voxels) else (np.zeros(3), np.array(image.shape) - 1)
    figure = Figure(figsize=(2.2 * _SLICES, 6.6), facecolor="black", layout="tight")
    for axis in range(3):
        across, up = [a for a in range(3) if a != axis]
        for column in range(_SLICES):
            at = int(low[axis] + (high[axis] - low[axis]) * (column + 0.75) / (_SLICES + 0.5))
            panel = figure.add_subplot(3, _SLICES, axis * _SLICES + column + 1)
            panel.set_axis_off()
            for data, style in layers:
                panel.imshow(
                    np.take(data, at, axis).T, origin="lower", aspect=size[up] / size[across], **style
                )
            for mask, colour in zip(masks, _COLOURS, strict=False):
                outline = np.take(mask, at, axis).T
                if outline.any() and not outline.all():
                    panel.contour(outline.astype(float), [0.5], colors=colour, linewidths=0.8)
    figure.suptitle(title, color="white", fontsize=9)
    with atomic_path(out) as temporary:
        figure.savefig(temporary, dpi=90)


_PAGE = """<!doctype html><meta charset="utf-8"><title>relapet preprocess</title>
<style>body{{background:#111;color:#eee;font:15px sans-serif;margin:1.5em}}img{{max-width:100%}}
figure{{display:inline-block;margin:0 1em 1em 0;width:46%}}.warn{{color:#ffb340}}.fail{{color:#ff6b5e}}</style>
<h1>Preprocessing, {count} visits</h1><p>Right of the subject is on the right of coronal and axial slices.</p>
{body}
"""


def write_page(
    out: Path, visits: Sequence[str], pictures: Sequence[Picture], remarks: dict[str, list[tuple[str, str]]]
) -> None:
    """Write one HTML page with every visit's pictures and remarks (``warn`` or ``fail``, sentence)."""
    parts = []
    for visit in visits:
        parts.append(f"<h2>{html.escape(visit)}</h2>")
        parts += [f'<p class="{kind}">{html.escape(text)}</p>' for kind, text in remarks.get(visit, [])]
        for name, caption, path in pictures:
            if name == visit:
                source = html.escape(path.relative_to(out.parent).as_posix())
                text = html.escape(caption)
                parts.append(
                    f'<figure><img src="{source}" alt="{text}"><figcaption>{text}</figcaption></figure>'
                )
    write_text(out, _PAGE.format(count=len(visits), body="\n".join(parts)))
