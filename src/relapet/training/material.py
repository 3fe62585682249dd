"""What a run is trained on: visits chosen, split by subject and read into the cache, and the manifest of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel

from relapet.data.cache import Cache
from relapet.data.dataset import DataConfig, PairedVolumes, fill_cache, usable_visits
from relapet.data.split import Split, check_split, split_subjects
from relapet.data.volumes import derivative_grid, templates_of
from relapet.errors import InputError
from relapet.imaging.bids import VisitFiles
from relapet.imaging.grid import SPACE, Grid, get_grid
from relapet.messages import Messages
from relapet.runs import RUN_FORMAT, Manifest, RunFolder, TracerRecord, environment, git_revision, now
from relapet.tracers import TracerSpec, get_tracer
from relapet.training.config import TrainConfig
from relapet.types import Volume


class Settings(Protocol):
    """The part of a RunConfig that training reads."""

    @property
    def method(self) -> BaseModel:
        """The method's settings."""
        ...

    @property
    def data(self) -> DataConfig:
        """Volumes, split, augmentation."""
        ...

    @property
    def train(self) -> TrainConfig:
        """The loop."""
        ...

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """Every setting."""
        ...


@dataclass(frozen=True)
class Material:
    """What a run is trained on."""

    training: PairedVolumes
    validation: PairedVolumes
    mean: dict[str, Volume]
    """Mean SUVr map of each tracer over the training subjects."""
    grid: Grid
    manifest: Manifest


def prepare_material(
    settings: Settings, derivatives: Path, visits: list[VisitFiles], run: RunFolder, messages: Messages
) -> Material:
    """Choose the visits, split them by subject, read them into the cache; raises InputError where none is left."""
    data = settings.data
    tracers = sorted((get_tracer(name) for name in data.tracers), key=lambda tracer: tracer.index)
    usable = usable_visits(visits, data, messages.warn)
    grid = derivative_grid(usable[0]) if data.grid is None else get_grid(data.grid)
    for space in sorted({files.space for files in usable} - {SPACE}):
        messages.warn(
            f"{derivatives} holds MRI in {space}: resampled by affine to {SPACE}, which differs from it by some mm."
        )
    subjects = [files.visit.subject for files in usable]
    split = split_subjects(subjects, data.validation_fraction, data.test_fraction, data.split_seed)
    check_split(split)
    known = [files for files in usable if files.visit.subject not in split["test"]]
    cache = Cache(run.path / "cache", grid, data.mri_scaling)
    good = _read(known, tracers, cache, messages)
    parts = {part: [f for f in good if f.visit.subject in split[part]] for part in ("train", "validation")}
    training = PairedVolumes(parts["train"], tracers, cache, data.pet_scaling)
    if not len(training):
        raise InputError(f"{derivatives} leaves no training volume after the split; add subjects.")
    if data.pet_scaling == "minmax":
        # A volume's own range is unknown at synthesis: the mean one is the best guess of what 1 stands for.
        ranges = training.mean_range()
        tracers = [t.model_copy(update={"suvr_window": ranges[t.name]}) for t in tracers if t.name in ranges]
        training = PairedVolumes(parts["train"], tracers, cache, data.pet_scaling)
    checksums = {_relative(path, derivatives): digest for path, digest in cache.checksums.items()}
    manifest = _manifest(settings, grid.name, tracers, split, checksums)
    validation = PairedVolumes(parts["validation"], tracers, cache, data.pet_scaling)
    mean = training.mean_suvr()
    if data.template:
        training.templates = validation.templates = templates_of(
            mean, {t.name: t.suvr_window for t in tracers}
        )
    return Material(training, validation, mean, grid, manifest)


def check_same_split(run: RunFolder, manifest: Manifest) -> None:
    """Raise InputError where a run that is to go on was begun with another split: held-out subjects would leak."""
    if run.manifest.is_file() and run.read_manifest().split != manifest.split:
        raise InputError(
            f"{run.path} was begun with other subjects or another split; restore the data set and data.* settings, "
            "or train into a new folder."
        )


def _read(
    visits: list[VisitFiles], tracers: Sequence[TracerSpec], cache: Cache, messages: Messages
) -> list[VisitFiles]:
    with messages.track("read volumes", len(visits)) as advance:
        count = 0

        def one_done(problem: str | None) -> None:
            nonlocal count
            count += 1
            if problem:
                messages.warn(problem)
            advance(count, "")

        return fill_cache(visits, tracers, cache, one_done)


def _relative(path: str, root: Path) -> str:
    return Path(path).relative_to(root).as_posix()


def _manifest(
    settings: Settings, grid: str, tracers: Sequence[TracerSpec], split: Split, checksums: dict[str, str]
) -> Manifest:
    data = settings.data
    return Manifest(
        run_format=RUN_FORMAT,
        created=now(),
        versions=environment(),
        git_revision=git_revision(),
        method=settings.method.model_dump()["name"],
        space=SPACE,
        grid=grid,
        tracers={
            t.name: TracerRecord(label=t.label, index=t.index, suvr_window=t.suvr_window) for t in tracers
        },
        inputs=data.inputs,
        required_inputs=data.required_inputs,
        mri_scaling=data.mri_scaling,
        pet_scaling=data.pet_scaling,
        split={part: list(names) for part, names in split.items()},
        seeds={"train": settings.train.seed, "split": data.split_seed},
        checksums=checksums,
    )
