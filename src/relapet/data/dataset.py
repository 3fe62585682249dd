"""Paired training volumes: from a model-ready derivative to items, read from a memory-mapped cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from relapet.data import augment
from relapet.data.augment import AugmentConfig
from relapet.data.cache import Cache
from relapet.data.volumes import MriScaling, Window, own_range, suvr_to_model
from relapet.errors import InputError, SubjectError, VolumeError
from relapet.imaging.bids import VisitFiles
from relapet.tracers import TracerSpec, get_tracer
from relapet.types import Volume

Modality = Literal["T1w", "FLAIR"]
PetScaling = Literal["suvr_window", "minmax"]


class DataConfig(BaseModel):
    """Which volumes are trained on, and how they are split and varied."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tracers: tuple[str, ...] = Field(("pbr28", "pib", "tau"), min_length=1, description="tracers to learn")
    inputs: tuple[Modality, ...] = Field(
        ("T1w", "FLAIR"), min_length=1, description="MRI that the model sees; one left out is background"
    )
    grid: Literal["1mm", "2.5mm", "3mm", "4mm"] | None = Field(
        None,
        description="voxel grid; needed for derivatives of other pipelines, else that of the derivatives",
    )
    pet_scaling: PetScaling = Field(
        "suvr_window",
        description="suvr_window: each tracer's fixed window; minmax: each volume's own range, which loses SUVr",
    )
    mri_scaling: MriScaling = Field(
        "robust", description="robust: by the brain's inner percentiles; minmax: by each volume's own range"
    )
    validation_fraction: float = Field(0.1, ge=0, lt=1, description="share of subjects for validation")
    test_fraction: float = Field(0.2, ge=0, lt=1, description="share of subjects held out, never trained on")
    template: bool = Field(
        False, description="the tracer's mean over training subjects is a third condition channel"
    )
    split_seed: int = Field(0, ge=0, description="seed of the split by subject")
    augment: AugmentConfig = Field(AugmentConfig(), description="variation of training pairs")

    @model_validator(mode="after")
    def _withhold_only_one_of_two(self) -> Self:
        if len(set(self.inputs)) < 2 and self.augment.drop_t1w + self.augment.drop_flair > 0:
            raise ValueError("augment.drop_t1w and augment.drop_flair must be 0 with a single input")
        return self

    @property
    def required_inputs(self) -> tuple[Modality, ...]:
        """The MRI without which the model cannot be used: its inputs, but those that training withholds at times."""
        drop = {"T1w": self.augment.drop_t1w, "FLAIR": self.augment.drop_flair}
        return tuple(modality for modality in self.inputs if drop[modality] == 0)


@dataclass(frozen=True)
class Pair:
    """One training pair in [-1, 1]."""

    name: str
    """Visit and tracer, for messages."""
    condition: Volume
    """T1w and FLAIR, ``(2, X, Y, Z)``, and the template where there is one, ``(3, X, Y, Z)``."""
    pet: Volume
    """``(X, Y, Z)``."""
    tracer: TracerSpec
    """Its SUVr window is what the model's output means."""
    window: Window
    """What ``pet`` means, SUVr: the tracer's window, or the volume's own range."""
    voxel_mm: float
    """Voxel size of the grid, mm."""


