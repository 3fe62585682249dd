"""Resampling by affines alone: the one place that interpolates an image linearly or by nearest neighbour."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from relapet.imaging.grid import Grid
from relapet.types import Affine, Volume

FWHM_PER_SD = 2.3548
"""Full width at half maximum of a Gaussian over its SD: 2 sqrt(2 ln 2)."""


def voxel_size(affine: Affine) -> npt.NDArray[np.float64]:
    """Length of a voxel along each axis of an image, mm, ``(3,)``."""
    return np.asarray(np.sqrt((affine[:3, :3] ** 2).sum(axis=0)))


def smooth(data: Volume, voxel_mm: npt.NDArray[np.float64], fwhm_mm: npt.NDArray[np.float64]) -> Volume:
    """Convolve with a Gaussian of the given FWHM per axis, mm."""
    if not (fwhm_mm > 0).any():
        return data
    return np.asarray(ndimage.gaussian_filter(data, fwhm_mm / voxel_mm / FWHM_PER_SD), dtype=np.float32)


def smooth_for(data: Volume, own: Affine, target: Affine) -> Volume:
    """Smooth data on the grid of ``own`` for a coarser grid, so that nothing aliases; else return it as it is.

    FWHM of the added blur: what takes a voxel of the source to one of the target, sqrt(target^2 - source^2).
    """
    source_mm = voxel_size(own)
    target_mm = voxel_size(target).mean()
    return smooth(data, source_mm, np.sqrt(np.maximum(target_mm**2 - source_mm**2, 0.0)))


def sample(
    data: npt.NDArray[Any], to_source: Affine, shape: tuple[int, ...], order: int = 1, mode: str = "constant"
) -> Volume:
    """Values of ``data`` where ``to_source`` ``(4, 4)`` leads each voxel of a grid of ``shape``, float32.

    ``order``: 0 nearest neighbour, 1 linear. ``mode``: ``constant`` is 0 outside, ``nearest`` the closest voxel.
    """
    moved = ndimage.affine_transform(data, to_source[:3, :3], to_source[:3, 3], shape, order=order, mode=mode)
    return np.asarray(moved, dtype=np.float32)


def resample(image: nib.Nifti1Image, shape: tuple[int, ...], affine: Affine, order: int = 1) -> Volume:
    """Resample by the two affines alone: order 0 nearest neighbour, 1 linear; zero outside the image.

    Continuous data (order 1) is smoothed first where the target is coarser than the source (`smooth_for`).
    """
    data = np.asarray(image.dataobj, dtype=np.float32)
    if order > 0:
        data = smooth_for(data, image.affine, affine)
    return sample(data, np.linalg.inv(image.affine) @ affine, shape, order)


def resample_to_grid(image: nib.Nifti1Image, grid: Grid, order: int = 1) -> Volume:
    """`resample` onto one of the grids in template space."""
    return resample(image, grid.shape, grid.affine, order)
