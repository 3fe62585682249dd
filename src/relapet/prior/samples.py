"""The training subjects as the fit needs them: folds by participant, and each scan's numbers on the lattice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from relapet.errors import InputError
from relapet.prior.anatomy import Anatomy, Lattice
from relapet.prior.features import (
    INPUT_SETS,
    MODALITIES,
    Inputs,
    base_images,
    base_names,
    local_features,
    present_inputs,
    whole_features,
)
from relapet.types import Volume

Singles = npt.NDArray[np.float32]


class TrainingScans(Protocol):
    """The scans to fit to, all on one grid; read anew as often as they are needed."""

    def __len__(self) -> int:
        """Number of scans (visits)."""

    def subject(self, i: int) -> str:
        """Participant label of a scan: a participant's scans are in one fold."""

    def mri(self, i: int) -> Volume:
        """Scaled T1w and FLAIR ``(2, X, Y, Z)``, float32 in [-1, 1]; an absent one is -1 everywhere."""

    def pet(self, i: int) -> dict[str, Volume]:
        """SUVr ``(X, Y, Z)``, float32, of each tracer that the scan has."""


@dataclass(frozen=True)
class Geometry:
    """Where features are taken: the anatomy, the lattice, and the cubes' edges in voxels."""

    anatomy: Anatomy
    lattice: Lattice
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Sample:
    """One scan: local features ``(F, voxels)`` of the inputs that it has, and SUVr ``(voxels,)`` by tracer."""

    inputs: Inputs
    features: Singles
    pet: dict[str, Singles]

    def local(self, inputs: Inputs) -> Singles:
        """The features of some of its inputs."""
        bases = base_names(self.inputs)
        each = len(self.features) // len(bases)
        first = bases.index(base_names(inputs)[0])
        return self.features[first * each : (first + len(base_names(inputs))) * each]


class Samples:
    """Scans turned into numbers, kept in memory as far as ``cache_mb`` goes and computed again beyond it."""

    def __init__(self, scans: TrainingScans, geometry: Geometry, cache_mb: int) -> None:
        self.scans = scans
        self.geometry = geometry
        self._room = cache_mb * 2**20
        self._kept: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self.scans)

    def mri(self, i: int) -> Volume:
        """A scan's MRI; raises InputError where it is not of the grid or not finite."""
        mri = np.asarray(self.scans.mri(i), dtype=np.float32)
        self._check(i, "MRI", mri, (len(MODALITIES), *self.geometry.anatomy.brain.shape))
        return mri

    def pet(self, i: int) -> dict[str, Volume]:
        """A scan's PET; raises InputError where one is not of the grid or not finite."""
        volumes = {name: np.asarray(volume, dtype=np.float32) for name, volume in self.scans.pet(i).items()}
        for name, volume in volumes.items():
            self._check(i, name, volume, self.geometry.anatomy.brain.shape)
        return volumes

    def _check(self, i: int, what: str, volume: Volume, shape: tuple[int, ...]) -> None:
        if volume.shape != shape or not np.isfinite(volume).all():
            raise InputError(
                f"The {what} of subject {self.scans.subject(i)} has shape {volume.shape} or values that are not "
                f"finite; the prior needs {shape} and numbers: make it anew or exclude the subject."
            )

    def get(self, i: int) -> Sample:
        """A scan's numbers."""
        if i not in self._kept:
            sample = self._make(i)
            size = sample.features.nbytes + sum(pet.nbytes for pet in sample.pet.values())
            if size > self._room:
                return sample
            self._room -= size
            self._kept[i] = sample
        return self._kept[i]

    def _make(self, i: int) -> Sample:
        mri, lattice = self.mri(i), self.geometry.lattice
        inputs = present_inputs(mri)
        features = local_features(base_images(mri, inputs), self.geometry.sizes, lattice)
        return Sample(
            inputs, features, {name: lattice.sample(volume) for name, volume in self.pet(i).items()}
        )

    def whole(self, i: int) -> dict[Inputs, Singles]:
        """The whole MRI's features for each set of inputs that the scan has."""
        mri = self.mri(i)
        present = set(present_inputs(mri))
        return {
            inputs: whole_features(mri, inputs, self.geometry.anatomy)
            for inputs in INPUT_SETS
            if present >= set(inputs)
        }


def deal_folds(
    participants: Sequence[str], tracers: Sequence[frozenset[str]], folds: int, seed: int
) -> npt.NDArray[np.intp]:
    """Fold of each scan: participants dealt at random, those with the same tracers one after another.

    So each fold gets its share of a tracer that few have. There are no more folds than participants.
    """
    has: dict[str, frozenset[str]] = {}
    for name, there in zip(participants, tracers, strict=True):
        has[name] = has.get(name, frozenset()) | there
    names = sorted(has)
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    order.sort(key=lambda name: sorted(has[name]))
    fold_of = {name: position % folds for position, name in enumerate(order)}
    return np.array([fold_of[name] for name in participants], dtype=np.intp)


def batches(members: Sequence[int], size: int) -> Iterator[list[int]]:
    """Consecutive parts of at most ``size``."""
    for start in range(0, len(members), size):
        yield list(members[start : start + size])
