"""What a run is trained on: visits chosen, split by subject and read into the cache, and the manifest of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from relapet.data.cache import Cache
from relapet.data.data_config import DataConfig
from relapet.data.items import MeanPrior, TrainingItems
from relapet.data.split import Split, check_split, split_subjects
from relapet.data.visits import fill_cache, usable_visits
from relapet.data.volumes import derivative_grid
from relapet.environment import environment, git_revision, now
from relapet.errors import InputError, SubjectError
from relapet.imaging.bids import VisitFiles
from relapet.imaging.descriptions import is_simulated
from relapet.imaging.grid import SPACE, Grid, get_grid
from relapet.messages import Messages, counted
from relapet.model.interface import MethodConfig
from relapet.run_contents import RUN_FORMAT, Manifest, SettingChange, TracerRecord, tracer_slots
from relapet.runs import RunFolder
from relapet.tracers import TracerSpec, get_tracer
from relapet.training.priors import give_linear_prior
from relapet.training.train_config import TrainConfig
from relapet.types import Volume


class RunSettings(Protocol):
    """The part of a RunConfig that training reads."""

    @property
    def method(self) -> MethodConfig:
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

    training: TrainingItems
    validation: TrainingItems
    mean: dict[str, Volume]
    """Mean SUVr map of each tracer over the training participants."""
    grid: Grid
    manifest: Manifest


def prepare_material(
    settings: RunSettings, derivatives: Path, visits: list[VisitFiles], run: RunFolder, messages: Messages
) -> Material:
    """Choose the visits, split them by subject, read them into the cache; raises InputError where none is left."""
    data = settings.data
    tracers = sorted((get_tracer(name) for name in data.tracers), key=lambda tracer: tracer.index)
    usable = usable_visits(visits, data, messages.warn)
    grid = _first_grid(usable) if data.grid is None else get_grid(data.grid)
    for space in sorted({files.space for files in usable} - {SPACE}):
        messages.warn(
            f"{derivatives} holds MRI in {space}: resampled by affine to {SPACE}, which differs from it by some mm."
        )
    split = _split(usable, data)
    known = [files for files in usable if files.visit.subject not in split["test"]]
    cache = Cache(run.cache, grid, data.mri_scaling)
    good, left_out = _read(known, tracers, cache, messages)
    parts = {part: [f for f in good if f.visit.subject in split[part]] for part in ("train", "validation")}
    tracers = _scanned(tracers, parts["train"], settings.method.least_participants, derivatives, messages)
    training = TrainingItems(parts["train"], tracers, cache, data.pet_scaling)
    if data.pet_scaling == "minmax":
        # A volume's own range is unknown at synthesis: the mean one is the best guess of what 1 stands for.
        ranges = training.mean_range()
        tracers = [t.model_copy(update={"suvr_window": ranges[t.name]}) for t in tracers]
        training = TrainingItems(parts["train"], tracers, cache, data.pet_scaling)
    checksums = {_relative(path, derivatives): digest for path, digest in cache.checksums.items()}
    manifest = _manifest(settings, grid.name, tracers, split, checksums).model_copy(
        update={"trained_on": _trained_on(derivatives, good), "left_out": left_out}
    )
    validation = TrainingItems(parts["validation"], tracers, cache, data.pet_scaling)
    return Material(training, validation, training.mean_suvr(), grid, manifest)


def give_prior(material: Material, data: DataConfig, run: RunFolder, messages: Messages) -> None:
    """Have the items carry the prior that the settings ask for; raises InputError where it cannot be fitted."""
    if data.prior == "mean":
        material.training.prior = material.validation.prior = MeanPrior(material.mean)
    elif data.prior == "linear":
        give_linear_prior(material.training, material.validation, run, data, messages)


def _first_grid(usable: Sequence[VisitFiles]) -> Grid:
    """The grid of the first visit whose MRI can be read; raises InputError where none can."""
    fault = ""
    for files in usable:
        try:
            return derivative_grid(files)
        except SubjectError as error:
            fault = fault or str(error)
    raise InputError(f"No visit could be read for training; the first fault: {fault}")


def _trained_on(derivatives: Path, visits: Sequence[VisitFiles]) -> str | None:
    images = (path for files in visits for path in (files.t1w, *files.pet.values()) if path is not None)
    return "simulated" if is_simulated(derivatives, images) else None


def _split(usable: Sequence[VisitFiles], data: DataConfig) -> Split:
    subjects = [files.visit.subject for files in usable]
    split = split_subjects(subjects, data.validation_fraction, data.test_fraction, data.split_seed)
    check_split(split)
    return split


def _scanned(
    tracers: Sequence[TracerSpec],
    visits: Sequence[VisitFiles],
    least: int,
    derivatives: Path,
    messages: Messages,
) -> list[TracerSpec]:
    """The tracers that ``least`` training participants were scanned with; raises InputError where there is none."""
    people = {t.name: {files.visit.subject for files in visits if t.name in files.pet} for t in tracers}
    scanned = [tracer for tracer in tracers if len(people[tracer.name]) >= least]
    if not scanned and any(people.values()):
        raise InputError(
            f"{derivatives} leaves no tracer with {least} training participants after the split, which the method "
            "needs; add subjects."
        )
    if not scanned:
        raise InputError(f"{derivatives} leaves no training volume after the split; add subjects.")
    for tracer in tracers:
        if not people[tracer.name]:
            messages.warn(f"No training participant has {tracer.name}, so the model will not know it.")
        elif tracer not in scanned:
            messages.warn(
                f"Only {counted(len(people[tracer.name]), 'training participant')} has {tracer.name} and the method "
                f"needs {least}, so the model will not know it."
            )
    return scanned


def going_on(run: RunFolder, material: Material, changes: Sequence[SettingChange]) -> Material:
    """The same material for a run that goes on: its manifest tells the settings that were changed, then and now.

    Raises InputError where the run was begun with another method or another split: with another split, participants
    that were held out would be trained on.
    """
    if not run.manifest.is_file():
        return material
    begun, manifest = run.read_manifest(), material.manifest
    if begun.method != manifest.method:
        raise InputError(
            f"{run.path} was begun with the method {begun.method}, not {manifest.method}; resume with its own "
            "settings, or train into a new folder."
        )
    if begun.split != manifest.split:
        raise InputError(
            f"{run.path} was begun with other subjects or another split; restore the data set and data.* settings, "
            "or train into a new folder."
        )
    told = {"changes": (*begun.changes, *changes), "trained_on": begun.trained_on or manifest.trained_on}
    return replace(material, manifest=manifest.model_copy(update=told))


def _read(
    visits: list[VisitFiles], tracers: Sequence[TracerSpec], cache: Cache, messages: Messages
) -> tuple[list[VisitFiles], dict[str, str]]:
    """The visits that could be read, and why the others could not, by visit."""
    left_out: dict[str, str] = {}
    with messages.track("read volumes", len(visits)) as advance:
        count = 0

        def one_done(visit: str, problem: str | None) -> None:
            nonlocal count
            count += 1
            if problem:
                left_out[visit] = problem
                messages.warn(problem)
            advance(count, "")

        return fill_cache(visits, tracers, cache, one_done), left_out


def _relative(path: str, root: Path) -> str:
    return Path(path).relative_to(root).as_posix()


def _manifest(
    settings: RunSettings, grid: str, tracers: Sequence[TracerSpec], split: Split, checksums: dict[str, str]
) -> Manifest:
    data = settings.data
    return Manifest(
        run_format=RUN_FORMAT,
        created=now(),
        versions=environment(),
        git_revision=git_revision(),
        method=settings.method.name,
        space=SPACE,
        grid=grid,
        tracers={
            t.name: TracerRecord(label=t.label, index=t.index, suvr_window=t.suvr_window) for t in tracers
        },
        inputs=data.inputs,
        required_inputs=data.required_inputs,
        mri_scaling=data.mri_scaling,
        pet_scaling=data.pet_scaling,
        prior=data.prior,
        tracer_slots=tracer_slots(tracers),
        split={part: list(names) for part, names in split.items()},
        seeds={"train": settings.train.seed, "split": data.split_seed},
        checksums=checksums,
    )
