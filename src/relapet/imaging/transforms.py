"""Applying transform files by ANTs, with one interpolation; images are nibabel's, RAS+ mm, and ITK's LPS stays inside.

ANTsPy is an extra of the package: it is imported on first use, never with this module.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from relapet.errors import InputError, VolumeError
from relapet.imaging.derivatives import WayBack
from relapet.imaging.nifti import open_image
from relapet.imaging.resample import resample, smooth_for, voxel_size
from relapet.types import Affine, Volume

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SEED = 20260101
_MAX_SHEAR_MM = 0.5
"""Largest displacement, mm, that making the axes orthogonal may cause at the corner of an image."""


@dataclass(frozen=True)
class Step:
    """One transform file on the way of an image from its own space to the target's."""

    path: Path
    inverted: bool = False


@lru_cache(maxsize=1)
def load_ants() -> Any:
    """Import ANTsPy on first use; raises InputError where it is not installed."""
    os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")
    try:
        ants = import_module("ants")
    except ImportError as error:
        raise InputError(
            f"Preprocessing and native space need ANTsPy, which cannot be imported ({error}); run: pip install "
            "'relapet[preprocess]'."
        ) from error
    # Seeds ITK's sampling alone; numpy's global state is left as it is.
    ants.config.set_ants_deterministic(on=False, seed_value=_SEED)
    return ants


def to_ants(image: nib.Nifti1Image, name: str = "An image") -> Any:
    """Convert to an ANTs image; raises VolumeError, naming ``name``, where the axes are not orthogonal."""
    affine = _RAS_TO_LPS @ image.affine
    spacing = voxel_size(affine)
    left, _, right = np.linalg.svd(affine[:3, :3] / spacing)
    direction = left @ right
    corners = np.array(np.meshgrid(*[[0, n - 1] for n in image.shape[:3]])).reshape(3, -1)
    error = np.abs((affine[:3, :3] - direction * spacing) @ corners).max()
    if error > _MAX_SHEAR_MM:
        raise VolumeError(
            f"{name} has axes that are not at right angles (off by {error:.1f} mm at a corner); resample it to an "
            "orthogonal grid, or repair its sform."
        )
    data = np.ascontiguousarray(np.asarray(image.dataobj, dtype=np.float32))
    return load_ants().from_numpy(
        data, origin=affine[:3, 3].tolist(), spacing=spacing.tolist(), direction=direction
    )


def apply(
    image: nib.Nifti1Image, shape: tuple[int, int, int], affine: Affine, steps: Sequence[Step], order: int = 1
) -> Volume:
    """Bring ``image`` through ``steps``, in their order, onto a grid, with one interpolation; 0 outside.

    ``order`` 0 is nearest neighbour, 1 linear, smoothed first for a coarser grid as in `resample`, which does the
    work where there is no step.
    """
    if not steps:
        return resample(image, shape, affine, order)
    data = np.asarray(image.dataobj, dtype=np.float32)
    if order > 0:
        data = smooth_for(data, image.affine, affine)
    grid = to_ants(nib.Nifti1Image(np.zeros(shape, np.float32), affine))
    moved = load_ants().apply_transforms(
        grid,
        to_ants(nib.Nifti1Image(data, image.affine)),
        [str(step.path) for step in reversed(steps)],
        interpolator="linear" if order > 0 else "nearestNeighbor",
        whichtoinvert=[step.inverted for step in reversed(steps)],
    )
    return np.asarray(moved.numpy(), dtype=np.float32)


def apply_like(
    target: nib.Nifti1Image, image: nib.Nifti1Image, steps: Sequence[Step], order: int = 1
) -> nib.Nifti1Image:
    """Bring ``image`` through ``steps`` onto the grid of ``target``."""
    return nib.Nifti1Image(apply(image, target.shape, target.affine, steps, order), target.affine)


def bring_back(image: nib.Nifti1Image, back: WayBack, order: int = 1) -> nib.Nifti1Image:
    """Bring an image in the MNI space that ``back`` leads from onto the T1w's own grid, interpolated once."""
    return apply_like(open_image(back.t1w), image, [Step(back.transform)], order)
