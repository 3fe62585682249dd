"""Files that are broken in every way that a disk, a download or another program breaks them: one sentence each."""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from relapet.data.volumes import load_pet
from relapet.errors import VolumeError
from relapet.imaging.bids import Visit
from relapet.imaging.frames import load_frames
from relapet.imaging.grid import GRIDS
from relapet.imaging.measured import load_measured
from relapet.imaging.nifti import load_volume, open_image, read_voxels, save_frames, save_volume
from relapet.tracers import get_tracer

SHAPE, AFFINE = (7, 8, 9), np.diag([2.0, 3.0, 4.0, 1.0])
DATA = np.random.default_rng(0).normal(1, 0.3, SHAPE).astype(np.float32)
FIELDS = {"dim": 40, "datatype": 70, "bitpix": 72, "vox_offset": 108, "scl_slope": 112, "scl_inter": 116}
FIELDS |= {"qform_code": 252, "sform_code": 254, "quatern_b": 256, "qoffset_x": 268, "srow_x": 280}
"""Offsets of fields in a NIfTI-1 header of 348 bytes."""


def good(folder: Path, name: str = "scan.nii") -> Path:
    path = folder / name
    save_volume(path, DATA, AFFINE)
    return path


def header(**fields: tuple[str, object]) -> Callable[[Path], Path]:
    """A good file with some fields of its header overwritten: name to (struct format, value)."""

    def broken(folder: Path) -> Path:
        path = good(folder)
        content = bytearray(path.read_bytes())
        for name, (kind, value) in fields.items():
            values = value if isinstance(value, tuple) else (value,)
            struct.pack_into("<" + kind, content, FIELDS[name], *values)
        path.write_bytes(content)
        return path

    return broken


def of_type(dtype: object) -> Callable[[Path], Path]:
    def broken(folder: Path) -> Path:
        path = folder / "scan.nii"
        nib.save(nib.Nifti1Image(np.zeros(SHAPE, dtype), AFFINE), path)
        return path

    return broken


def squeezed(change: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    """A gzip file whose bytes were changed."""

    def broken(folder: Path) -> Path:
        path = good(folder, "scan.nii.gz")
        path.write_bytes(change(path.read_bytes()))
        return path

    return broken


def flipped(at: float) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        place = int(at * len(content))
        return content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]

    return change


def dangling(folder: Path) -> Path:
    (folder / "scan.nii.gz").symlink_to(folder / "annex" / "object")
    return folder / "scan.nii.gz"


def unreadable(folder: Path) -> Path:
    path = good(folder)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read every file")
    return path


def not_utf8(folder: Path) -> Path:
    path = Path(os.fsdecode(os.fsencode(folder) + b"/scan\xff.nii"))
    path.write_bytes(b"no image at all")
    return path


def claims(shape: tuple[int, ...], name: str) -> Callable[[Path], Path]:
    """A file that claims far more voxels than it holds."""

    def broken(folder: Path) -> Path:
        claimed = nib.Nifti1Header()
        claimed.set_data_shape(shape)
        claimed.set_data_dtype(np.float64)
        claimed.set_sform(AFFINE, code=1)
        content = claimed.binaryblock + bytes(4) + bytes(1000)
        path = folder / name
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return broken


def pair_with_negative_offset(folder: Path) -> Path:
    nib.save(nib.Nifti1Pair(DATA, AFFINE), folder / "scan.img")
    content = bytearray((folder / "scan.hdr").read_bytes())
    struct.pack_into("<f", content, FIELDS["vox_offset"], -16.0)
    (folder / "scan.hdr").write_bytes(content)
    return folder / "scan.img"


