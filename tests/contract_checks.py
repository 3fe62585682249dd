"""What every method, sampler and metric must do, shipped or documented as an example."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from pydantic import BaseModel
from torch import Tensor

from relapet.config import describe
from relapet.data.augment import AugmentConfig
from relapet.data.items import TrainingItem, TrainingItems
from relapet.evaluation.scores.image_metrics import Metric, ScanPair
from relapet.imaging.bids import Visit, VisitFiles
from relapet.methods.linear import Linear
from relapet.methods.tracer_mean import TracerMean
from relapet.model.diffusion import scaled_linear_schedule
from relapet.model.interface import Condition, DataFacts, Draws, Method
from relapet.model.samplers import Walk
from relapet.synthesis.sample_config import SampleConfig
from relapet.tracers import TracerSpec, simulated_tracers
from relapet.training.engine import Hooks, Progress, Trainer
from relapet.training.loader import Source, collate
from relapet.training.train_config import TrainConfig

SIDE = 16


def is_one_sentence(text: str | None) -> bool:
    """Whether a docstring's first line says something and ends as a sentence does."""
    first = (text or "").strip().splitlines()[0] if text else ""
    return len(first) > 15 and first.endswith((".", ":"))


# -- methods -------------------------------------------------------------------------------------------------

FACTS = DataFacts(tracers=3, tracer_slots=4, prior=True, shape=(SIDE,) * 3, voxel_mm=8.0)


def noise_items(together: bool) -> TrainingItems:
    """Items of noise: three visits, of which the last lacks a tracer."""
    tracers = tuple(simulated_tracers().values())

    class Noise(TrainingItems):
        def __init__(self) -> None:
            self.tracers = tracers
            visits = [VisitFiles(Visit(f"{n:02d}"), pet={t.name: Path() for t in tracers}) for n in (1, 2)]
            self.visits = [*visits, VisitFiles(Visit("03"), pet={t.name: Path() for t in tracers[:2]})]
            self.scans = [(files, t) for files in self.visits for t in tracers if t.name in files.pet]
            self.items = [(files, (tracer,)) for files, tracer in self.scans]

        def _made(
            self, files: VisitFiles, wanted: tuple[TracerSpec, ...], withheld: int | None
        ) -> TrainingItem:
            rng = np.random.default_rng(int(files.visit.subject))
            mri = rng.uniform(-1, 1, (2, SIDE, SIDE, SIDE)).astype(np.float32)
            maps = {t.name: rng.uniform(-1, 1, (2, SIDE, SIDE, SIDE)).astype(np.float32) for t in tracers}
            prior, pet = (np.stack([maps[t.name][part] for t in wanted]) for part in range(2))
            there = tuple(t.name in files.pet for t in wanted)
            windows = tuple(t.suvr_window for t in wanted)
            return TrainingItem(files.visit.stem, mri, prior, True, pet, there, wanted, windows, 8.0)

    items = Noise()
    if together:
        items.hold_together()
    return items


def made(method_class: Any, settings: BaseModel | None = None, facts: DataFacts = FACTS) -> Method:
    """A method of default settings, always from the same start."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        method: Method = method_class(settings or method_class.Config(), facts)
    items = noise_items(together=False)
    method.fit(collate([item]) for item in items.whole_visits())
    return method


def starts(method: Method) -> list[int]:
    """The steps at which a phase begins, in order."""
    return sorted({phase.first_step for phase in method.phases()})


def trained(
    method_class: Any, steps: int = 1, settings: BaseModel | None = None, first: int | None = None
) -> tuple[Trainer, dict[str, float]]:
    """A method after ``steps`` steps from the ``first``, and their last losses; of default settings unless given.

    The first is, unless given, the one at which the last phase begins.
    """
    method = made(method_class, settings)
    first = starts(method)[-1] if first is None else first
    config = TrainConfig(steps=first + steps, lr_schedule="constant", lr_warmup=0, ema_decay=0.5)
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    source = Source(noise_items(method.targets == "all"), AugmentConfig(), method.pairing)
    trainer = Trainer(method, source, config, fabric, step=first)
    last: list[Progress] = []
    trainer.run(Hooks(on_step=last.append))
    return trainer, last[-1].losses


def check_method_config(name: str, method_class: Any) -> None:
    """The settings carry the method's name, each has a meaning, and they survive being written and read."""
    config: BaseModel = method_class.Config()
    assert config.model_dump()["name"] == name
    assert [key for key, _, meaning in describe(config) if not meaning] == []
    assert type(config).model_validate(config.model_dump(mode="json")) == config
    assert is_one_sentence(method_class.__doc__)


