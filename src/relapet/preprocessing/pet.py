"""PET from frames to SUVr: motion correction, duration-weighted mean, PET -> T1w, reference region."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import nibabel.filebasedimages
import numpy as np

from relapet.errors import SubjectError, VolumeError
from relapet.imaging.grid import GRIDS, Grid
from relapet.imaging.template import Atlas, load_atlas
from relapet.preprocessing.checks import check_header
from relapet.preprocessing.spatial import Step, apply, isotropic, register_linear, register_motion, smooth
from relapet.tracers import TracerSpec
from relapet.types import Affine, Mask, Volume

_MOTION_MM = 4.0
"""Voxel size and smoothing at which frames are registered: PET resolves 6 to 8 mm."""
_REGISTER_MM = 2.0
_LEAST_SEEN = 0.8
"""Least share of the reference region that must lie in the PET's field of view."""


@dataclass(frozen=True)
class MovingPet:
    """Frames of one scan with what brings each to the scan's reference position; data stay as acquired."""

    frames: tuple[nib.Nifti1Image, ...]
    weights: tuple[float, ...]
    motion: tuple[Path | None, ...]
    """Rigid transform of each frame to the reference frame; None for that frame itself."""

    def onto(self, shape: tuple[int, int, int], affine: Affine, steps: Sequence[Step] = ()) -> Volume:
        """The weighted mean of the frames on a grid, each interpolated once through motion and ``steps``."""
        total = np.zeros(shape, np.float32)
        for frame, weight, motion in zip(self.frames, self.weights, self.motion, strict=True):
            own = [] if motion is None else [Step(motion)]
            total += np.float32(weight) * apply(frame, shape, affine, [*own, *steps])
        return total


def load_frames(path: Path, index: Sequence[int]) -> tuple[nib.Nifti1Image, ...]:
    """Load some frames of a 3-D or 4-D PET as float32 in RAS+, reading no others.

    Raises VolumeError, naming the file, where it is unreadable, too large, flat or not finite.
    """
    image = check_header(path)
    frames = []
    for i in index:
        try:
            data = np.asarray(
                image.dataobj[..., i] if len(image.shape) == 4 else image.dataobj, dtype=np.float32
            )
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise VolumeError(
                f"{path} cannot be read to its end ({error}); copy or convert it again."
            ) from error
        if not np.isfinite(data).all():
            raise VolumeError(
                f"{path}, frame {i}: NaN or infinite voxels; replace them (for example by 0) first."
            )
        if data.max() <= 0:
            raise VolumeError(
                f"{path}, frame {i}: no voxel is above 0; leave this scan out or convert it again."
            )
        frames.append(nib.as_closest_canonical(nib.Nifti1Image(data, image.affine)))
    return tuple(frames)


def smooth_to(
    frames: tuple[nib.Nifti1Image, ...], scanner_mm: float, target_mm: float
) -> tuple[nib.Nifti1Image, ...]:
    """Bring a scanner's resolution (FWHM, mm) to a common one: FWHM^2 = target^2 - scanner^2.

    Raises SubjectError where the scanner already is coarser than the target.
    """
    if scanner_mm > target_mm:
        raise SubjectError(
            f"The scanner's resolution of {scanner_mm} mm is coarser than --fwhm {target_mm}; "
            f"give at least {scanner_mm}."
        )
    fwhm = np.full(3, np.sqrt(target_mm**2 - scanner_mm**2))
    return tuple(
        nib.Nifti1Image(
            smooth(np.asarray(f.dataobj), np.sqrt((f.affine[:3, :3] ** 2).sum(axis=0)), fwhm), f.affine
        )
        for f in frames
    )


def correct_motion(
    frames: tuple[nib.Nifti1Image, ...], weights: tuple[float, ...], folder: Path
) -> MovingPet:
    """Register every frame rigidly to the middle one; write the transforms into ``folder``."""
    if len(frames) == 1:
        return MovingPet(frames, weights, (None,))
    folder.mkdir(parents=True, exist_ok=True)
    coarse = [_coarse(frame) for frame in frames]
    middle = len(frames) // 2
    motion = tuple(
        None if i == middle else register_motion(coarse[middle], frame, folder / f"frame-{i}.mat")
        for i, frame in enumerate(coarse)
    )
    return MovingPet(frames, weights, motion)


def _coarse(frame: nib.Nifti1Image) -> nib.Nifti1Image:
    small = isotropic(frame, _MOTION_MM)
    data = smooth(np.asarray(small.dataobj), np.full(3, _MOTION_MM), np.full(3, _MOTION_MM))
    # One scale for all frames: activity decays from frame to frame.
    return nib.Nifti1Image(data / np.percentile(data, 99.5), small.affine)


def register_to_t1w(pet: MovingPet, t1w: nib.Nifti1Image, region: nib.Nifti1Image, out: Path) -> Path:
    """Register the motion-corrected mean rigidly to the T1w, judged within ``region``; write the transform."""
    first = isotropic(pet.frames[0], _REGISTER_MM)
    mean = pet.onto(first.shape, first.affine)
    # A few hot voxels (sinuses, injection line) would take all bins of the histogram.
    mean = np.clip(mean, 0, np.percentile(mean, 99.8))
    return register_linear(t1w, nib.Nifti1Image(mean, first.affine), out, "Rigid", region)


def template_reference(tracer: TracerSpec, atlas: Atlas, grid: Grid) -> Mask:
    """The tracer's reference region in template space."""
    mask = atlas.mask(tracer.reference_region.labels)
    top = tracer.reference_region.z_max_mm
    if top is None:
        return mask
    heights = grid.affine[2, 2] * np.arange(grid.shape[2]) + grid.affine[2, 3]
    return np.asarray(mask & (heights < top))


def reference_region(
    tracer: TracerSpec, shape: tuple[int, int, int], affine: Affine, to_subject: Path
) -> Mask:
    """The tracer's reference region on a grid in T1w space, brought there from the template's atlas."""
    grid = GRIDS["1mm"]
    mask = template_reference(tracer, load_atlas(grid), grid)
    template = nib.Nifti1Image(mask.astype(np.float32), grid.affine)
    return np.asarray(apply(template, shape, affine, [Step(to_subject)], order=0) > 0.5)


def reference_mean(pet: Volume, region: Mask, tracer: TracerSpec, name: str) -> float:
    """Mean uptake in the reference region, in the image's unit.

    Raises SubjectError, naming ``name``, where the region is empty, cut off or without uptake.
    """
    values: Any = pet[region]
    where = tracer.reference_region.name
    if values.size == 0:
        raise SubjectError(
            f"{name}: no voxel of the reference region ({where}) lies in the T1w's field of view."
        )
    seen = float((values != 0).mean())
    if seen < _LEAST_SEEN:
        raise SubjectError(
            f"{name}: only {seen:.0%} of the reference region ({where}) lies in the PET's field of view; leave this "
            "scan out, or check the registration's picture."
        )
    mean = float(values.mean())
    if mean <= 0:
        raise SubjectError(
            f"{name}: mean uptake in the reference region ({where}) is {mean:.3g}; check the image."
        )
    return mean
