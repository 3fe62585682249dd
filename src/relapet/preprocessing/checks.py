"""Raw images looked at before any work: size, shape, slices and the two orientations a header can state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import nibabel.filebasedimages
import numpy as np

from relapet.errors import VolumeError
from relapet.imaging.nifti import load_volume

_LARGEST_VOXELS = 4e8
"""Most voxels of one volume: 1.6 GB as float32, a head at 0.35 mm."""
_FEWEST_SLICES = 16
_THICKEST_MM = 8.0
_LEAST_EXTENT_MM = 60.0
"""Least extent of a brain image along any axis, mm."""


def check_header(path: Path) -> Any:
    """Open an image without reading its voxels; raises VolumeError for what cannot be a brain volume.

    Refused: unreadable files, volumes too large for memory, 2-D slices and slabs, voxels or slices too thick, an
    affine that is singular, and a header whose sform and qform say different sides are left.
    """
    path = Path(path)
    if not path.is_file():
        raise VolumeError(f"{path} does not exist; check the path.")
    try:
        image: Any = nib.load(path)
    except (nib.filebasedimages.ImageFileError, OSError, EOFError, ValueError) as error:
        raise VolumeError(f"{path} cannot be read as NIfTI ({error}); copy or convert it again.") from error
    shape = image.shape
    if len(shape) not in (3, 4):
        raise VolumeError(
            f"{path} has {len(shape)} dimensions {shape} where a volume is needed; convert it again."
        )
    if np.prod(shape[:3], dtype=float) > _LARGEST_VOXELS:
        raise VolumeError(
            f"{path} has {shape[:3]} voxels, more than any head needs; resample it to about 1 mm first."
        )
    spacing = np.sqrt((image.affine[:3, :3] ** 2).sum(axis=0))
    if abs(np.linalg.det(image.affine[:3, :3])) < 1e-6:
        raise VolumeError(f"{path} has a singular affine; repair its header (sform/qform).")
    if min(shape[:3]) < _FEWEST_SLICES or spacing.max() > _THICKEST_MM:
        raise VolumeError(
            f"{path} has {min(shape[:3])} slices of {spacing.max():.1f} mm, where at least {_FEWEST_SLICES} of at most "
            f"{_THICKEST_MM:.0f} mm are needed; give a scan of the whole head, not single slices."
        )
    extent = np.array(shape[:3]) * spacing
    if extent.min() < _LEAST_EXTENT_MM:
        raise VolumeError(
            f"{path} spans only {extent.min():.0f} mm; give a scan of the whole head, not a slab."
        )
    _check_sides(path, image.header)
    return image


def load_anatomical(path: Path) -> nib.Nifti1Image:
    """Load a checked T1w or FLAIR as one 3-D volume in RAS+; raises VolumeError also where all voxels are alike."""
    check_header(path)
    image = load_volume(path)
    data = np.asarray(image.dataobj)
    if data.min() == data.max():
        raise VolumeError(f"{path} holds {data.max():g} in every voxel; convert or copy it again.")
    return image


def _check_sides(path: Path, header: Any) -> None:
    """Refuse a header whose sform and qform, both in use, disagree on left and right."""
    if not hasattr(header, "get_sform"):
        return
    sform, qform = header.get_sform(coded=True), header.get_qform(coded=True)
    if sform[1] > 0 and qform[1] > 0:
        sides = [np.sign(np.linalg.det(form[0][:3, :3])) for form in (sform, qform)]
        if sides[0] != sides[1]:
            raise VolumeError(
                f"{path}: the header's sform and qform disagree on left and right; find out which is "
                "right and set both."
            )
