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
from relapet.messages import counted
from relapet.types import Mask, Volume

_SLICES = 5
_COLOURS = ("#ff3b30", "#34c7ff")

Picture = tuple[str, str, Path]
"""Visit, step, PNG."""


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


_CAPTIONS = {
    "1mask": "Brain mask (red) on the T1w: it follows the surface of the brain, no skull in it and no brain outside",
    "2template": "T1w in template space: its white matter and brain lie within the template's (red, blue)",
    "3flair": "FLAIR in template space: brain and fluid lie where those of the T1w do (red, blue)",
}
_PET_CAPTION = "PET ({}) in SUVr over the T1w: it fills the brain and is not shifted, turned or mirrored"


def caption(step: str) -> str:
    """What the picture of a step shows and what to look for, by the end of its file's name."""
    label = step.removeprefix("4pet")
    return _PET_CAPTION.format(f"trc-{label}") if label != step else _CAPTIONS.get(step, step)


_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>relapet preprocess</title>
<style>body{{background:#111;color:#eee;font:15px sans-serif;margin:1.5em}}img{{max-width:100%}}
figure{{display:inline-block;margin:0 1em 1em 0;width:46%;vertical-align:top}}.warn{{color:#ffb340}}
.fail{{color:#ff6b5e}}@media (max-width:700px){{figure{{width:100%}}}}</style></head><body>
<h1>Preprocessing, {count}</h1><p>The person's right is on the right of coronal and axial slices.</p>
{body}
</body></html>
"""


def write_page(
    out: Path, visits: Sequence[str], pictures: Sequence[Picture], remarks: dict[str, list[tuple[str, str]]]
) -> None:
    """Write one HTML page with every visit's pictures and remarks (``warn`` or ``fail``, sentence)."""
    parts = []
    for visit in visits:
        parts.append(f"<h2>{html.escape(visit)}</h2>")
        parts += [f'<p class="{kind}">{html.escape(text)}</p>' for kind, text in remarks.get(visit, [])]
        for name, step, path in pictures:
            if name == visit:
                source, text = (
                    html.escape(path.relative_to(out.parent).as_posix()),
                    html.escape(caption(step)),
                )
                alt = html.escape(f"{visit}, fifteen slices. {caption(step)}")
                parts.append(
                    f'<figure><img src="{source}" alt="{alt}"><figcaption>{text}.</figcaption></figure>'
                )
    write_text(out, _PAGE.format(count=counted(len(visits), "visit"), body="\n".join(parts)))
