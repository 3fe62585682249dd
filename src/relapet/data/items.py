"""Training items: one visit's MRI, prior and PET in the numbers that a network sees, read from the cache."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np

from relapet.data.cache import Cache
from relapet.data.volumes import BACKGROUND, Window, own_range, suvr_to_model
from relapet.errors import VolumeError
from relapet.imaging.bids import VisitFiles
from relapet.tracers import TracerSpec
from relapet.types import Volume

PetScaling = Literal["suvr_window", "minmax"]


@dataclass(frozen=True)
class TrainingItem:
    """What one training volume is made of, in [-1, 1]: one visit with K tracers."""

    name: str
    """Visit and tracers, for messages."""
    mri: Volume
    """T1w and FLAIR, ``(2, X, Y, Z)``."""
    prior: Volume | None
    """What is expected of each PET before the model looks, ``(K, X, Y, Z)``; None without a prior."""
    prior_is_personal: bool
    """Whether the prior was made from this person's MRI, and so lies where their brain lies."""
    pet: Volume
    """``(K, X, Y, Z)``; background where the visit lacks the tracer."""
    present: tuple[bool, ...]
    """Whether the visit has each tracer."""
    tracers: tuple[TracerSpec, ...]
    """Their SUVr windows are what the model's output means."""
    windows: tuple[Window, ...]
    """What ``pet`` means, SUVr: each tracer's window, or the volume's own range."""
    voxel_mm: float
    """Voxel size of the grid, mm."""


class PriorMaps(Protocol):
    """What is expected of a visit's PET from other participants' data."""

    @property
    def personal(self) -> bool:
        """Whether it depends on the visit's MRI."""
        ...

    def __call__(self, files: VisitFiles, tracer: TracerSpec, withheld: int | None) -> Volume:
        """SUVr ``(X, Y, Z)``, where MRI channel ``withheld`` (0 T1w, 1 FLAIR) is not to be seen."""
        ...


@dataclass(frozen=True)
class MeanPrior:
    """The prior that knows nothing of the person: each tracer's mean over the training participants."""

    mean: dict[str, Volume]
    """SUVr by tracer name."""
    personal: ClassVar[bool] = False

    def __call__(self, files: VisitFiles, tracer: TracerSpec, withheld: int | None) -> Volume:
        """The mean map."""
        return self.mean[tracer.name]


class TrainingItems:
    """The visits of some participants as training items; a random-access sequence backed by the cache.

    One item is a visit with one tracer, or with all of them after `hold_together`. Participants that lack a
    tracer contribute those that they have. A visit that lacks T1w or FLAIR is used only where training withholds
    that modality at times (data.augment.drop_*), else it is left out.
    """

    def __init__(
        self,
        visits: Sequence[VisitFiles],
        tracers: Iterable[TracerSpec],
        cache: Cache,
        scaling: PetScaling = "suvr_window",
    ) -> None:
        self.cache = cache
        self.prior: PriorMaps | None = None
        self.scaling = scaling
        self.tracers = tuple(tracers)
        self.visits = [files for files in visits if any(t.name in files.pet for t in self.tracers)]
        self.scans = [(files, t) for files in visits for t in self.tracers if t.name in files.pet]
        """Every measured volume: its visit and tracer."""
        self.items: list[tuple[VisitFiles, tuple[TracerSpec, ...]]] = [
            (files, (tracer,)) for files, tracer in self.scans
        ]

    def hold_together(self) -> None:
        """From now on an item is a visit with all tracers, some of them missing perhaps."""
        self.items = [(files, self.tracers) for files in self.visits]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> TrainingItem:
        return self.item(index)

    def item(self, index: int, withheld: int | None = None) -> TrainingItem:
        """One item; its prior is that of a visit whose MRI channel ``withheld`` is absent."""
        return self._made(*self.items[index], withheld)

    def whole_visits(self) -> Iterator[TrainingItem]:
        """Every visit with all tracers at once, whatever an item is."""
        for files in self.visits:
            yield self._made(files, self.tracers, None)

    def _made(self, files: VisitFiles, tracers: tuple[TracerSpec, ...], withheld: int | None) -> TrainingItem:
        pets, windows, priors = [], [], []
        for tracer in tracers:
            pet, window = self._pet(files, tracer)
            pets.append(pet)
            windows.append(window)
            if self.prior is not None:
                priors.append(suvr_to_model(self.prior(files, tracer, withheld), tracer.suvr_window))
        return TrainingItem(
            name=_named(files, tracers),
            mri=self.cache.mri(files).astype(np.float32),
            prior=np.stack(priors) if priors else None,
            prior_is_personal=self.prior is not None and self.prior.personal,
            pet=np.stack(pets),
            present=tuple(tracer.name in files.pet for tracer in tracers),
            tracers=tracers,
            windows=tuple(windows),
            voxel_mm=self.cache.grid.voxel_size,
        )

    def _pet(self, files: VisitFiles, tracer: TracerSpec) -> tuple[Volume, Window]:
        if tracer.name not in files.pet:
            return np.full(self.cache.grid.shape, BACKGROUND, np.float32), tracer.suvr_window
        suvr = self.cache.pet(files, tracer).astype(np.float32)
        window = tracer.suvr_window if self.scaling == "suvr_window" else _own_range(suvr, files, tracer)
        return suvr_to_model(suvr, window), window

    def name(self, index: int) -> str:
        """Visit and tracers of an item, for messages."""
        return _named(*self.items[index])

    def same_tracer(self, index: int) -> list[int]:
        """The items that hold the tracer of this one (all, where items hold all tracers)."""
        wanted = self.items[index][1]
        return [i for i, (_, tracers) in enumerate(self.items) if tracers == wanted]

    def mean_range(self) -> dict[str, Window]:
        """Mean over all volumes of each tracer's least and greatest SUVr."""
        ranges: dict[str, list[Window]] = {}
        for files, tracer in self.scans:
            suvr = self.cache.pet(files, tracer).astype(np.float32)
            ranges.setdefault(tracer.name, []).append(_own_range(suvr, files, tracer))
        means = {name: np.mean(values, axis=0) for name, values in ranges.items()}
        return {name: (float(low), float(high)) for name, (low, high) in means.items()}

    def mean_suvr(self) -> dict[str, Volume]:
        """The mean SUVr map of each tracer over all scans: what a model that ignores the MRI would give."""
        sums: dict[str, tuple[Volume, int]] = {}
        for files, tracer in self.scans:
            suvr = self.cache.pet(files, tracer).astype(np.float32)
            total, count = sums.get(tracer.name, (np.zeros_like(suvr), 0))
            sums[tracer.name] = (total + suvr, count + 1)
        return {name: (total / count).astype(np.float32) for name, (total, count) in sums.items()}


def _named(files: VisitFiles, tracers: Iterable[TracerSpec]) -> str:
    there = [tracer.name for tracer in tracers if tracer.name in files.pet]
    return f"{files.visit.stem} {' '.join(there)}"


def _own_range(suvr: Volume, files: VisitFiles, tracer: TracerSpec) -> Window:
    try:
        return own_range(suvr)
    except ValueError as error:
        raise VolumeError(f"{files.pet[tracer.name]}: {error}; exclude it or make it anew.") from error
