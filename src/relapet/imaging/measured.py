"""Measured PET of other pipelines as SUVr in template space: frames averaged, divided by the reference, resampled."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from relapet.imaging.bids import NATIVE_SPACE, Visit
from relapet.imaging.checks import open_scan
from relapet.imaging.derivatives import entities, find_transform_to_mni
from relapet.imaging.frames import choose_frames, load_frames, read_sidecar, unit_of
from relapet.imaging.grid import GRIDS, SPACE, Grid
from relapet.imaging.nifti import load_volume, require_contrast
from relapet.imaging.reference_region import reference_mean, template_reference
from relapet.imaging.template import load_atlas
from relapet.imaging.transforms import Step, apply
from relapet.tracers import TracerSpec
from relapet.types import Volume


def is_model_ready(path: Path) -> bool:
    """Whether a PET bears the name of a model-ready SUVr map, which is taken as it is."""
    name = entities(path)
    return (name["suffix"], name.get("space"), name.get("meas")) == ("mimap", SPACE, "SUVR")


def load_model_ready(path: Path) -> nib.Nifti1Image:
    """A model-ready SUVr map on whatever grid it lies; raises VolumeError also where all voxels are alike."""
    image = load_volume(path)
    require_contrast(np.asarray(image.dataobj), path)
    return image


def load_measured(path: Path, tracer: TracerSpec, grid: Grid) -> nib.Nifti1Image:
    """A measured SUVr map: a model-ready one on its own grid, another pipeline's brought to ``grid`` (`load_suvr`).

    Raises SubjectError for what cannot be used.
    """
    if is_model_ready(path):
        return load_model_ready(path)
    return nib.Nifti1Image(load_suvr(path, tracer, grid), grid.affine)


def load_suvr(path: Path, tracer: TracerSpec, grid: Grid) -> Volume:
    """SUVr ``(X, Y, Z)`` of another pipeline's PET on a grid in template space.

    The unit is that of the sidecar: SUVR is taken as it is; SUV and activity are averaged over the frames of the
    tracer's window (an image without frame times is an average already) and divided by the mean of the tracer's
    reference region in template space. An image in an MNI space is resampled by its affine, one in the T1w's
    space through the transform beside it. Raises SubjectError for what cannot be used, InputError where a
    transform needs ANTsPy and it is missing.
    """
    sidecar = read_sidecar(path)
    unit = unit_of(sidecar, path)
    shape = open_scan(path).shape
    count = shape[3] if len(shape) == 4 else 1
    index: tuple[int, ...] = (0,)
    weights: tuple[float, ...] = (1.0,)
    if count > 1 or "FrameTimesStart" in sidecar:
        chosen = choose_frames(sidecar, path, count, tracer)
        index, weights = chosen.index, chosen.weight
    frames = load_frames(path, index)
    mean = sum(
        np.float32(weight) * np.asarray(frame.dataobj, dtype=np.float32)
        for weight, frame in zip(weights, frames, strict=True)
    )
    image, steps = nib.Nifti1Image(mean, frames[0].affine), _to_template(path)
    suvr = apply(image, grid.shape, grid.affine, steps)
    if unit == "SUVR":
        return suvr
    fine = GRIDS["1mm"]
    region = template_reference(tracer, load_atlas(fine), fine)
    reference = reference_mean(apply(image, fine.shape, fine.affine, steps), region, tracer, str(path))
    return np.asarray(suvr / np.float32(reference))


def _to_template(path: Path) -> list[Step]:
    name = entities(path)
    if name["space"] != NATIVE_SPACE:
        return []
    visit = Visit(name["sub"], name.get("ses"))
    root = path.parents[3 if visit.session else 2]
    return [Step(find_transform_to_mni(root, visit))]
