"""Loading and saving NIfTI volumes without losing affine, orientation or unit.

`open_image` and `read_voxels` are the only readers of files that a user gives: whatever is wrong with one of them
becomes a VolumeError that names it.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from relapet.errors import VolumeError
from relapet.files import atomic_path
from relapet.types import Affine, Volume

_MAX_VOXELS = 4e8
"""Most voxels of one volume: 1.6 GB as float32, a head at 0.35 mm."""
_MAX_BYTES = 2**37
"""Most bytes of voxels that a header may claim, all frames together: 128 GiB."""
_MAX_GZIP_RATIO = 1100
"""Largest ratio of a gzip file's content to its size; deflate reaches 1032."""
_MOST_VALUE = 1e15
"""Largest value of a voxel: of any larger the sums of squares overflow in float32."""
_CHUNK = 2**20


def open_image(path: Path) -> Any:
    """Open an image of 3 or more dimensions and check its header, without reading its voxels.

    Raises VolumeError, naming the file and the mend, for a file that is missing, unreadable or not NIfTI, for voxels
    that are no real numbers, for a volume too large for memory, and for a header without a usable affine or scaling.
    """
    path = Path(path)
    _check_presence(path)
    try:
        image: Any = nib.load(path)
        _check_shape(path, image)
        _check_header(path, image)
    except VolumeError:
        raise
    except Exception as error:  # nibabel, zlib and gzip raise a dozen kinds for what a broken file may hold
        raise _unreadable(path, error) from error
    return image


def read_voxels(path: Path, image: Any, frame: int | None = None) -> Volume:
    """The voxels of an image of `open_image` as float32: all of them, or ``(X, Y, Z)`` of one frame.

    A gzip file is read to its end, where its checksum stands. Raises VolumeError for a truncated or damaged file
    and for NaN or infinite voxels.
    """
    path = Path(path)
    try:
        if path.suffix == ".gz" and isinstance(image, nib.Nifti1Image):
            if frame is None:
                image = type(image).from_bytes(_unzip(path, _claimed_bytes(image)))
            else:
                _unzip(path, 0)
        proxy = image.dataobj
        data = np.asarray(proxy if frame is None else proxy[..., frame], dtype=np.float32)
    except Exception as error:  # as in `open_image`
        raise _unreadable(path, error) from error
    if not np.isfinite(data).all():
        count = int((~np.isfinite(data)).sum())
        where = "" if frame is None else f", frame {frame},"
        raise VolumeError(
            f"{printable(path)}{where} has {count} NaN or infinite voxels; replace them (for example by 0) first."
        )
    most = float(np.abs(data).max(initial=0))
    if most > _MOST_VALUE:
        raise VolumeError(
            f"{printable(path)} holds values up to {most:.3g}, which no scanner gives; convert or copy it again."
        )
    return data


def load_volume(path: Path) -> nib.Nifti1Image:
    """Load one finite 3-D volume as float32, reoriented to RAS+.

    Raises VolumeError, naming the file and the mend, for all that `open_image` and `read_voxels` refuse, and for data
    that is not 3-D.
    """
    image = open_image(path)
    if len(image.shape) != 3 and not (len(image.shape) == 4 and image.shape[3] == 1):
        raise VolumeError(
            f"{printable(path)} has {len(image.shape)} dimensions {tuple(image.shape)} where one 3-D volume is "
            "needed; extract or average the frames first."
        )
    data = read_voxels(path, image).reshape(image.shape[:3])
    return nib.as_closest_canonical(nib.Nifti1Image(data, image.affine))


def require_contrast(data: Volume, path: Path) -> Volume:
    """``data`` as it is; raises VolumeError, naming the file, where all its voxels are alike."""
    if data.size == 0 or data.min() == data.max():
        value = f"{data.flat[0]:g}" if data.size else "nothing"
        raise VolumeError(f"{printable(path)} holds {value} in every voxel; convert or copy it again.")
    return data


def printable(path: Path) -> str:
    """A file's name for a message: bytes that are not UTF-8, which no terminal or log takes, are shown as U+FFFD."""
    return str(path).encode(errors="surrogateescape").decode(errors="replace")