class PairedVolumes:
    """Every (visit, tracer) pair of some subjects; a random-access sequence backed by the cache.

    Subjects that lack a tracer contribute the tracers that they have. A visit that lacks T1w or FLAIR is used
    only where training withholds that modality at times (data.augment.drop_*), else it is left out.
    """

    def __init__(
        self,
        visits: Sequence[VisitFiles],
        tracers: Iterable[TracerSpec],
        cache: Cache,
        scaling: PetScaling = "suvr_window",
    ) -> None:
        self.cache = cache
        self.templates: dict[str, Volume] = {}
        """Tracer name to its template in [-1, 1]; where set, every pair's third condition channel."""
        self.scaling = scaling
        self.items = [(files, tracer) for files in visits for tracer in tracers if tracer.name in files.pet]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Pair:
        files, tracer = self.items[index]
        suvr = self.cache.pet(files, tracer).astype(np.float32)
        condition = self.cache.condition(files).astype(np.float32)
        if self.templates:
            condition = np.concatenate([condition, self.templates[tracer.name][None]])
        window = tracer.suvr_window if self.scaling == "suvr_window" else _own_range(suvr, files, tracer)
        return Pair(
            self.name(index),
            condition,
            suvr_to_model(suvr, window),
            tracer,
            window,
            self.cache.grid.voxel_size,
        )

    def name(self, index: int) -> str:
        """Visit and tracer of a pair, for messages."""
        files, tracer = self.items[index]
        return f"{files.visit.stem} {tracer.name}"

    def mean_range(self) -> dict[str, Window]:
        """Mean over all volumes of each tracer's least and greatest SUVr."""
        ranges: dict[str, list[Window]] = {}
        for files, tracer in self.items:
            suvr = self.cache.pet(files, tracer).astype(np.float32)
            ranges.setdefault(tracer.name, []).append(_own_range(suvr, files, tracer))
        means = {name: np.mean(values, axis=0) for name, values in ranges.items()}
        return {name: (float(low), float(high)) for name, (low, high) in means.items()}

    def mean_suvr(self) -> dict[str, Volume]:
        """The mean SUVr map of each tracer over all pairs: what a model that ignores the MRI would give."""
        sums: dict[str, tuple[Volume, int]] = {}
        for files, tracer in self.items:
            suvr = self.cache.pet(files, tracer).astype(np.float32)
            total, count = sums.get(tracer.name, (np.zeros_like(suvr), 0))
            sums[tracer.name] = (total + suvr, count + 1)
        return {name: (total / count).astype(np.float32) for name, (total, count) in sums.items()}


def _own_range(suvr: Volume, files: VisitFiles, tracer: TracerSpec) -> Window:
    try:
        return own_range(suvr)
    except ValueError as error:
        raise VolumeError(f"{files.pet[tracer.name]}: {error}; exclude it or make it anew.") from error


def usable_visits(
    visits: Sequence[VisitFiles], config: DataConfig, on_skip: Callable[[str], None]
) -> list[VisitFiles]:
    """Visits that can be trained on, less the MRI that the model is not to see.

    Each visit left out is reported to ``on_skip`` with its reason. Raises InputError where none is left.
    """
    tracers = [get_tracer(name) for name in config.tracers]
    usable = []
    for found in visits:
        files = replace(
            found,
            t1w=found.t1w if "T1w" in config.inputs else None,
            flair=found.flair if "FLAIR" in config.inputs else None,
        )
        there = {"T1w": files.t1w, "FLAIR": files.flair}
        missing: list[str] = [m for m in config.required_inputs if there[m] is None]
        if not any(there.values()):
            missing = list(config.inputs)
        if files.mask is None:
            missing.append("brain mask")
        if not any(tracer.name in files.pet for tracer in tracers):
            missing.append("PET of " + ", ".join(tracer.name for tracer in tracers))
        if missing:
            on_skip(f"{files.visit.stem} is left out of training: it has no {' and no '.join(missing)}.")
        else:
            usable.append(files)
    if not usable:
        raise InputError(
            "No visit has the T1w, FLAIR, brain mask and PET that training needs; "
            "check the derivative folder and data.tracers."
        )
    return usable


def fill_cache(
    visits: Sequence[VisitFiles],
    tracers: Sequence[TracerSpec],
    cache: Cache,
    on_done: Callable[[str | None], None],
) -> list[VisitFiles]:
    """Fill the cache; returns the visits in it. One that cannot be read has its reason given to ``on_done``."""
    good = []
    for files in visits:
        try:
            cache.add(files, tracers)
        except SubjectError as error:
            on_done(str(error))
        else:
            good.append(files)
            on_done(None)
    if not good:
        raise InputError("No visit could be read for training; mend the files named above.")
    return good


def pick(step: int, slot: int, slots: int, length: int, seed: int) -> int:
    """Index of the pair that fills ``slot`` of ``slots`` at a training step.

    Pairs are shuffled anew each epoch by (seed, epoch), so that the order depends on nothing but the step: a
    resumed run and any number of processes see the same order, and no process ever runs dry.
    """
    epoch, position = divmod(step * slots + slot, length)
    return int(np.random.default_rng((seed, epoch)).permutation(length)[position])


def augmented(pair: Pair, config: AugmentConfig, rng: np.random.Generator) -> Pair:
    """The pair with one random variation applied."""
    condition, pet = augment.apply(pair.condition, pair.pet, augment.draw(config, rng), pair.voxel_mm)
    return replace(pair, condition=condition, pet=pet)