def check_method_phases(method: Method) -> None:
    """Phases are named uniquely and train networks of the method; what is deployed is among them."""
    phases = method.phases()
    names = [phase.name for phase in phases]
    assert len(set(names)) == len(names)
    networks = list(method.networks.values())
    for phase in phases:
        assert phase.networks
        assert all(any(own is network for network in networks) for own in phase.networks)
        assert phase.lr_ratio > 0
        assert phase.first_step >= 0
    assert set(method.deployed) <= set(method.networks)


def check_method_step(method_class: Any, settings: BaseModel | None = None) -> None:
    """One step gives finite losses and changes every network that has a phase, the same way each time.

    At each step where a phase begins, so that one that ends before the next begins is held to it too.
    """
    for first in starts(made(method_class, settings)):
        _check_step_at(first, method_class, settings)


def _check_step_at(first: int, method_class: Any, settings: BaseModel | None) -> None:
    before = made(method_class, settings).networks.state_dict()
    runs = [trained(method_class, settings=settings, first=first) for _ in range(2)]
    trainer, losses = runs[0]
    for phase in trainer.method.phases():
        if phase.runs_at(trainer.step - 1):
            assert f"{phase.name}/total" in losses
    assert all(math.isfinite(value) for value in losses.values())
    after, again = (run[0].method.networks.state_dict() for run in runs)
    for name, network in trainer.method.networks.items():
        turns = [p for p in trainer.method.phases() if any(own is network for own in p.networks)]
        if any(phase.runs_at(trainer.step - 1) for phase in turns):
            keys = [f"{name}.{key}" for key, _ in network.named_parameters()]
            assert any(not torch.equal(before[key], after[key]) for key in keys), name
    assert all(torch.equal(after[key], again[key]) for key in after)
    resumed = made(method_class, settings)
    Trainer(resumed, trainer.source, trainer.config, trainer.fabric).load_state_dict(
        trainer.state_dict() | {"step": trainer.step}
    )


def check_sample(method_class: Any, settings: BaseModel | None = None) -> None:
    """A sample is (B, K, X, Y, Z) in [-1, 1], the same for a seed, told of step by step, and depends on its input."""
    method = made(method_class, settings)
    if method.phases():
        method = trained(method_class, 2, settings)[0].method
    method.networks.eval()
    count = FACTS.tracers if method.targets == "all" else 1
    rng = torch.Generator().manual_seed(1)
    mri = torch.rand((2, 2, SIDE, SIDE, SIDE), generator=rng) * 2 - 1
    prior = torch.rand((2, count, SIDE, SIDE, SIDE), generator=rng) * 2 - 1
    told: list[tuple[int, int]] = []

    def sample(seed: int = 0, sign: int = 1, tracer: int = 0) -> Tensor:
        index = torch.arange(count).expand(2, count) if count > 1 else torch.full((2, 1), tracer)
        draws = Draws(tuple(torch.Generator().manual_seed(seed + n) for n in range(2)))
        with torch.no_grad():
            condition = Condition(sign * mri, sign * prior, index)
            return method.sample(condition, SampleConfig(steps=3), draws, lambda *step: told.append(step))

    volumes = sample()
    assert volumes.shape == (2, count, SIDE, SIDE, SIDE)
    assert volumes.dtype == torch.float32
    assert volumes.isfinite().all()
    assert volumes.abs().max() <= 1
    assert told[-1][0] == told[-1][1] == len(told) == (3 if method.random and method.by_steps else 1)
    assert torch.equal(volumes, sample())
    assert torch.equal(volumes, sample(seed=7)) is not method.random
    assert not torch.equal(volumes, sample(sign=-1)) or method_class is TracerMean
    if count == 1 and method_class is not Linear:  # to which the prior is all
        assert not torch.equal(volumes, sample(tracer=2))
    again = made(method_class, settings)
    for name in method.deployed:
        again.networks[name].load_state_dict(method.networks[name].state_dict())
    again.load_fitted(method.fitted())
    with pytest.raises((KeyError, ValueError)):
        again.load_fitted({"of another method": torch.zeros(1)})


