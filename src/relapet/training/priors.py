"""The linear prior of a run: fitted once on its training participants, cross-fitted for them, kept in the run folder.

A model that is trained on what the prior leaves must see remainders as large as those of new people, so each training
visit gets the map of a fit that never saw its participant (see `relapet.prior.fit`). The maps are kept in the cache,
so that a resumed training neither fits nor predicts again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from relapet.data.cache import is_whole
from relapet.data.data_config import DataConfig
from relapet.data.items import TrainingItems
from relapet.data.volumes import MODALITIES, withhold
from relapet.files import atomic_path, sha256
from relapet.imaging.bids import VisitFiles
from relapet.imaging.grid import Grid
from relapet.messages import Messages
from relapet.prior.anatomy import Anatomy
from relapet.prior.fit import PriorFit, fit_prior
from relapet.prior.fitted import FittedPrior
from relapet.runs import RunFolder
from relapet.tracers import TracerSpec
from relapet.types import Volume


@dataclass(frozen=True)
class _Scans:
    """The training visits as `relapet.prior.samples.TrainingScans`."""

    items: TrainingItems

    def __len__(self) -> int:
        return len(self.items.visits)

    def subject(self, i: int) -> str:
        return self.items.visits[i].visit.subject

    def mri(self, i: int) -> Volume:
        return self.items.cache.mri(self.items.visits[i]).astype(np.float32)

    def pet(self, i: int) -> dict[str, Volume]:
        files = self.items.visits[i]
        return {
            tracer.name: self.items.cache.pet(files, tracer).astype(np.float32)
            for tracer in self.items.tracers
            if tracer.name in files.pet
        }


@dataclass(frozen=True)
class LinearPrior:
    """Maps of the linear prior by visit, read from the cache."""

    folder: Path
    prior_sha256: str
    """Of the fit that the maps belong to."""
    tracers: tuple[TracerSpec, ...]
    personal: ClassVar[bool] = True

    def __call__(self, files: VisitFiles, tracer: TracerSpec, withheld: int | None) -> Volume:
        """SUVr ``(X, Y, Z)``."""
        maps: npt.NDArray[np.float16] = np.load(self.path(files, withheld), mmap_mode="r", allow_pickle=False)
        index = [known.name for known in self.tracers].index(tracer.name)
        suvr: Volume = maps[index].astype(np.float32)
        return suvr

    def path(self, files: VisitFiles, withheld: int | None) -> Path:
        """Where the maps of a visit are, ``(K, X, Y, Z)`` in float16: SUVr to 0.001, as the measured PET."""
        recipe = f"{self.prior_sha256} {files.visit.stem} {withheld}"
        return self.folder / f"prior-{hashlib.sha256(recipe.encode()).hexdigest()[:24]}.npy"

    def keep(self, files: VisitFiles, withheld: int | None, maps: dict[str, Volume]) -> None:
        """Put the maps of a visit into the cache."""
        stacked = np.stack([maps[tracer.name] for tracer in self.tracers]).astype(np.float16)
        with atomic_path(self.path(files, withheld)) as temporary:
            np.save(temporary, stacked)


def give_linear_prior(
    training: TrainingItems, validation: TrainingItems, run: RunFolder, data: DataConfig, messages: Messages
) -> None:
    """Fit the linear prior, write it into the run folder, and have both parts' items carry its maps.

    Where the run folder holds a fit and all its maps already, these are used. Raises InputError as `fit_prior` does.
    """
    grid = training.cache.grid
    cases = _withheld(data)
    if run.prior.is_file():
        known = LinearPrior(run.cache, sha256(run.prior), training.tracers)
        visits = chain(training.visits, validation.visits)
        if all(is_whole(known.path(files, case), grid) for files in visits for case in cases):
            training.prior = validation.prior = known
            return
    fit = _fitted(training, grid, data, messages)
    run.write_prior(fit.prior.to_arrays())
    # What is kept is what synthesis will read: rounded as stored.
    stored = FittedPrior.from_arrays(run.read_prior())
    maps = LinearPrior(run.cache, sha256(run.prior), training.tracers)
    names = [tracer.name for tracer in training.tracers]
    with messages.track("apply the prior", len(training.visits) + len(validation.visits)) as advance:
        for i, files in enumerate(training.visits):
            for case in cases:
                mri = withhold(_Scans(training).mri(i), case)
                maps.keep(files, case, fit.without[fit.fold_of[i]].predict_all(mri, tuple(names)))
            advance(i + 1, files.visit.stem)
        for n, files in enumerate(validation.visits, len(training.visits) + 1):
            for case in cases:
                mri = withhold(validation.cache.mri(files).astype(np.float32), case)
                maps.keep(files, case, stored.predict_all(mri, tuple(names)))
            advance(n, files.visit.stem)
    training.prior = validation.prior = maps


def _fitted(training: TrainingItems, grid: Grid, data: DataConfig, messages: Messages) -> PriorFit:
    sets = [tuple(name for name in data.inputs if name != _name(case)) for case in _withheld(data)]
    inputs = [names for names in sets if names]
    with messages.track("fit the prior", 1.0) as advance:
        return fit_prior(
            _Scans(training),
            Anatomy.of_grid(grid),
            data.linear,
            inputs,
            on_progress=lambda done, of: advance(done / of, ""),
        )


def _withheld(data: DataConfig) -> Sequence[int | None]:
    """The MRI channels that training withholds at times (0 T1w, 1 FLAIR), after none."""
    drops = (data.augment.drop_t1w, data.augment.drop_flair)
    return [None, *(channel for channel, chance in enumerate(drops) if chance > 0)]


def _name(channel: int | None) -> str | None:
    return None if channel is None else MODALITIES[channel]
