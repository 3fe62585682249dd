"""Scans of a head looked at before any work: size, slices and the two orientations a header can state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from relapet.errors import VolumeError
from relapet.imaging.nifti import load_volume, open_image, printable, require_contrast
from relapet.imaging.resample import voxel_size

_MIN_SLICES = 16
_MAX_SLICE_MM = 8.0
_MIN_EXTENT_MM = 60.0
"""Least extent of a brain image along any axis, mm."""


def open_scan(path: Path) -> Any:
    """Open a 3-D or 4-D scan of a head without reading its voxels; raises VolumeError for what cannot be one.

    Refused besides what `open_image` refuses: 2-D slices and slabs, voxels or slices too thick, and a header
    whose sform and qform say different sides are left.
    """
    image, name = open_image(path), printable(path)
    shape = image.shape
    if len(shape) not in (3, 4):
        raise VolumeError(
            f"{name} has {len(shape)} dimensions {shape} where a volume is needed; convert it again."
        )
    spacing = voxel_size(image.affine)
    if min(shape[:3]) < _MIN_SLICES or spacing.max() > _MAX_SLICE_MM:
        raise VolumeError(
            f"{name} has {min(shape[:3])} slices of {spacing.max():.1f} mm, where at least {_MIN_SLICES} of at most "
            f"{_MAX_SLICE_MM:.0f} mm are needed; give a scan of the whole head, not single slices."
        )
    extent = np.array(shape[:3]) * spacing
    if extent.min() < _MIN_EXTENT_MM:
        raise VolumeError(
            f"{name} spans only {extent.min():.0f} mm; give a scan of the whole head, not a slab."
        )
    _check_sides(name, image.header)
    return image


def load_anatomical(path: Path) -> nib.Nifti1Image:
    """Load a checked T1w or FLAIR as one 3-D volume in RAS+; raises VolumeError also where all voxels are alike."""
    open_scan(path)
    image = load_volume(path)
    require_contrast(np.asarray(image.dataobj), path)
    return image


def _check_sides(name: str, header: Any) -> None:
    """Refuse a header whose sform and qform, both in use, disagree on left and right."""
    if not hasattr(header, "get_sform"):
        return
    sform, qform = header.get_sform(coded=True), header.get_qform(coded=True)
    if sform[1] > 0 and qform[1] > 0:
        sides = [np.sign(np.linalg.det(form[0][:3, :3])) for form in (sform, qform)]
        if sides[0] != sides[1]:
            raise VolumeError(
                f"{name}: the header's sform and qform disagree on left and right; find out which is "
                "right and set both."
            )
