"""Pictures of one subject: T1w, FLAIR, measured and synthetic PET and their difference, in three planes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import nibabel as nib
import numpy as np
import numpy.typing as npt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from relapet.report.style import DOUBLE_COLUMN_INCHES, house_style, minus
from relapet.tracers import TracerSpec
from relapet.types import Affine, Mask, Volume

Plane = Literal["axial", "coronal", "sagittal"]

AXES: dict[Plane, tuple[int, int, int]] = {"axial": (2, 0, 1), "coronal": (1, 0, 2), "sagittal": (0, 1, 2)}
"""Normal axis of a plane, then its horizontal and vertical axes."""
PET_MAP = "inferno"
DIFFERENCE_MAP = "RdBu_r"
MARGIN_MM = 8.0
"""Shown around the brain: spill-out of PET, room for the marks."""
_BAR_INCHES = 0.64  # height kept below the slices for colour bars and two lines of notes
_TOP_INCHES = 0.52  # height kept above the slices for the two lines of titles
_LEFT_INCHES = 0.3


@dataclass(frozen=True)
class PanelView:
    """Which slices a panel shows and which side of the picture is the patient's left."""

    slices: tuple[tuple[Plane, float], ...] = (
        ("axial", -16.0),  # temporal lobes, midbrain
        ("axial", 16.0),  # striatum, thalamus, posterior cingulate
        ("coronal", -18.0),  # hippocampus, thalamus
        ("sagittal", -6.0),  # cingulate, precuneus, brainstem
    )
    """Plane and its template coordinate in mm."""
    convention: Literal["neurological", "radiological"] = "neurological"
    """Neurological: the patient's left is on the left of the picture; radiological: on its right."""


@dataclass(frozen=True)
class _Column:
    title: str
    image: npt.NDArray[Any]
    colour_map: str
    window: tuple[float, float]


