"""Pictures within a page: slices of volumes and figures, as data URIs with their text alternative."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from PIL import Image

from relapet.report.panels import Slice
from relapet.report.style import alternative_text, house_style
from relapet.types import Mask, Volume

_COLOURS = 255
"""Colours of a map; one more entry of the palette is what is not drawn."""
_BLANK = (38, 38, 38)
_GAP = 1
"""Pixels between slices."""
_MANY_PIXELS = 60_000
"""A stack of slices with more pixels is written as JPEG: slices of 1 mm voxels."""
_QUALITY = 88
_DOTS_PER_INCH = 110
"""Of figures that are drawn for a page."""
_STOPS = 12


@dataclass(frozen=True)
class Picture:
    """An image with its size in pixels and what is told in its place."""

    source: str
    """A data URI."""
    alt: str
    width: int
    height: int


@dataclass(frozen=True)
class ColourScale:
    """A colour bar: its ends, its unit, and its colours from low to high as CSS takes them."""

    low: float
    high: float
    unit: str
    colours: tuple[str, ...]


def colour_scale(colour_map: str, window: tuple[float, float], unit: str) -> ColourScale:
    """The colour bar of a colour map over a window."""
    table = (_table(colour_map)[np.linspace(0, _COLOURS - 1, _STOPS).astype(int)]).tolist()
    return ColourScale(*window, unit, tuple(f"rgb({r} {g} {b})" for r, g, b in table))


def slices_picture(
    image: Volume,
    cuts: Sequence[Slice],
    colour_map: str,
    window: tuple[float, float],
    alt: str,
    inside: Mask | None = None,
) -> Picture:
    """Slices of a volume ``(X, Y, Z)`` one below the other, a pixel a voxel; outside of ``inside`` nothing is drawn."""
    low, high = window
    level = np.clip((image - low) / (high - low), 0, 1) * (_COLOURS - 1)
    index = np.where(np.isfinite(level), np.rint(level), _COLOURS).astype(np.uint8)
    if inside is not None:
        index[~inside] = _COLOURS
    stack = _stacked([cut.of(index)[::-1] for cut in cuts])
    table = np.vstack([_table(colour_map), [_BLANK]]).astype(np.uint8)
    picture = Image.fromarray(stack, mode=None).convert("P")
    picture.putpalette(table.tobytes())
    if stack.size > _MANY_PIXELS:
        return _encoded(picture.convert("RGB"), alt, "JPEG", quality=_QUALITY, subsampling=0)
    return _encoded(picture, alt, "PNG", optimize=True)


def _table(colour_map: str) -> npt.NDArray[np.uint8]:
    """The colours of a map, ``(_COLOURS, 3)``, 0 to 255."""
    colours = matplotlib.colormaps[colour_map](np.linspace(0, 1, _COLOURS))
    return np.asarray(np.rint(colours[:, :3] * 255), dtype=np.uint8)


def _stacked(slices: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """Slices below each other, each in the middle, on what is not drawn."""
    width = max(pixels.shape[1] for pixels in slices)
    height = sum(len(pixels) for pixels in slices) + _GAP * (len(slices) - 1)
    stack = np.full((height, width), _COLOURS, np.uint8)
    top = 0
    for pixels in slices:
        left = (width - pixels.shape[1]) // 2
        stack[top : top + len(pixels), left : left + pixels.shape[1]] = pixels
        top += len(pixels) + _GAP
    return stack


def figure_picture(figure: Figure) -> Picture:
    """A figure as PNG; its title is its text alternative."""
    stream = io.BytesIO()
    with house_style():
        figure.savefig(stream, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    with Image.open(stream) as image:
        return _encoded(_few_colours(image), alternative_text(figure), "PNG", optimize=True)


def file_picture(path: Path, alt: str) -> Picture:
    """A PNG of a figure in fewer bytes; raises OSError where it cannot be read."""
    with Image.open(path) as image:
        return _encoded(_few_colours(image), alt, "PNG", optimize=True)


def _few_colours(image: Image.Image) -> Image.Image:
    return image.convert("RGB").quantize(128, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)


def _encoded(image: Image.Image, alt: str, kind: str, **options: Any) -> Picture:
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    coded = base64.b64encode(stream.getvalue()).decode()
    return Picture(f"data:image/{kind.lower()};base64,{coded}", alt, *image.size)