NAN, INF = float("nan"), float("inf")
RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
BROKEN: dict[str, tuple[Callable[[Path], Path], str]] = {
    "unknown datatype": (header(datatype=("h", 77)), "cannot be read"),
    "RGB": (of_type(RGB), "no real numbers"),
    "complex": (of_type(np.complex64), "no real numbers"),
    "long double": (header(datatype=("h", 1536), bitpix=("h", 128)), "no real numbers|cannot be read"),
    "NaN in sform": (header(srow_x=("f", NAN)), "affine"),
    "infinity in sform": (header(srow_x=("f", INF)), "affine"),
    "NaN in qform alone": (header(sform_code=("h", 0), qoffset_x=("f", NAN)), "affine"),
    "NaN in qform beside a good sform": (header(qoffset_x=("f", NAN)), "qform"),
    "bad quaternion beside a good sform": (header(quatern_b=("fff", (3.0, 3.0, 3.0))), "quaternion"),
    "singular": (header(srow_x=("f", 0.0)), "singular"),
    "axes in one line": (header(srow_x=("f" * 12, (1e20, 1e20, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0))), "singular"),
    "voxels beyond any scanner": (header(scl_slope=("f", 1e36)), "which no scanner gives"),
    "NaN slope": (header(scl_slope=("f", NAN)), "scl_slope"),
    "infinite slope": (header(scl_slope=("f", INF)), "scl_slope|cannot be read"),
    "NaN intercept": (header(scl_inter=("f", NAN)), "scl_inter|cannot be read"),
    "infinite intercept": (header(scl_inter=("f", -INF)), "scl_inter|cannot be read"),
    "negative offset": (header(vox_offset=("f", -352.0)), "vox_offset|cannot be read"),
    "negative offset of a pair": (pair_with_negative_offset, "vox_offset"),
    "NaN offset": (header(vox_offset=("f", NAN)), "vox_offset|cannot be read"),
    "no voxels": (header(dim=("hhhh", (3, 7, 0, 9))), "no voxels"),
    "negative size": (header(dim=("hhhh", (3, 7, -8, 9))), "no voxels|cannot be read"),
    "two dimensions": (header(dim=("h", 2)), "2 dimensions"),
    "several frames": (header(dim=("hhhhh", (4, 7, 8, 3, 3))), "4 dimensions"),
    "huge volume": (claims((3000, 3000, 3000), "scan.nii"), "more than any head"),
    "huge series": (claims((700, 700, 700, 30000), "scan.nii"), "more than the file can hold"),
    "huge in a small gzip": (claims((700, 700, 700), "scan.nii.gz"), "more than the file can hold"),
    "more than it holds": (claims((70, 70, 70), "scan.nii"), "truncated"),
    "truncated gzip": (squeezed(lambda content: content[: len(content) // 2]), "truncated"),
    "gzip without its end": (squeezed(lambda content: content[:-3]), "truncated"),
    "wrong checksum": (squeezed(lambda content: content[:-8] + b"abcd" + content[-4:]), "damaged"),
    "empty": (squeezed(lambda content: b""), "cannot be read"),
    "no image": (squeezed(lambda content: b"<html>not found</html>"), "cannot be read"),
    "dangling link": (dangling, "link"),
    "missing": (lambda folder: folder / "scan.nii", "does not exist"),
    "folder": (lambda folder: folder, "not a file"),
    "unreadable": (unreadable, "permissions"),
    "name that is no UTF-8": (not_utf8, "cannot be read"),
} | {f"bit flip at {at:.0%}": (squeezed(flipped(at)), "cannot be read") for at in np.linspace(0.02, 0.98, 13)}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_named_in_one_sentence(case: str, tmp_path: Path) -> None:
    make, words = BROKEN[case]
    path = make(tmp_path)
    with pytest.raises(VolumeError, match=words) as error:
        load_volume(path)
    said = str(error.value)
    assert said.encode().decode() == said  # a log takes it
    assert said.startswith(str(path).encode(errors="surrogateescape").decode(errors="replace"))
    assert said.endswith(".")


def test_a_disk_that_forbids_reading_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    path = good(tmp_path)
    monkeypatch.setattr(nib, "load", forbidden)
    with pytest.raises(VolumeError, match=r"scan\.nii may not be read; change its permissions"):
        load_volume(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    data = DATA.copy()
    data[1, 2, 3] = value
    save_volume(tmp_path / "scan.nii.gz", data, AFFINE)
    with pytest.raises(VolumeError, match=r"scan\.nii\.gz has 1 NaN or infinite"):
        load_volume(tmp_path / "scan.nii.gz")


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", os.fsdecode(b"scan\xff.nii.gz")])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_a_good_file_comes_back(name: str, dtype: type, tmp_path: Path) -> None:
    data = (100 * DATA).astype(dtype)
    nib.save(nib.Nifti1Image(data[..., None], AFFINE), tmp_path / name)
    image = load_volume(tmp_path / name)
    np.testing.assert_array_equal(np.asarray(image.dataobj), data.astype(np.float32))
    np.testing.assert_array_equal(image.affine, AFFINE)


@pytest.mark.parametrize("kind", [nib.Nifti2Image, nib.Nifti1Pair, nib.MGHImage])
def test_other_formats_of_nibabel_are_read(kind: type, tmp_path: Path) -> None:
    path = tmp_path / {nib.Nifti1Pair: "scan.img.gz", nib.MGHImage: "scan.mgz"}.get(kind, "scan.nii.gz")
    nib.save(kind(DATA, AFFINE), path)
    np.testing.assert_array_equal(np.asarray(load_volume(path).dataobj), DATA)


def test_scaled_integers_and_another_orientation(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.arange(504, dtype=np.int16).reshape(SHAPE), np.diag([-2.0, 3, 4, 1]))
    image.header.set_slope_inter(0.5, 10)
    nib.save(image, tmp_path / "scan.nii.gz")
    loaded = load_volume(tmp_path / "scan.nii.gz")
    stored = nib.load(tmp_path / "scan.nii.gz").get_fdata()
    assert nib.aff2axcodes(loaded.affine) == ("R", "A", "S")
    np.testing.assert_allclose(np.asarray(loaded.dataobj), stored[::-1], rtol=1e-6)


def test_one_frame_of_several_is_read(tmp_path: Path) -> None:
    frames = np.stack([DATA, 2 * DATA, 3 * DATA], axis=-1)
    for name in ("scan.nii", "scan.nii.gz"):
        save_frames(tmp_path / name, frames, AFFINE, 60.0)
        image = open_image(tmp_path / name)
        np.testing.assert_array_equal(read_voxels(tmp_path / name, image, 1), 2 * DATA)
    content = (tmp_path / "scan.nii.gz").read_bytes()
    (tmp_path / "scan.nii.gz").write_bytes(content[:-8] + b"abcd" + content[-4:])
    with pytest.raises(VolumeError, match="damaged"):
        read_voxels(tmp_path / "scan.nii.gz", open_image(tmp_path / "scan.nii.gz"), 0)


@pytest.mark.parametrize("level", [0.0, 1.5])
def test_constant_pet_is_no_measurement(level: float, tmp_path: Path) -> None:
    grid, tau = GRIDS["4mm"], get_tracer("tau")
    path = Visit("01").pet(tmp_path, tau)
    save_volume(path, np.full(grid.shape, level), grid.affine)
    for load in (lambda: load_measured(path, tau, grid), lambda: load_pet(path, tau, grid)):
        with pytest.raises(VolumeError, match=f"mimap.*holds {level:g} in every voxel"):
            load()
    with pytest.raises(VolumeError, match=r"mimap.*(above 0|every voxel)"):
        load_frames(path, (0,))