# -- samplers ------------------------------------------------------------------------------------------------

SCHEDULE = scaled_linear_schedule(100, 5e-4, 1.95e-2)


def _shrink(x_t: Tensor, t: Tensor) -> Tensor:
    """A denoiser that depends on both of its arguments."""
    signal, _ = SCHEDULE.signal_and_noise(t, x_t)
    return torch.tanh(signal * x_t)


NOISE = torch.randn((2, 1, 6, 7, 8), generator=torch.Generator().manual_seed(5))


def draws_from(seed: int) -> Callable[[], Tensor]:
    """`NOISE`, then fresh noise of a seed."""
    generator = torch.Generator().manual_seed(seed)
    fresh = chain([NOISE], (torch.randn(NOISE.shape, generator=generator) for _ in count()))
    return lambda: next(fresh)


def run_sampler(walk: Walk, steps: int, seed: int = 0, denoise: Any = _shrink) -> Tensor:
    """A sample of two volumes from fixed noise."""
    return walk(denoise, SCHEDULE, draws_from(seed), steps, None)


def check_sampler(walk: Walk, clean_at_once: bool = True, calls_a_step: int = 1) -> None:
    """Shape, determinism, one step equals the clean prediction, calls counted, global random state untouched."""
    assert is_one_sentence(walk.__doc__)
    parameters = list(inspect.signature(walk).parameters.values())
    assert [p.name for p in parameters[:5]] == ["denoise", "process", "fresh", "steps", "on_step"]
    assert all(p.default is not p.empty for p in parameters[5:])
    state = torch.random.get_rng_state()
    sample = run_sampler(walk, steps=4)
    assert torch.equal(state, torch.random.get_rng_state())
    assert sample.shape == (2, 1, 6, 7, 8)
    assert sample.isfinite().all()
    assert torch.equal(sample, run_sampler(walk, steps=4))
    assert not torch.equal(sample, run_sampler(walk, steps=5))
    if clean_at_once:
        clean = _shrink(NOISE, torch.full((2,), SCHEDULE.length - 1))
        torch.testing.assert_close(run_sampler(walk, steps=1), clean, atol=1e-6, rtol=0)
    for steps in (1, 4):
        _check_calls(walk, steps, calls_a_step * (steps - 1) + 1)


def _check_calls(walk: Walk, steps: int, calls: int) -> None:
    """Network calls at timesteps that never rise, from T - 1, each told as it is done."""
    times, told = [], []

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        times.append(int(t[0]))
        return _shrink(x_t, t)

    walk(denoise, SCHEDULE, draws_from(0), steps, lambda done, of: told.append((done, of, len(times))))
    assert times[0] == SCHEDULE.length - 1
    assert times == sorted(times, reverse=True)
    assert len(times) == calls
    assert told == [(call, calls, call) for call in range(1, calls + 1)]


# -- metrics -------------------------------------------------------------------------------------------------


def image_pair(error: float) -> ScanPair:
    """A smooth 'brain' and the same with noise of an SD of ``error`` SUVr."""
    side = 28
    axis = np.linspace(-1, 1, side)
    radius = np.sqrt(sum(a**2 for a in np.meshgrid(axis, axis, axis, indexing="ij")))
    brain = radius < 0.9
    rng = np.random.default_rng(3)
    real = np.where(brain, 1.2 + 0.4 * np.cos(6 * radius) + rng.normal(0, 0.02, brain.shape), 0.05)
    synthetic = real + error * rng.standard_normal(brain.shape)
    return ScanPair(real.astype(np.float32), synthetic.astype(np.float32), brain, (0.0, 3.5), radius < 0.6)


def check_metric(metric: Metric) -> None:
    """Named, with unit, direction and source; best for identical images, worse with more error."""
    assert is_one_sentence(metric.compute.__doc__)
    assert metric.title
    assert metric.unit in {"dB", "SUVr", "1"}
    assert metric.better in {"higher", "lower", "one"}
    assert len(metric.source) > 5
    values = [metric.compute(image_pair(error)) for error in (0.0, 0.1, 0.4)]
    goodness = metric.goodness(np.array(values))
    best = {"higher": (math.inf, 1.0), "lower": (0.0,), "one": (1.0,)}[metric.better]
    assert any(math.isclose(values[0], value, abs_tol=1e-6) for value in best), values
    assert goodness[0] > goodness[1] > goodness[2], values
