"""Loading and saving NIfTI volumes without losing affine, orientation or unit."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import nibabel.filebasedimages
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from relapet.errors import VolumeError
from relapet.files import atomic_path
from relapet.imaging.grid import Grid
from relapet.types import Affine, Volume


def load_volume(path: Path) -> nib.Nifti1Image:
    """Load one finite 3-D volume as float32, reoriented to RAS+.

    Raises VolumeError, naming the file and the mend, for a missing, truncated or foreign file, for data
    that is not 3-D, and for NaN or infinite voxels.
    """
    path = Path(path)
    try:
        image: Any = nib.load(path)
        if len(image.shape) == 4 and image.shape[3] == 1:
            image = image.slicer[..., 0]
        if len(image.shape) != 3:
            raise VolumeError(
                f"{path} has {len(image.shape)} dimensions {tuple(image.shape)} where one 3-D volume is "
                "needed; extract or average the frames first."
            )
        data = np.asarray(image.dataobj, dtype=np.float32)
    except FileNotFoundError:
        raise VolumeError(f"{path} does not exist; check the path.") from None
    except (nib.filebasedimages.ImageFileError, OSError, EOFError, ValueError, zlib.error) as error:
        raise VolumeError(
            f"{path} cannot be read as NIfTI, it may be truncated ({error}); copy or convert it again."
        ) from error
    if not np.isfinite(data).all():
        count = int((~np.isfinite(data)).sum())
        raise VolumeError(
            f"{path} has {count} NaN or infinite voxels; replace them (for example by 0) first."
        )
    if abs(np.linalg.det(image.affine[:3, :3])) < 1e-6:
        raise VolumeError(f"{path} has a singular affine; repair its header (sform/qform).")
    return nib.as_closest_canonical(nib.Nifti1Image(data, image.affine))


def save_volume(
    path: Path,
    data: npt.NDArray[Any],
    affine: Affine,
    dtype: Any = np.float32,
    description: str = "",
    code: int = 4,
) -> None:
    """Write one volume atomically, in mm, with sform and qform both set and no intensity scaling.

    ``code`` is NIfTI's: 4 where the affine leads to the MNI template, 1 where it leads to the scanner.
    """
    image = nib.Nifti1Image(np.asarray(data, dtype=dtype), affine)
    image.set_sform(affine, code=code)
    image.set_qform(affine, code=code)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = description.encode()[:79]
    with atomic_path(Path(path)) as temporary:
        nib.save(image, temporary)


def save_frames(path: Path, data: npt.NDArray[Any], affine: Affine, seconds: float) -> None:
    """Write frames ``(X, Y, Z, N)`` of ``seconds`` each atomically, in scanner mm, as float32."""
    image = nib.Nifti1Image(np.asarray(data, dtype=np.float32), affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = seconds
    with atomic_path(Path(path)) as temporary:
        nib.save(image, temporary)


def resample_to_grid(image: nib.Nifti1Image, grid: Grid, order: int = 1) -> Volume:
    """Resample by the two affines alone: order 0 nearest neighbour, 1 linear; zero outside the image.

    When the target is coarser than the source, continuous data (order >= 1) is first smoothed with the
    Gaussian that matches the larger voxel, so that nothing aliases.
    """
    data = np.asarray(image.dataobj, dtype=np.float32)
    to_source = np.linalg.inv(image.affine) @ grid.affine
    if order > 0:
        source_size = np.sqrt((image.affine[:3, :3] ** 2).sum(axis=0))
        # FWHM of the added blur: what takes a source-voxel box to a target-voxel box.
        fwhm_mm = np.sqrt(np.maximum(grid.voxel_size**2 - source_size**2, 0.0))
        data = ndimage.gaussian_filter(data, fwhm_mm / source_size / 2.3548)
    return np.asarray(
        ndimage.affine_transform(data, to_source[:3, :3], to_source[:3, 3], grid.shape, order=order),
        dtype=np.float32,
    )
