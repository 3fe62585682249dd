"""Regions: the atlas on the images' grid, mean SUVr in each VOI and composite, and Centiloids."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.processing import resample_from_to

from relapet.errors import InputError, VolumeError
from relapet.evaluation.tables import NOT_AVAILABLE, read_table, require_columns
from relapet.imaging.grid import GRIDS, find_grid
from relapet.imaging.nifti import load_volume
from relapet.imaging.template import load_atlas, load_template
from relapet.tracers import TracerSpec
from relapet.types import Affine, Labels, Mask, Volume

# Labels of the Desikan-Killiany atlas that are no grey matter: fluid, vessels, fibres and what has no name.
_NO_TARGET = re.compile(
    r"Ventricle|Lat-Vent|CSF|vessel|choroid-plexus|White-Matter|WM-hypointensities"
    r"|Optic-Chiasm|^CC_|unknown"
)


@dataclass(frozen=True)
class RegionAtlas:
    """A label image with the name of each index; the packaged Desikan-Killiany atlas has no ``image``."""

    name: str
    names: dict[int, str]
    image: nib.Nifti1Image | None = None

    def labels(self, shape: tuple[int, ...], affine: Affine) -> Labels:
        """Labels ``shape`` on a grid given by shape and affine, nearest neighbour; 0 is background."""
        if self.image is None:
            grid = find_grid(shape, affine)
            if grid is not None:
                return load_atlas(grid).labels
            return _nearest(_packaged_atlas_image(), shape, affine)
        return _nearest(self.image, shape, affine)


def _packaged_atlas_image() -> nib.Nifti1Image:
    grid = GRIDS["1mm"]
    return nib.Nifti1Image(load_atlas(grid).labels.astype(np.int32), grid.affine)


def _nearest(image: nib.Nifti1Image, shape: tuple[int, ...], affine: Affine) -> Labels:
    moved: Any = resample_from_to(image, (shape, affine), order=0, mode="constant", cval=0)
    return np.asarray(np.rint(np.asarray(moved.dataobj)), dtype=np.int32)


def brain_mask(shape: tuple[int, ...], affine: Affine) -> Mask:
    """The template's brain mask on the images' grid, resampled by affine where that is no known grid."""
    grid = find_grid(shape, affine)
    if grid is not None:
        return load_template(grid).brain
    fine = GRIDS["1mm"]
    image = nib.Nifti1Image(load_template(fine).brain.astype(np.float32), fine.affine)
    moved: Any = resample_from_to(image, (shape, affine), order=1, mode="constant", cval=0)
    return np.asarray(moved.dataobj) > 0.5


def default_atlas() -> RegionAtlas:
    """The Desikan-Killiany atlas in template space (Desikan et al., NeuroImage 31:968, 2006)."""
    return RegionAtlas("DK", load_atlas(GRIDS["1mm"]).names)


def load_region_atlas(path: Path, table: Path | None = None) -> RegionAtlas:
    """Read a label NIfTI in template space and its TSV (columns index, name; beside it by default).

    Raises InputError where either file is missing or unusable, or where a label has no row.
    """
    path = Path(path)
    table = Path(table) if table else path.with_name(re.sub(r"\.nii(\.gz)?$", "", path.name) + ".tsv")
    if not table.is_file():
        raise InputError(
            f"The atlas {path} has no label table {table}; write one with the columns index and name."
        )
    try:
        image = load_volume(path)
    except VolumeError as error:
        raise InputError(f"The atlas cannot be used: {error}") from error
    names = _read_label_table(table)
    data = np.asarray(image.dataobj)
    present = np.unique(data)
    if not np.array_equal(present, np.rint(present)) or present.min() < 0:
        raise InputError(f"The atlas {path} holds values that are no labels; give a map of integers >= 0.")
    missing = sorted({int(index) for index in present} - set(names) - {0})
    if missing:
        some = ", ".join(map(str, missing[:5]))
        raise InputError(f"The label table {table} has no row for index {some} of {path}; add it.")
    return RegionAtlas(path.name, names, nib.Nifti1Image(data.astype(np.int32), image.affine))


def _read_label_table(table: Path) -> dict[int, str]:
    frame = read_table(table, dtype=str, keep_default_na=False)
    require_columns(table, frame, ["index", "name"])
    rows = []
    for number, row in enumerate(frame.to_dict("records"), start=2):
        index, name = str(row["index"]).strip(), str(row["name"]).strip()
        if not re.fullmatch(r"\d{1,6}", index) or not name or name == NOT_AVAILABLE:
            raise InputError(
                f"The label table {table} has no index (a whole number of up to 6 digits) and name in line {number}; "
                "correct it."
            )
        rows.append((int(index), name))
    for position, kind in ((0, "index"), (1, "name")):
        values = [row[position] for row in rows]
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            raise InputError(f"The label table {table} holds the {kind} {twice[0]} twice; correct it.")
    return {index: name for index, name in rows if index != 0}


def target_vois(names: list[str], tracer: TracerSpec) -> list[str]:
    """The VOIs that count in summaries: grey matter, without the tracer's own reference region."""
    reference = set(tracer.reference_region.labels)
    return [name for name in names if name not in reference and not _NO_TARGET.search(name)]


@dataclass(frozen=True)
class RegionSums:
    """SUVr sum and voxel count of every label of the atlas (0 where this grid has no voxel of it)."""

    sums: dict[str, float]
    counts: dict[str, int]

    def mean(self, labels: tuple[str, ...]) -> float:
        """Mean SUVr over the pooled voxels of ``labels``; NaN where the atlas lacks one of them."""
        if any(label not in self.counts for label in labels):
            return float("nan")
        count = sum(self.counts[label] for label in labels)
        return sum(self.sums[label] for label in labels) / count if count else float("nan")

    def vois(self) -> dict[str, float]:
        """Mean SUVr of each VOI that has a voxel on this grid (small ones vanish on a coarse grid)."""
        return {name: self.sums[name] / count for name, count in self.counts.items() if count}

    def composites(self, tracer: TracerSpec) -> dict[str, float]:
        """Mean SUVr of each of the tracer's composites that this atlas has."""
        means = {name: self.mean(labels) for name, labels in tracer.composites.items()}
        return {name: value for name, value in means.items() if np.isfinite(value)}

    def centiloid(self, tracer: TracerSpec) -> float:
        """Centiloid: 100 (composite over whole-cerebellum reference - intercept) / span; NaN without one.

        Klunk et al., Alzheimer's & Dementia 11:1 (2015), equation 1.3, doi:10.1016/j.jalz.2014.07.003.
        """
        scale = tracer.centiloid
        if scale is None:
            return float("nan")
        target = self.mean(tracer.composites[scale.composite])
        ratio = target / self.mean(scale.reference_labels)
        return 100 * (ratio - scale.intercept_suvr) / scale.span_suvr


def sum_regions(suvr: Volume, labels: Labels, names: dict[int, str]) -> RegionSums:
    """Pool the SUVr of each label of the atlas; ``suvr`` and ``labels`` are ``(X, Y, Z)`` on one grid."""
    flat = labels.ravel()
    counts = np.bincount(flat, minlength=max(names) + 1)
    sums = np.bincount(flat, suvr.ravel(), minlength=max(names) + 1)
    return RegionSums(
        {name: float(sums[index]) for index, name in names.items()},
        {name: int(counts[index]) for index, name in names.items()},
    )
