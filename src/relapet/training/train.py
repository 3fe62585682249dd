"""Training a run folder: from a model-ready derivative and settings to weights and a manifest."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from lightning_fabric import Fabric

from relapet.data.items import TrainingItem
from relapet.errors import InputError, Stopped
from relapet.imaging.bids import VisitFiles
from relapet.imaging.derivatives import index_measured
from relapet.imaging.grid import Grid
from relapet.messages import Advance, Messages, Silent
from relapet.methods import build_method
from relapet.model.interface import Method
from relapet.run_contents import SettingChange
from relapet.runs import RunFolder
from relapet.training.checkpoint import checkpoints, load_latest_checkpoint, save_checkpoint
from relapet.training.distributed import finalize, is_first_process, make_fabric
from relapet.training.engine import Hooks, Progress, Trainer
from relapet.training.errors import TrainingError
from relapet.training.folder import held, require_trainable, setting_changes
from relapet.training.loader import Source, collate
from relapet.training.log import Log, open_board
from relapet.training.material import Material, RunSettings, give_prior, going_on, prepare_material
from relapet.training.memory import peak_memory_gib
from relapet.training.signals import StopRequest, stop_requests


@dataclass(frozen=True)
class ValidationRound:
    """What a caller gets to judge the model in training by."""

    method: Method
    """With the averaged weights, in evaluation mode."""
    items: Sequence[TrainingItem]
    grid: Grid
    device: torch.device
    step: int
    run: RunFolder


VALIDATION_ITEMS = 6
"""Items that are scored at each validation, spread over the tracers."""
Validate = Callable[[ValidationRound], Mapping[str, float]]
"""Gives scores by name."""


@dataclass
class TrainOptions:
    """How `train_run` goes about it."""

    resume: bool = False
    validate: Validate | None = None
    messages: Messages = field(default_factory=Silent)


def train_run(settings: RunSettings, derivatives: Path, folder: Path, options: TrainOptions) -> RunFolder:
    """Train a method on a derivative and leave a run folder.

    With several devices each process runs this function; only the first one writes and speaks. Raises InputError
    for an unusable derivative or folder, TrainingError where training cannot go on, Stopped after SIGTERM or Ctrl-C.
    """
    run = RunFolder(Path(folder))
    require_trainable(run, Path(derivatives), options.resume)
    changes = setting_changes(run, settings.model_dump(mode="json")) if options.resume else ()
    fabric = make_fabric(settings.train)
    visits = index_measured(derivatives)
    with held(run, writes=is_first_process()):
        return _train_held(_Job(settings, Path(derivatives), run, options, changes), visits, fabric)


@dataclass(frozen=True)
class _Job:
    """What is trained from what, into which folder."""

    settings: RunSettings
    derivatives: Path
    run: RunFolder
    options: TrainOptions
    changes: tuple[SettingChange, ...]


def _train_held(job: _Job, visits: list[VisitFiles], fabric: Fabric) -> RunFolder:
    settings, run, options = job.settings, job.run, job.options
    messages = options.messages if is_first_process() else Silent()
    # Before the launch: the first process reads all volumes into the cache, where the others then find them.
    material = prepare_material(settings, job.derivatives, visits, run, messages)
    if options.resume:
        material = going_on(run, material, job.changes)
    give_prior(material, settings.data, run, messages)
    fabric.launch()
    method = _method(settings, material)
    trainer = _trainer(method, settings, material, fabric)
    if options.resume and method.phases():
        _resume(trainer, run, messages)
    if fabric.is_global_zero:
        _begin(run, settings, material, trainer.step)
    fitted = trainer.step > 0 or (options.resume and run.fitted.is_file() and not method.phases())
    _fit(method, run, material, resumed=fitted, writes=fabric.is_global_zero)
    stopped = _train(trainer, material, run, options, messages) if method.phases() else None
    finalize(fabric)
    if stopped is not None and fabric.is_global_zero:
        raise Stopped(
            f"Training was stopped by {stopped.name} after step {trainer.step} and is saved; add --resume to go on.",
            stopped,
        )
    return run


def _method(settings: RunSettings, material: Material) -> Method:
    # Weights are drawn from the global generator by the layers themselves: fork it, so that nothing leaks out.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.train.seed)
        method = build_method(settings.method.model_dump(mode="json"), material.manifest.facts())
    if method.targets == "all":
        material.training.hold_together()
        material.validation.hold_together()
    return method


def _trainer(method: Method, settings: RunSettings, material: Material, fabric: Fabric) -> Trainer:
    source = Source(material.training, settings.data.augment, method.pairing)
    return Trainer(method, source, settings.train, fabric)


def _fit(method: Method, run: RunFolder, material: Material, resumed: bool, writes: bool) -> None:
    """What the method learns in closed form; a resumed training goes on with what the run folder keeps of it."""
    if resumed:
        if run.fitted.is_file():
            method.load_fitted(run.read_fitted())
        return
    method.fit(collate([item]) for item in material.training.whole_visits())
    if writes and method.fitted():
        run.write_fitted(method.fitted())


def _resume(trainer: Trainer, run: RunFolder, messages: Messages) -> None:
    if not checkpoints(run.checkpoints):
        messages.say(f"{run.path} has no checkpoint yet: training starts from the beginning.")
        return
    state = load_latest_checkpoint(run.checkpoints, messages.warn)
    try:
        trainer.load_state_dict(state)
    except (KeyError, ValueError, RuntimeError, TypeError, AttributeError, IndexError) as error:
        # What is inside may be anything: networks, averages and optimisers each raise their own kind.
        newest = run.checkpoints / f"step-{state['step']:09d}.pt"
        raise InputError(
            f"{newest} is broken or does not fit the settings of {run.config}; delete it to go on from the "
            "checkpoint before it, or train into a new folder."
        ) from error
    messages.say(f"Going on after step {trainer.step}.")


def _begin(run: RunFolder, settings: RunSettings, material: Material, step: int) -> None:
    """Write what the run is made from; what a killed run logged too far goes."""
    run.write_training_mean(material.mean)
    Log(run.log).cut_after(step)
    run.write_manifest(material.manifest)
    run.write_config(settings.model_dump(mode="json"))


def _train(
    trainer: Trainer, material: Material, run: RunFolder, options: TrainOptions, messages: Messages
) -> signal.Signals | None:
    """Run the phases; the signal that ended them before the budget did, None where none did."""
    first = trainer.fabric.is_global_zero
    with stop_requests(messages.warn) as request, messages.track("train", 1.0) as advance:
        hooks = _Hooks(trainer, material, run, options, messages, advance)
        try:
            done = trainer.run(hooks.bundle(request) if first else _silent(request))
        except TrainingError as error:
            saved = checkpoints(run.checkpoints)
            raise error.resumable_from(str(saved[0]) if saved else None) from error
    return None if done else request.received or signal.SIGTERM  # one that only another process got


def _silent(request: StopRequest) -> Hooks:
    return Hooks(stop=lambda: request.received is not None)


@dataclass
class _Hooks:
    """What the first process does between steps."""

    trainer: Trainer
    material: Material
    run: RunFolder
    options: TrainOptions
    messages: Messages
    advance: Advance

    def __post_init__(self) -> None:
        self.log = Log(self.run.log)
        wanted = self.trainer.config.tensorboard and is_first_process()
        self.board = open_board(self.run.path, self.trainer.step) if wanted else None

    def write(self, values: Mapping[str, float], step: int) -> None:
        self.log.write(step, values)
        if self.board is not None:
            self.board.log_metrics(values, step)

    def bundle(self, request: StopRequest) -> Hooks:
        validates = self.options.validate is not None and len(self.material.validation) > 0
        return Hooks(
            on_step=self.on_step,
            validate=self.validate if validates else None,
            save=self.save,
            stop=lambda: request.received is not None,
        )

    def on_step(self, progress: Progress) -> None:
        trainer = self.trainer
        rate = progress.step * trainer.loader.slots / progress.seconds if progress.seconds else 0.0
        memory = peak_memory_gib(trainer.fabric.device)
        losses = [value for name, value in progress.losses.items() if name.endswith("/total")]
        loss = f", loss {losses[-1]:.4f}" if losses else ""  # of the last player in turn
        note = f"step {progress.step}{loss}, {rate:.2f} volumes/s"
        self.advance(min(progress.fraction, 1.0), note + (f", {memory:.1f} GiB" if memory else ""))
        if progress.step % trainer.config.log_every == 0 or progress.step == 1:
            times = {"seconds": progress.seconds, "loader_seconds": progress.loader_seconds}
            self.write(progress.losses | times, progress.step)

    def validate(self, method: Method, step: int) -> None:
        assert self.options.validate is not None
        data, device = self.material.validation, self.trainer.fabric.device
        every = max(1, len(data) // VALIDATION_ITEMS)
        items = [data[i] for i in range(0, len(data), every)]
        scores = self.options.validate(
            ValidationRound(method, items, self.material.grid, device, step, self.run)
        )
        self.write(scores, step)
        self.messages.say(f"step {step}: " + ", ".join(f"{k} {v:.4f}" for k, v in scores.items()))

    def save(self, step: int) -> None:
        trainer = self.trainer
        trainer.require_finite_weights()
        save_checkpoint(self.run.checkpoints, step, trainer.state_dict(), trainer.config.keep_checkpoints)
        if self.board is not None:
            self.board.save()
        self.run.write_weights(*trainer.deployed_weights())