@dataclass(frozen=True)
class Slice:
    """One plane through the volumes: where it cuts, what is kept around the brain, and its extent in mm."""

    plane: Plane
    mm: float
    index: int
    box: tuple[slice, slice]
    extent_mm: tuple[float, float, float, float]

    def of(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The pixels, rows from inferior (or posterior) to superior (or anterior)."""
        normal = AXES[self.plane][0]
        pixels: npt.NDArray[Any] = image.take(self.index, axis=normal)[self.box].T
        return pixels

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height."""
        left, right, bottom, top = self.extent_mm
        return right - left, top - bottom


def subject_panel(
    t1w: Volume | None,
    flair: Volume | None,
    real: Volume | None,
    synthetic: Volume,
    tracer: TracerSpec,
    affine: Affine,
    title: str,
    view: PanelView | None = None,
) -> Figure:
    """Slices of one subject's images; T1w or FLAIR may be missing, and without ``real`` no difference is shown.

    All images are ``(X, Y, Z)`` in RAS+ on the grid of ``affine``; MRI in arbitrary units, brain-only (zero
    outside the brain), PET in SUVr. PET is shown in the tracer's display window, the difference synthetic -
    real inside the brain on a symmetric scale of a quarter of that window to each side. Raises ValueError
    for shapes that differ, for another orientation and without an MRI that shows where the brain is.
    """
    view = view or PanelView()
    mri = {name: image for name, image in (("T1w", t1w), ("FLAIR", flair)) if image is not None}
    _check([*mri.values(), synthetic, *([] if real is None else [real])], affine)
    if not mri or not all(image.any() for image in mri.values()):
        raise ValueError("The T1w or FLAIR image is missing or empty (all zero); give brain-extracted ones.")
    brain = next(iter(mri.values())) != 0
    columns = _columns(mri, brain, real, synthetic, tracer)
    cuts = [cut_plane(plane, mm, brain, affine) for plane, mm in view.slices]
    with house_style():
        return _draw(columns, cuts, view, tracer, title)


def _check(images: list[Volume], affine: Affine) -> None:
    shapes = {np.asarray(image).shape for image in images}
    if len(shapes) > 1 or len(next(iter(shapes))) != 3:
        raise ValueError(f"The images of a panel must share one 3-D shape, not {sorted(shapes)}.")
    if nib.aff2axcodes(affine) != ("R", "A", "S"):
        raise ValueError(f"The images of a panel must be in RAS+ order, not {nib.aff2axcodes(affine)}.")


def difference_reach(window: tuple[float, float]) -> float:
    """Where the symmetric scale of differences ends, SUVr: a quarter of the display window."""
    return (window[1] - window[0]) / 4


def mri_window(image: Volume, brain: Mask) -> tuple[float, float]:
    """Grey-scale window of an MRI (arbitrary units): from zero, the background, to the brain's bright end."""
    low, high = (float(value) for value in np.percentile(image[brain], (1.0, 99.5)))
    return min(low, 0.0), high if high > min(low, 0.0) else 1.0


def _columns(
    mri: dict[str, Volume], brain: Mask, real: Volume | None, synthetic: Volume, tracer: TracerSpec
) -> list[_Column]:
    columns = [_Column(name, image, "gray", mri_window(image, brain)) for name, image in mri.items()]
    suvr = tracer.display_window
    if real is not None:
        columns.append(_Column(f"Measured {tracer.name}", real, PET_MAP, suvr))
    columns.append(_Column(f"Synthetic {tracer.name}", synthetic, PET_MAP, suvr))
    if real is not None:
        reach = difference_reach(tracer.display_window)
        difference = np.where(brain, synthetic - real, np.nan)  # NaN is not drawn
        columns.append(_Column("Synthetic − measured", difference, DIFFERENCE_MAP, (-reach, reach)))
    return columns


def cut_plane(plane: Plane, mm: float, brain: Mask, affine: Affine) -> Slice:
    """The slice nearest to ``mm``, cropped to the brain's bounding box plus a margin."""
    size = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    normal, *in_plane = AXES[plane]
    origin = affine[:3, 3]
    index = int(np.clip(round((mm - origin[normal]) / size[normal]), 0, brain.shape[normal] - 1))
    box, extent = [], []
    for axis in in_plane:
        others = tuple(other for other in range(3) if other != axis)
        inside = np.flatnonzero(brain.any(axis=others))
        margin = int(np.ceil(MARGIN_MM / size[axis]))
        first = max(int(inside[0]) - margin, 0)
        last = min(int(inside[-1]) + margin, brain.shape[axis] - 1)
        box.append(slice(first, last + 1))
        extent += [
            float(origin[axis] + (first - 0.5) * size[axis]),
            float(origin[axis] + (last + 0.5) * size[axis]),
        ]
    centre = float(origin[normal] + index * size[normal])
    return Slice(plane, centre, index, (box[0], box[1]), (extent[0], extent[1], extent[2], extent[3]))


def _draw(
    columns: list[_Column], cuts: list[Slice], view: PanelView, tracer: TracerSpec, title: str
) -> Figure:
    """Lay the slices out at one scale (mm per inch) over the whole figure."""
    widest = max(cut.size_mm[0] for cut in cuts)
    gap_mm = 2.0
    column_inches = min((DOUBLE_COLUMN_INCHES - _LEFT_INCHES) / len(columns), 1.75)
    inches_per_mm = column_inches / (widest + gap_mm)
    width = _LEFT_INCHES + column_inches * len(columns)
    height = _TOP_INCHES + _BAR_INCHES + inches_per_mm * sum(cut.size_mm[1] + gap_mm for cut in cuts)
    figure = Figure(figsize=(width, height))
    left = "left" if view.convention == "neurological" else "right"
    figure.suptitle(title, y=1 - 0.04 / height, va="top", fontsize=8.5)
    figure.text(
        0.5,
        1 - 0.2 / height,
        f"{view.convention} convention: patient's left (L) on the {left}; template coordinates in mm",
        ha="center",
        va="top",
        fontsize=6,
    )
    top = height - _TOP_INCHES
    for row, cut in enumerate(cuts):
        tall = cut.size_mm[1] * inches_per_mm
        for number, column in enumerate(columns):
            x = _LEFT_INCHES + number * column_inches
            axes = figure.add_axes(
                (x / width, (top - tall) / height, widest * inches_per_mm / width, tall / height)
            )
            _show(axes, column, cut, view, widest)
            if row == 0:
                axes.set_title(column.title, fontsize=6.5, pad=2.5)
        axes_letter = "xyz"[AXES[cut.plane][0]]
        label = minus(f"{cut.plane}\n{axes_letter} = {cut.mm:+.0f} mm")
        middle = (top - tall / 2) / height
        figure.text(0.14 / width, middle, label, rotation=90, ha="center", va="center", fontsize=6)
        top -= tall + gap_mm * inches_per_mm
    _colour_bars(figure, columns, column_inches)
    note = f"SUVr reference: {tracer.reference_region.name}.\nSynthetic images are not for clinical use."
    figure.text(_LEFT_INCHES / width, 0.05 / height, note, ha="left", va="bottom", fontsize=6)
    return figure


def _show(axes: Any, column: _Column, cut: Slice, view: PanelView, widest_mm: float) -> None:
    """One tile: the slice on black, as wide as the widest plane, with the sides of the patient marked."""
    axes.imshow(
        cut.of(column.image),
        origin="lower",
        extent=cut.extent_mm,
        cmap=column.colour_map,
        norm=Normalize(*column.window),
        interpolation="nearest",  # every pixel is a voxel: nothing is made to look sharper than it is
    )
    middle = (cut.extent_mm[0] + cut.extent_mm[1]) / 2
    axes.set_xlim(middle - widest_mm / 2, middle + widest_mm / 2)
    axes.set_aspect("equal")
    axes.set_facecolor("black")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    marks = ("P", "A") if cut.plane == "sagittal" else ("L", "R")
    if cut.plane != "sagittal" and view.convention == "radiological":
        axes.invert_xaxis()
        marks = ("R", "L")
    place = {"transform": axes.transAxes, "color": "white", "va": "top", "fontsize": 6}
    axes.text(0.03, 0.97, marks[0], ha="left", **place)
    axes.text(0.97, 0.97, marks[1], ha="right", **place)


def _colour_bars(figure: Figure, columns: list[_Column], column_inches: float) -> None:
    """One SUVr bar below the PET columns and one below the difference."""
    width, height = figure.get_size_inches()
    for colour_map, label in ((PET_MAP, "SUVr"), (DIFFERENCE_MAP, "ΔSUVr")):
        numbers = [n for n, column in enumerate(columns) if column.colour_map == colour_map]
        if not numbers:
            continue
        centre = _LEFT_INCHES + (numbers[0] + numbers[-1] + 1) / 2 * column_inches
        length = min(len(numbers) * column_inches * 0.84, 1.6)
        axes = figure.add_axes(((centre - length / 2) / width, 0.52 / height, length / width, 0.07 / height))
        low, high = columns[numbers[0]].window
        mappable = ScalarMappable(Normalize(low, high), colour_map)
        bar = figure.colorbar(mappable, cax=axes, orientation="horizontal", extend="both")
        ticks = (low, (low + high) / 2, high)
        bar.set_ticks(ticks, labels=[minus(f"{tick:g}") for tick in ticks])
        bar.ax.tick_params(labelsize=5.5, length=2, pad=1)
        bar.set_label(label, fontsize=6, labelpad=1)
        bar.outline.set_linewidth(0.4)
