"""Volumes small enough to lie within a page: NIfTI of 8 bits, 2 mm or coarser."""

from __future__ import annotations

import base64
import gzip

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from relapet.imaging.resample import voxel_size
from relapet.types import Affine, Mask, Volume

FINEST_MM = 1.9
"""Finer voxels are averaged two by two by two."""
LEVELS = 255
"""Steps of an 8-bit volume."""
_REACH_MM = 8.0
"""PET is kept this far from the brain."""


def near_brain(brain: Mask, affine: Affine) -> Mask:
    """The voxels ``(X, Y, Z)`` within 8 mm of the brain along every axis."""
    steps = max(1, round(_REACH_MM / float(voxel_size(affine).min())))
    return np.asarray(ndimage.maximum_filter(brain, 2 * steps + 1))


def small_nifti(data: Volume, affine: Affine, window: tuple[float, float]) -> str:
    """A volume ``(X, Y, Z)`` as gzipped NIfTI in base64: 8 bits over ``window``, values beyond it at its ends.

    The same volume gives the same text.
    """
    data, affine = _coarser(data, affine)
    low, high = window
    step = (high - low) / LEVELS
    levels = np.rint(np.clip((data - low) / step, 0, LEVELS)).astype(np.uint8)
    image = nib.Nifti1Image(levels, affine)
    image.header.set_slope_inter(step, low)
    image.set_sform(affine, code=4)
    image.set_qform(affine, code=4)
    image.header.set_xyzt_units("mm")
    return base64.b64encode(gzip.compress(image.to_bytes(), 9, mtime=0)).decode()


def _coarser(data: Volume, affine: Affine) -> tuple[npt.NDArray[np.float32], Affine]:
    """Averages over 2 x 2 x 2 voxels where these are finer than `FINEST_MM`."""
    if voxel_size(affine).min() >= FINEST_MM:
        return np.asarray(data, np.float32), affine
    even = tuple(size // 2 * 2 for size in data.shape)
    x, y, z = (size // 2 for size in even)
    blocks = data[: even[0], : even[1], : even[2]].reshape(x, 2, y, 2, z, 2)
    doubled = affine.copy()
    doubled[:3, :3] *= 2
    doubled[:3, 3] += affine[:3, :3] @ np.full(3, 0.5)
    return blocks.mean(axis=(1, 3, 5), dtype=np.float32), doubled
