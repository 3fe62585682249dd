"""Training a run folder: from a model-ready derivative and settings to weights and a manifest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from pydantic import BaseModel

from relapet.cohort.bids import VisitFiles, index_derivative
from relapet.cohort.grid import SPACE
from relapet.data.cache import Cache
from relapet.data.dataset import DataConfig, Pair, PairedVolumes, fill_cache, usable_visits
from relapet.data.split import Split, check_split, split_subjects
from relapet.data.volumes import derivative_grid
from relapet.errors import InputError
from relapet.files import prepare_output_folder
from relapet.messages import Messages, Silent
from relapet.methods import build_method
from relapet.model.interface import Method
from relapet.runs import RUN_FORMAT, Manifest, RunFolder, TracerRecord, environment, git_revision, now
from relapet.tracers import TracerSpec, get_tracer
from relapet.training.checkpoint import checkpoints, load_latest_checkpoint, save_checkpoint
from relapet.training.config import TrainConfig
from relapet.training.engine import Hooks, Progress, Trainer
from relapet.training.log import Log

Validate = Callable[[Method, Sequence[Pair], torch.device], Mapping[str, float]]


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
    manifest: Manifest


@dataclass
class TrainOptions:
    """How `train_run` goes about it."""

    resume: bool = False
    validate: Validate | None = None
    validation_pairs: int = 6
    """Pairs that are scored at each validation, spread over the tracers."""
    messages: Messages = field(default_factory=Silent)


def train_run(settings: Settings, derivatives: Path, folder: Path, options: TrainOptions) -> RunFolder:
    """Train a method on a derivative and leave a run folder.

    Raises InputError for an unusable derivative or folder, TrainingError where training cannot go on.
    """
    run = RunFolder(Path(folder))
    if checkpoints(run.checkpoints) and not options.resume:
        raise InputError(
            f"{run.path} already holds a training; add --resume to go on, or choose another folder."
        )
    visits = index_derivative(derivatives)
    prepare_output_folder(run.path)
    material = prepare_material(settings, Path(derivatives), visits, run, options.messages)
    fabric = Fabric(accelerator="auto", devices=1, precision=settings.train.precision)
    # Weights are drawn from the global generator by the layers themselves: fork it, so that nothing leaks out.
    with torch.random.fork_rng():
        torch.manual_seed(settings.train.seed)
        method = build_method(settings.method.model_dump(mode="json"))
    trainer = Trainer(method, material.training, settings.data.augment, settings.train, fabric)
    log = Log(run.log)
    if options.resume:
        trainer.load_state_dict(load_latest_checkpoint(run.checkpoints, options.messages.warn))
        log.cut_after(trainer.step)
        options.messages.say(f"Going on after step {trainer.step}.")
    run.write_config(settings.model_dump(mode="json"))
    run.write_manifest(material.manifest)
    run.write_training_mean(material.training.mean_suvr())
    with options.messages.track("train", 1.0) as advance:
        trainer.run(_hooks(trainer, material, run, log, options, advance))
    return run


def prepare_material(
    settings: Settings, derivatives: Path, visits: list[VisitFiles], run: RunFolder, messages: Messages
) -> Material:
    """Choose the visits, split them by subject, read them into the cache."""
    data = settings.data
    tracers = sorted((get_tracer(name) for name in data.tracers), key=lambda tracer: tracer.index)
    usable = usable_visits(visits, data, messages.warn)
    grid = derivative_grid(usable[0])
    subjects = [files.visit.subject for files in usable]
    split = split_subjects(subjects, data.validation_fraction, data.test_fraction, data.split_seed)
    check_split(split)
    known = [files for files in usable if files.visit.subject not in split["test"]]
    with messages.track("read volumes", len(known)) as advance:
        count = 0

        def one_done(problem: str | None) -> None:
            nonlocal count
            count += 1
            if problem:
                messages.warn(problem)
            advance(count, "")

        cache = Cache(run.path / "cache", grid, data.mri_scaling)
        good = fill_cache(known, tracers, cache, one_done)
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
    return Material(training, validation, manifest)


def _relative(path: str, root: Path) -> str:
    return Path(path).relative_to(root).as_posix()


def _manifest(
    settings: Settings, grid: str, tracers: Sequence[TracerSpec], split: Split, checksums: dict[str, str]
) -> Manifest:
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
        inputs=settings.data.inputs,
        required_inputs=settings.data.required_inputs,
        mri_scaling=settings.data.mri_scaling,
        pet_scaling=settings.data.pet_scaling,
        split={part: list(names) for part, names in split.items()},
        seeds={"train": settings.train.seed, "split": settings.data.split_seed},
        checksums=checksums,
    )


def _hooks(
    trainer: Trainer,
    material: Material,
    run: RunFolder,
    log: Log,
    options: TrainOptions,
    advance: Callable[[float, str], None],
) -> Hooks:
    config = trainer.config
    step = max(1, len(material.validation) // options.validation_pairs)
    chosen = range(0, len(material.validation), step)

    def on_step(progress: Progress) -> None:
        rate = progress.step / progress.seconds if progress.seconds else 0.0
        total = progress.losses["generator/total"]
        advance(min(progress.fraction, 1.0), f"step {progress.step}, loss {total:.4f}, {rate:.2f} steps/s")
        if progress.step % config.log_every == 0 or progress.step == 1:
            log.write(
                progress.step,
                progress.losses | {"seconds": progress.seconds, "loader_seconds": progress.loader_seconds},
            )

    def validate(method: Method, step: int) -> Mapping[str, float]:
        if options.validate is None or not len(material.validation):
            return {}
        pairs = [material.validation[i] for i in chosen]
        scores = options.validate(method, pairs, trainer.fabric.device)
        log.write(step, scores)
        options.messages.say(f"step {step}: " + ", ".join(f"{k} {v:.4f}" for k, v in scores.items()))
        return scores

    def save(step: int) -> None:
        save_checkpoint(run.checkpoints, step, trainer.state_dict(), config.keep_checkpoints)
        run.write_weights(trainer.method.networks["generator"].state_dict(), trainer.ema.state_dict())

    return Hooks(on_step=on_step, validate=validate, save=save)
