"""The images of one visit that a page shows, read from the trees on disk and brought onto one grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from relapet.errors import InputError, SubjectError
from relapet.evaluation.scores.voi import RegionSums, brain_mask, default_atlas, sum_regions
from relapet.files import read_json
from relapet.imaging.bids import NATIVE_SPACE, Visit, sidecar_path
from relapet.imaging.derivatives import find_foreign_pet, find_mni_images
from relapet.imaging.grid import GRIDS, SPACE, find_grid
from relapet.imaging.measured import load_measured
from relapet.imaging.nifti import load_volume
from relapet.imaging.resample import resample
from relapet.imaging.template_space import bring_to_grid
from relapet.messages import plain_text
from relapet.tracers import TracerSpec, load_tracers
from relapet.types import Affine, Json, Mask, Volume

_UNREADABLE = (SubjectError, InputError, OSError)
"""What a file of the trees may raise that cannot be shown: the page says so in its place."""


@dataclass(frozen=True)
class SyntheticMap:
    """One method's map of a scan, ``(X, Y, Z)``, its SD over samples, and what its sidecar says."""

    mean: Volume
    sd: Volume | None
    sidecar: Json


@dataclass(frozen=True)
class ScanImages:
    """One tracer of a visit."""

    tracer: TracerSpec
    maps: dict[str, SyntheticMap]
    """By method."""
    measured: Volume | None
    measured_sums: RegionSums | None
    """Of the measured map, over the atlas's labels."""

    @property
    def unit(self) -> str:
        """What the numbers are: SUVr, or what the sidecar says of a model that gives none."""
        measures = {str(made.sidecar.get("Measure", "SUVR")) for made in self.maps.values()}
        return "SUVr" if measures <= {"SUVR"} else ", ".join(sorted(measures))

    @property
    def window(self) -> tuple[float, float]:
        """What pictures show, and the viewer at first."""
        return self.tracer.display_window if self.unit == "SUVr" else self.whole_window

    @property
    def whole_window(self) -> tuple[float, float]:
        """What the viewer's volumes can hold."""
        if self.unit == "SUVr":
            return self.tracer.suvr_window
        values = np.concatenate([made.mean[made.mean > 0] for made in self.maps.values()])
        return 0.0, float(np.percentile(values, 99.5)) if len(values) else 1.0


@dataclass(frozen=True)
class VisitImages:
    """Everything of one visit on one grid in template space; volumes ``(X, Y, Z)``."""

    visit: Visit
    affine: Affine
    brain: Mask
    """Of the MRI, or of the template where there is no MRI."""
    mri: dict[str, Volume]
    """T1w and FLAIR, arbitrary units, as far as there."""
    scans: tuple[ScanImages, ...]


def map_path(tree: Path, visit: Visit, tracer: TracerSpec) -> Path:
    """A synthetic map of a tree; one of another tool's bears a plain name."""
    path = visit.pet(tree, tracer, "synth")
    return path if path.is_file() else visit.pet(tree, tracer)


def read_visit(
    visit: Visit, images: Path | None, trees: Mapping[str, Path], notes: list[str]
) -> VisitImages | None:
    """Read what is there of a visit; None where no tree has a map of it in template space.

    ``images``: the derivative with its MRI and, where there is one, measured PET. ``trees``: synthetic derivative by
    method. What cannot be read goes to ``notes``.
    """
    known, found = load_tracers(), dict[str, dict[str, nib.Nifti1Image]]()
    for tracer in known.values():
        for method, tree in trees.items():
            path = map_path(tree, visit, tracer)
            if path.is_file() and (image := _load(path, notes)) is not None:
                found.setdefault(tracer.name, {})[method] = image
            elif visit.pet(tree, tracer, "synth", NATIVE_SPACE).is_file():
                notes.append("Maps that were written in native space alone are not shown as pictures.")
    if not found:
        return None
    first = next(iter(next(iter(found.values())).values()))
    mri, brain = _read_mri(visit, images, first, notes)
    pet = {} if images is None else _measured_paths(images, visit, notes)
    scans = tuple(
        _read_scan(visit, known[name], maps, trees, pet.get(name), (first, notes))
        for name, maps in found.items()
    )
    return VisitImages(visit, first.affine, brain, mri, scans)


