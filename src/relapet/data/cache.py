"""Volumes read once and kept as memory-mapped float16: scaled MRI, and PET in SUVr."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from relapet.data.volumes import MriScaling, load_mri, load_pet
from relapet.errors import VolumeError
from relapet.files import atomic_path, sha256
from relapet.imaging.bids import VisitFiles, sidecar_path
from relapet.imaging.grid import Grid
from relapet.imaging.measured import is_model_ready
from relapet.tracers import TracerSpec
from relapet.types import Volume

_VERSION = "2"
Half = npt.NDArray[np.float16]


def is_whole(path: Path, grid: Grid) -> bool:
    """Whether a cached array ``(..., X, Y, Z)`` is there and can be used; one that is broken is to be made anew."""
    if not path.is_file():
        return False
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return False
    return bool(array.dtype == np.float16 and array.shape[-3:] == grid.shape and np.isfinite(array).all())


class Cache:
    """A folder of .npy files named by the checksum of what they were made from.

    float16 keeps 11 bits: SUVr of 2 to 0.001, far below PET noise. Arrays are memory-mapped, so thousands of
    subjects need disk, not memory.
    """

    def __init__(self, folder: Path, grid: Grid, mri_scaling: MriScaling = "robust") -> None:
        self.folder = Path(folder)
        self.grid = grid
        self.mri_scaling: MriScaling = mri_scaling
        self.checksums: dict[str, str] = {}
        """SHA-256 of every source file that was read."""
        self._paths: dict[str, Path] = {}

    def add(self, files: VisitFiles, tracers: Sequence[TracerSpec]) -> None:
        """Read one visit into the cache, or find it there; raises SubjectError for unusable files."""
        sources = [path for path in (files.t1w, files.flair, files.mask) if path is not None]
        mri = partial(load_mri, files, self.grid, self.mri_scaling)
        self._store(f"{files.visit.stem} condition", sources, mri)
        for tracer in tracers:
            path = files.pet.get(tracer.name)
            if path is not None:
                # How another pipeline's PET is read depends on what its sidecar says.
                sources = [path] if is_model_ready(path) else [path, sidecar_path(path)]
                self._store(
                    f"{files.visit.stem} {tracer.name}", sources, partial(load_pet, path, tracer, self.grid)
                )

    def mri(self, files: VisitFiles) -> Half:
        """Scaled T1w and FLAIR, ``(2, X, Y, Z)``."""
        return self._read(f"{files.visit.stem} condition")

    def pet(self, files: VisitFiles, tracer: TracerSpec) -> Half:
        """Measured SUVr, ``(X, Y, Z)``."""
        return self._read(f"{files.visit.stem} {tracer.name}")

    def _store(self, key: str, sources: Sequence[Path], load: Callable[[], Volume]) -> None:
        digests = []
        for path in sources:
            try:
                self.checksums[str(path)] = sha256(path)
            except OSError as error:
                raise VolumeError(f"{path} cannot be read ({error.strerror}); check it.") from error
            digests.append(f"{path.name} {self.checksums[str(path)]}")
        # The version stands for how volumes are scaled: raise it when `load_mri` changes.
        recipe = " ".join([_VERSION, self.grid.name, self.mri_scaling, key, *digests])
        target = self.folder / f"{hashlib.sha256(recipe.encode()).hexdigest()[:24]}.npy"
        if not is_whole(target, self.grid):
            volume = np.ascontiguousarray(load(), dtype=np.float16)
            with atomic_path(target) as temporary:
                np.save(temporary, volume)
        self._paths[key] = target

    def _read(self, key: str) -> Half:
        array: Half = np.load(self._paths[key], mmap_mode="r", allow_pickle=False)
        return array
