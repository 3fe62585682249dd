"""Damage to NIfTI files: header, gzip stream, voxels. Each takes the file and a generator and says what it did."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

Damage = Callable[[Path, np.random.Generator], str]

FIELDS = {
    "sizeof_hdr": (0, "i"), "dim0": (40, "h"), "dim1": (42, "h"), "dim2": (44, "h"), "dim3": (46, "h"),
    "dim4": (48, "h"), "dim5": (50, "h"), "datatype": (70, "h"), "bitpix": (72, "h"), "qfac": (76, "f"),
    "pixdim1": (80, "f"), "pixdim2": (84, "f"), "pixdim3": (88, "f"), "vox_offset": (108, "f"),
    "scl_slope": (112, "f"), "scl_inter": (116, "f"), "xyzt_units": (123, "B"), "qform_code": (252, "h"),
    "sform_code": (254, "h"), "quatern_b": (256, "f"), "quatern_c": (260, "f"), "quatern_d": (264, "f"),
    "qoffset_x": (268, "f"), "srow_x0": (280, "f"), "srow_y1": (300, "f"), "srow_z2": (320, "f"),
    "srow_x3": (292, "f"), "magic": (344, "i"),
}  # fmt: skip
"""Byte offset and kind of fields of the NIfTI-1 header."""
WHOLE = (0, -1, 1, 2, 3, 5, 7, 16, 32, 64, 128, 255, 256, 511, 1536, 1792, 2304, 32767, -32768)
REAL = (
    0.0,
    -1.0,
    1.0,
    -352.0,
    351.0,
    348.0,
    1e-30,
    1e30,
    3e38,
    float("nan"),
    float("inf"),
    float("-inf"),
    1e6,
)


LAYOUTS = (
    *("4d", "5d", "2d", "cropped", "complex", "rgb", "int64", "uint8", "big endian", "flipped", "nifti2"),
)


def pick(rng: np.random.Generator, choices: Any) -> Any:
    """One of some choices, as it is."""
    return choices[int(rng.integers(len(choices)))]


def content(path: Path) -> bytearray:
    """The bytes of an image, unzipped."""
    data = path.read_bytes()
    return bytearray(gzip.decompress(data) if path.suffix == ".gz" else data)


def write(path: Path, data: bytes) -> None:
    """Write the bytes of an image, zipped where its name says so."""
    path.write_bytes(gzip.compress(bytes(data), mtime=0) if path.suffix == ".gz" else bytes(data))


def header_field(path: Path, rng: np.random.Generator) -> str:
    name = pick(rng, list(FIELDS))
    offset, kind = FIELDS[name]
    value = (
        pick(rng, REAL) if kind == "f" else int(pick(rng, WHOLE)) % 256 if kind == "B" else pick(rng, WHOLE)
    )
    data = content(path)
    struct.pack_into(f"<{kind}", data, offset, value)
    write(path, data)
    return f"{name} = {value}"


def header_bytes(path: Path, rng: np.random.Generator) -> str:
    data = content(path)
    places = rng.integers(0, 348, 4)
    for place in places:
        data[place] = int(rng.integers(256))
    write(path, data)
    return f"header bytes {places.tolist()}"


def truncated(path: Path, rng: np.random.Generator) -> str:
    data = path.read_bytes()
    length = int(rng.integers(len(data)))
    path.write_bytes(data[:length])
    return f"first {length} bytes"


def content_truncated(path: Path, rng: np.random.Generator) -> str:
    data = content(path)
    length = int(rng.integers(len(data)))
    write(path, data[:length])
    return f"first {length} bytes, zipped anew"


def bit_flip(path: Path, rng: np.random.Generator) -> str:
    data = bytearray(path.read_bytes())
    places = rng.integers(0, len(data), 3)
    for place in places:
        data[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(bytes(data))
    return f"bits flipped at {places.tolist()}"


def something_else(path: Path, rng: np.random.Generator) -> str:
    kind = pick(rng, ("empty", "text", "html", "folder", "dangling link", "loop", "zeros"))
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind in ("dangling link", "loop"):
        path.symlink_to(path if kind == "loop" else path.with_name("gone"))
    else:
        texts = {"empty": b"", "text": b"to be done\n", "html": b"<html>404</html>", "zeros": bytes(4096)}
        path.write_bytes(texts[str(kind)])
    return str(kind)


def voxels(path: Path, rng: np.random.Generator) -> str:
    image: Any = nib.load(path, mmap=False)
    data = np.asarray(image.dataobj, dtype=np.float64)
    kind = pick(rng, ("nan", "inf", "zero", "constant", "negative", "huge", "tiny", "outlier", "noise"))
    if kind in ("nan", "inf"):
        data.flat[rng.integers(0, data.size, 5)] = np.nan if kind == "nan" else np.inf
    elif kind == "outlier":
        data.flat[rng.integers(data.size)] = 3e38
    elif kind == "noise":
        data = rng.normal(0, 1, data.shape)
    else:
        factor = {"zero": 0.0, "constant": 0.0, "negative": -1.0, "huge": 1e36, "tiny": 1e-42}[str(kind)]
        data = np.clip(data * factor + (7 if kind == "constant" else 0), -3e38, 3e38)
    nib.save(nib.Nifti1Image(data.astype(np.float32), image.affine), path)
    return f"voxels {kind}"


def layout(path: Path, rng: np.random.Generator) -> str:
    image: Any = nib.load(path, mmap=False)
    data = np.asarray(image.dataobj, dtype=np.float32)
    kind = pick(
        rng,
        ("4d", "5d", "2d", "cropped", "complex", "rgb", "int64", "uint8", "big endian", "flipped", "nifti2"),
    )
    affine = image.affine
    if kind == "rgb":
        rgb = np.zeros(data.shape, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
        nib.save(nib.Nifti1Image(rgb, affine), path)
        return "layout rgb"
    if kind == "big endian":
        header = nib.Nifti1Header(endianness=">")
        nib.save(nib.Nifti1Image(data, affine, header), path)
        return "layout big endian"
    if kind == "nifti2":
        nib.save(nib.Nifti2Image(data, affine), path)
        return "layout nifti2"
    shaped: dict[str, Any] = {
        "4d": np.stack([data, data], -1), "5d": data[..., None, None].repeat(2, -1), "2d": data[:, :, 3],
        "cropped": data[2:, :, 1:], "complex": data.astype(np.complex64), "uint8": data.astype(np.uint8),
        "int64": data.astype(np.int64), "flipped": data,
    }  # fmt: skip
    if kind == "flipped":
        affine = affine @ np.diag([-1.0, 1, 1, 1])
    options = {"dtype": np.int64} if kind == "int64" else {}
    nib.save(nib.Nifti1Image(shaped[str(kind)], affine, **options), path)
    return f"layout {kind}"


def stream(path: Path, rng: np.random.Generator) -> str:
    data = content(path)
    kind = pick(rng, ("not zipped", "zipped twice", "trailing", "two members", "wrong checksum"))
    zipped = gzip.compress(bytes(data), mtime=0)
    path.write_bytes(
        {
            "not zipped": bytes(data), "zipped twice": gzip.compress(zipped, mtime=0), "trailing": zipped + b"garbage",
            "two members": gzip.compress(bytes(data[:1000])) + gzip.compress(bytes(data[1000:])),
            "wrong checksum": zipped[:-8] + bytes(8),
        }[str(kind)]
    )  # fmt: skip
    return f"stream {kind}"


IMAGES: tuple[Damage, ...] = (
    *(header_field, header_field, header_field, header_bytes, truncated, content_truncated, bit_flip),
    *(something_else, voxels, layout, stream),
)