def _load(path: Path, notes: list[str]) -> nib.Nifti1Image | None:
    try:
        return load_volume(path)
    except _UNREADABLE as error:
        notes.append(plain_text(str(error)))
        return None


def _read_scan(
    visit: Visit,
    tracer: TracerSpec,
    maps: Mapping[str, nib.Nifti1Image],
    trees: Mapping[str, Path],
    pet: Path | None,
    how: tuple[nib.Nifti1Image, list[str]],
) -> ScanImages:
    """The maps of a tracer on the grid of an image, and the measured PET; what cannot be read goes to the notes."""
    like, notes = how
    made = {}
    for method, image in maps.items():
        spread = visit.pet(trees[method], tracer, "synthstd")
        sd = _load(spread, notes) if spread.is_file() else None
        sidecar = _read_sidecar(map_path(trees[method], visit, tracer), notes)
        made[method] = SyntheticMap(_onto(image, like), None if sd is None else _onto(sd, like), sidecar)
    sums, measured = None, _read_measured(pet, tracer, like, notes)
    if measured is not None:
        atlas = default_atlas()
        data = np.asarray(measured.dataobj, dtype=np.float32)
        sums = sum_regions(data, atlas.labels(data.shape, measured.affine), atlas.names)
    return ScanImages(tracer, made, None if measured is None else _onto(measured, like), sums)


def _read_sidecar(path: Path, notes: list[str]) -> Json:
    beside = sidecar_path(path)
    try:
        return read_json(beside) if beside.is_file() else {}
    except _UNREADABLE as error:
        notes.append(plain_text(str(error)))
        return {}


def _onto(image: nib.Nifti1Image, like: nib.Nifti1Image) -> Volume:
    """An image's voxels, resampled by affine where they are not on the other's grid."""
    if image.shape == like.shape and np.allclose(image.affine, like.affine, atol=1e-2):
        return np.asarray(image.dataobj, dtype=np.float32)
    return resample(image, like.shape, like.affine)


def _measured_paths(images: Path, visit: Visit, notes: list[str]) -> dict[str, Path]:
    try:
        return find_foreign_pet(images, visit)
    except _UNREADABLE as error:
        notes.append(plain_text(str(error)))
        return {}


def _read_measured(
    path: Path | None, tracer: TracerSpec, like: nib.Nifti1Image, notes: list[str]
) -> nib.Nifti1Image | None:
    if path is None:
        return None
    try:
        return load_measured(path, tracer, find_grid(like.shape, like.affine) or GRIDS["1mm"])
    except _UNREADABLE as error:
        notes.append(plain_text(str(error)))
        return None


def _read_mri(
    visit: Visit, images: Path | None, like: nib.Nifti1Image, notes: list[str]
) -> tuple[dict[str, Volume], Mask]:
    """T1w and FLAIR on the grid of a map and the brain's mask, as synthesis brings them there."""
    if images is not None:
        try:
            found = find_mni_images(images, visit)
            loaded = {
                m: load_volume(p) for m, p in (("T1w", found.t1w), ("FLAIR", found.flair)) if p is not None
            }
            mask = None if found.mask is None else load_volume(found.mask)
            grid = find_grid(like.shape, like.affine)
            if grid is not None:
                ready = bring_to_grid(loaded.get("T1w"), loaded.get("FLAIR"), mask, grid, visit.stem)
                volumes = {"T1w": ready.t1w, "FLAIR": ready.flair}
                return {m: v for m, v in volumes.items() if v is not None}, ready.mask
            if found.space == SPACE:
                volumes_there = {m: _onto(image, like) for m, image in loaded.items()}
                return volumes_there, next(iter(volumes_there.values())) != 0
        except _UNREADABLE as error:
            notes.append(plain_text(str(error)))
    return {}, brain_mask(like.shape, like.affine)
