"""PET from frames to SUVr: motion correction, duration-weighted mean, PET -> T1w, reference region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from relapet.errors import SubjectError
from relapet.imaging.grid import GRIDS
from relapet.imaging.reference_region import template_reference
from relapet.imaging.resample import smooth, voxel_size
from relapet.imaging.template import load_atlas
from relapet.imaging.transforms import Step, apply
from relapet.preprocessing.registration import isotropic, register_linear, register_motion
from relapet.tracers import TracerSpec
from relapet.types import Affine, Mask, Volume

_MOTION_MM = 4.0
"""Voxel size and smoothing at which frames are registered: PET resolves 6 to 8 mm."""
_REGISTER_MM = 2.0


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
        nib.Nifti1Image(smooth(np.asarray(f.dataobj), voxel_size(f.affine), fwhm), f.affine) for f in frames
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


def reference_region(
    tracer: TracerSpec, shape: tuple[int, int, int], affine: Affine, to_subject: Path
) -> Mask:
    """The tracer's reference region on a grid in T1w space, brought there from the template's atlas."""
    grid = GRIDS["1mm"]
    mask = template_reference(tracer, load_atlas(grid), grid)
    template = nib.Nifti1Image(mask.astype(np.float32), grid.affine)
    return np.asarray(apply(template, shape, affine, [Step(to_subject)], order=0) > 0.5)