def _unreadable(path: Path, error: Exception) -> VolumeError:
    name = printable(path)
    if isinstance(error, PermissionError):
        return VolumeError(f"{name} may not be read; change its permissions.")
    reason = f"{type(error).__name__}: {error}".encode(errors="replace").decode()
    return VolumeError(
        f"{name} cannot be read as NIfTI, it may be truncated or damaged ({reason}); copy or convert it again."
    )


def _check_presence(path: Path) -> None:
    if path.is_symlink() and not path.exists():
        raise VolumeError(
            f"{printable(path)} is a link to a file that is not there; fetch it or mend the link."
        )
    if not path.exists():
        raise VolumeError(f"{printable(path)} does not exist; check the path.")
    if not path.is_file():
        raise VolumeError(f"{printable(path)} is not a file; give a NIfTI image.")


def _check_shape(path: Path, image: Any) -> None:
    """Refuse voxels that are no real numbers, and more of them than memory or the file can hold."""
    name, shape, dtype = printable(path), tuple(image.shape), np.dtype(image.get_data_dtype())
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise VolumeError(
            f"{name} holds voxels of type {dtype}, which are no real numbers of up to 64 bits; convert it to float32."
        )
    if len(shape) < 3:
        raise VolumeError(
            f"{name} has {len(shape)} dimensions {shape} where a volume is needed; convert it again."
        )
    if min(shape) < 1:
        raise VolumeError(f"{name} has no voxels: its header says {shape}; convert it again.")
    if np.prod(shape[:3], dtype=float) > _MAX_VOXELS:
        raise VolumeError(
            f"{name} has {shape[:3]} voxels, more than any head needs; resample it to about 1 mm first."
        )
    claimed = np.prod(shape, dtype=float) * dtype.itemsize
    if claimed > _MAX_BYTES or (path.suffix == ".gz" and claimed > _MAX_GZIP_RATIO * path.stat().st_size):
        raise VolumeError(
            f"{name}: its header claims {claimed:.2g} bytes of voxels, more than the file can hold, so it may be "
            "truncated; copy or convert it again."
        )


def _check_header(path: Path, image: Any) -> None:
    """Refuse an affine or a scaling of the voxels that is not finite or not invertible."""
    name = printable(path)
    if not np.isfinite(image.affine).all():
        raise VolumeError(f"{name} has NaN or infinity in its affine; repair its header (sform/qform).")
    singular = abs(np.linalg.det(image.affine[:3, :3])) < 1e-6
    if singular or np.isnan(nib.orientations.io_orientation(image.affine)).any():
        raise VolumeError(f"{name} has a singular affine; repair its header (sform/qform).")
    if not isinstance(image.header, nib.Nifti1Header):
        return
    raw = _header_on_disk(image)
    numbers = {key: float(raw[key]) for key in ("scl_slope", "scl_inter", "vox_offset")}
    for key, number in numbers.items():
        if not np.isfinite(number):
            raise VolumeError(f"{name} has {number} as {key} in its header; repair it or convert it again.")
    if numbers["vox_offset"] < 0:
        raise VolumeError(
            f"{name} has {numbers['vox_offset']:g} as vox_offset in its header; repair it or convert it again."
        )
    if int(raw["qform_code"]) > 0:
        try:
            qform = raw.get_qform()
        except Exception as error:
            raise VolumeError(
                f"{name} has a broken quaternion in its header ({error}); repair its qform, or set qform_code to 0."
            ) from error
        if not np.isfinite(qform).all():
            raise VolumeError(f"{name} has NaN or infinity in its qform; repair it, or set qform_code to 0.")


def _header_on_disk(image: Any) -> Any:
    """The header as the file holds it: nibabel forgets scaling and offset in that of a loaded image."""
    holder = image.file_map.get("header") or image.file_map["image"]
    with holder.get_prepare_fileobj("rb") as stream:
        return type(image.header).from_fileobj(stream, check=False)


def _claimed_bytes(image: Any) -> int:
    """Bytes of a single file up to the last voxel."""
    size: int = np.dtype(image.get_data_dtype()).itemsize * int(np.prod(image.shape, dtype=np.int64))
    return int(image.dataobj.offset) + size


def _unzip(path: Path, count: int) -> bytes:
    """The first ``count`` bytes of a gzip file's content; the rest is read too, for the checksum that ends it."""
    with gzip.open(path) as stream:
        content = stream.read(count)
        while stream.read(_CHUNK):
            pass
    return content


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
