"""The fitted prior as plain arrays, and back with every array checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from relapet.errors import InputError
from relapet.prior.across import Standard
from relapet.prior.anatomy import Anatomy, Lattice
from relapet.prior.contents import Arrays, Contents, GlobalFit, TracerFit
from relapet.prior.features import INPUT_SETS, Inputs, base_names, whole_length

FORMAT = 2
"""Version of the arrays' names and meanings."""
_MEAN, _BASE, _FIT, _STANDARD = "mean.", "base_mean.", "fit.", "standard."


def pack(prior: Contents) -> Arrays:
    """Arrays by name: ``mean.TRACER``, ``fit.T1w+FLAIR.TRACER.coefficients`` and so on."""
    arrays: Arrays = {
        "format": np.array([FORMAT], dtype=np.int32),
        "brain": prior.anatomy.brain.astype(np.uint8),
        "regions": prior.anatomy.regions.astype(np.int32),
        "voxel_mm": np.array([prior.anatomy.voxel_mm]),
        "stride": np.array([prior.lattice.stride], dtype=np.int32),
        "sizes": np.array(prior.sizes, dtype=np.int32),
    }
    arrays |= {_MEAN + tracer: volume for tracer, volume in prior.mean.items()}
    arrays |= {_BASE + name: volume for name, volume in prior.base_mean.items()}
    for inputs, standard in prior.standards.items():
        start = f"{_STANDARD}{'+'.join(inputs)}."
        arrays |= {start + name: getattr(standard, name) for name in ("centre", "scale")}
    for (inputs, tracer), fit in prior.fits.items():
        start = f"{_FIT}{'+'.join(inputs)}.{tracer}."
        arrays |= {start + name: getattr(fit, name) for name in ("shift", "coefficients", "reach")}
        if fit.across is not None:
            arrays |= {start + name: getattr(fit.across, name) for name in ("loadings", "components")}
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


class Reader:
    """Gives arrays by name, each checked for its type, shape and finiteness."""

    def __init__(self, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
        self.arrays = arrays

    def get(self, name: str, dtype: Any, *shape: int | None) -> Any:
        """The array of a type and shape (None: any length)."""
        array = self.arrays.get(name)
        if array is None:
            raise InputError(
                f"The stored prior has no array {name!r}; copy the run folder again or train again."
            )
        if dtype == np.float32 and array.dtype == np.float16:
            array = array.astype(np.float32)  # a shipped model is kept in half precision
        fits = len(array.shape) == len(shape) and all(
            want in (None, have) for want, have in zip(shape, array.shape, strict=True)
        )
        if array.dtype != dtype or not fits:
            wanted = "x".join("any" if n is None else str(n) for n in shape)
            raise InputError(
                f"The stored prior's {name} is {array.dtype} of shape {array.shape}, not {np.dtype(dtype)} of shape "
                f"{wanted}; copy the run folder again or train again."
            )
        if not np.isfinite(array).all():
            raise InputError(
                f"The stored prior's {name} is not finite; copy the run folder again or train again."
            )
        return array

    def place(self) -> tuple[Anatomy, Lattice]:
        """The anatomy and the lattice."""
        brain = self.get("brain", np.uint8, None, None, None) > 0
        regions = self.get("regions", np.int32, *brain.shape)
        voxel_mm = float(self.get("voxel_mm", np.float64, 1)[0])
        stride = int(self.get("stride", np.int32, 1)[0])
        if stride < 1 or voxel_mm <= 0 or not brain.any():
            raise InputError("The stored arrays have no usable brain, stride or voxel_mm; train again.")
        anatomy = Anatomy(brain, regions, voxel_mm)
        return anatomy, Lattice.with_stride(anatomy, stride)

    def after(self, start: str) -> list[str]:
        """What follows ``start`` in the names that begin with it."""
        return [name.removeprefix(start) for name in self.arrays if name.startswith(start)]


def unpack(arrays: Mapping[str, npt.NDArray[np.generic]]) -> Contents:
    """The prior of `pack`'s arrays; raises InputError naming the array that is missing or broken."""
    reader = Reader(arrays)
    version = int(reader.get("format", np.int32, 1)[0])
    if version != FORMAT:
        raise InputError(
            f"The stored prior is of format {version}, this relapet reads {FORMAT}; train again."
        )
    anatomy, lattice = reader.place()
    sizes = tuple(int(size) for size in reader.get("sizes", np.int32, None))
    if not sizes or min(sizes) < 1 or any(size % 2 == 0 for size in sizes):
        raise InputError("The stored prior's sizes are no odd numbers of voxels; train again.")
    volumes = {
        start: {
            name: reader.get(start + name, np.float32, *anatomy.brain.shape) for name in reader.after(start)
        }
        for start in (_MEAN, _BASE)
    }
    standards, fits = {}, {}
    for inputs in INPUT_SETS:
        key = "+".join(inputs)
        if reader.after(f"{_STANDARD}{key}."):
            standards[inputs] = _standard(reader, inputs, anatomy)
        for tracer in sorted({name.split(".")[0] for name in reader.after(f"{_FIT}{key}.")}):
            if tracer not in volumes[_MEAN] or any(name not in volumes[_BASE] for name in base_names(inputs)):
                raise InputError(
                    f"The stored prior lacks a mean that its fit of {tracer} needs; train again."
                )
            features = len(base_names(inputs)) * len(sizes)
            fits[inputs, tracer] = _fit(
                reader, f"{_FIT}{key}.{tracer}.", (features, lattice.voxels), standards.get(inputs)
            )
    return Contents(anatomy, lattice, sizes, volumes[_MEAN], volumes[_BASE], standards, fits)


def _standard(reader: Reader, inputs: Inputs, anatomy: Anatomy) -> Standard:
    start, length = f"{_STANDARD}{'+'.join(inputs)}.", whole_length(inputs, anatomy)
    return Standard(*(reader.get(start + name, np.float32, length) for name in ("centre", "scale")))


def _fit(reader: Reader, start: str, shape: tuple[int, int], standard: Standard | None) -> TracerFit:
    features, voxels = shape
    shift = reader.get(start + "shift", np.float32, voxels)
    coefficients = reader.get(start + "coefficients", np.float16, features, voxels)
    reach = reader.get(start + "reach", np.float16, voxels)
    if "components" not in reader.after(start):
        return TracerFit(shift, coefficients, reach, None)
    if standard is None:
        raise InputError(f"The stored prior lacks the standard that {start}components needs; train again.")
    loadings = reader.get(start + "loadings", np.float32, len(standard.centre), None)
    components = reader.get(start + "components", np.float16, loadings.shape[1], voxels)
    return TracerFit(shift, coefficients, reach, GlobalFit(loadings, components))
