"""What every method, sampler and metric must do, shipped or documented as an example."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from pydantic import BaseModel
from torch import Tensor

from relapet.config import describe
from relapet.data.augment import AugmentConfig
from relapet.data.dataset import Pair as TrainingPair
from relapet.evaluation.scores.image_metrics import Metric, ScanPair
from relapet.model.diffusion import scaled_linear_schedule
from relapet.model.samplers import Sampler
from relapet.tracers import simulated_tracers
from relapet.training.config import TrainConfig
from relapet.training.engine import Hooks, Progress, Trainer

SIDE = 16


def is_one_sentence(text: str | None) -> bool:
    """Whether a docstring's first line says something and ends as a sentence does."""
    first = (text or "").strip().splitlines()[0] if text else ""
    return len(first) > 15 and first.endswith((".", ":"))


# -- methods -------------------------------------------------------------------------------------------------


class NoisePairs(list[TrainingPair]):
    """One pair of noise for each tracer; serves the loop as `PairedVolumes` does."""

    def __init__(self, channels: int) -> None:
        rng = np.random.default_rng(0)
        for tracer in simulated_tracers().values():
            condition, pet = (rng.uniform(-1, 1, (n, SIDE, SIDE, SIDE)) for n in (channels, 1))
            name = f"sub-01 {tracer.name}"
            self.append(
                TrainingPair(
                    name,
                    condition.astype(np.float32),
                    pet[0].astype(np.float32),
                    tracer,
                    tracer.suvr_window,
                    4.0,
                )
            )


def trained(
    method_class: Any, steps: int = 1, settings: BaseModel | None = None, channels: int = 2
) -> tuple[Trainer, dict[str, float]]:
    """A method after ``steps`` steps at which every phase runs, by default of default settings; the last losses."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        method = method_class(settings or method_class.Config())
    first = max(phase.start_step for phase in method.phases())
    config = TrainConfig(steps=first + steps, lr_schedule="constant", lr_warmup=0, ema_decay=0.5)
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    trainer = Trainer(method, NoisePairs(channels), AugmentConfig(), config, fabric, step=first)  # type: ignore[arg-type]
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


def check_method_phases(method: Any) -> None:
    """Phases are named uniquely, train networks of the method, and the generator is one of them."""
    phases = method.phases()
    names = [phase.name for phase in phases]
    assert len(set(names)) == len(names)
    assert "generator" in names
    networks = list(method.networks.values())
    assert all(any(phase.network is network for network in networks) for phase in phases)
    assert next(p for p in phases if p.name == "generator").network is method.networks["generator"]
    assert all(phase.lr_ratio > 0 and phase.start_step >= 0 for phase in phases)


def check_method_step(method_class: Any) -> None:
    """One step gives finite losses and changes every network that has a phase, the same way each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        before = method_class(method_class.Config()).networks.state_dict()
    runs = [trained(method_class) for _ in range(2)]
    trainer, losses = runs[0]
    for phase in trainer.method.phases():
        assert f"{phase.name}/total" in losses
    assert all(math.isfinite(value) for value in losses.values())
    after, again = (run[0].method.networks.state_dict() for run in runs)
    for name, network in trainer.method.networks.items():
        if any(phase.network is network for phase in trainer.method.phases()):
            keys = [f"{name}.{key}" for key, _ in network.named_parameters()]
            assert any(not torch.equal(before[key], after[key]) for key in keys), name
    assert all(torch.equal(after[key], again[key]) for key in after)


def check_denoise(method_class: Any) -> None:
    """The clean prediction is (B, 1, X, Y, Z) in [-1, 1], repeatable, and depends on MRI and tracer."""
    method = trained(method_class, steps=2)[0].method
    method.networks.eval()
    rng = torch.Generator().manual_seed(1)
    x_t = 10 * torch.randn((2, 1, SIDE, SIDE, SIDE), generator=rng)
    condition = torch.rand((2, 2, SIDE, SIDE, SIDE), generator=rng) * 2 - 1
    t = torch.tensor([method.schedule.length - 1, 0])

    def denoise(condition: Tensor, tracer: list[int]) -> Tensor:
        with torch.no_grad():
            return method.denoise(x_t, t, condition, torch.tensor(tracer))

    x_0 = denoise(condition, [0, 1])
    assert x_0.shape == x_t.shape
    assert x_0.dtype == torch.float32
    assert x_0.abs().max() <= 1
    assert torch.equal(x_0, denoise(condition, [0, 1]))
    assert not torch.equal(x_0, denoise(-condition, [0, 1]))
    assert not torch.equal(x_0, denoise(condition, [2, 2]))


# -- samplers ------------------------------------------------------------------------------------------------

SCHEDULE = scaled_linear_schedule(100, 5e-4, 1.95e-2)


def _shrink(x_t: Tensor, t: Tensor) -> Tensor:
    """A denoiser that depends on both of its arguments."""
    signal, _ = SCHEDULE.signal_and_noise(t, x_t)
    return torch.tanh(signal * x_t)


def run_sampler(sampler: Sampler, steps: int, seed: int = 0, denoise: Any = _shrink) -> Tensor:
    """A sample of two volumes from fixed noise."""
    noise = torch.randn((2, 1, 6, 7, 8), generator=torch.Generator().manual_seed(5))
    return sampler(denoise, noise, SCHEDULE, steps, torch.Generator().manual_seed(seed), None)


def check_sampler(sampler: Sampler) -> None:
    """Shape, determinism, one step equals the clean prediction, steps counted, global random state untouched."""
    assert is_one_sentence(sampler.__doc__)
    assert list(inspect.signature(sampler).parameters) == [
        "denoise", "noise", "schedule", "steps", "generator", "on_step"
    ]  # fmt: skip
    state = torch.random.get_rng_state()
    sample = run_sampler(sampler, steps=4)
    assert torch.equal(state, torch.random.get_rng_state())
    assert sample.shape == (2, 1, 6, 7, 8)
    assert sample.isfinite().all()
    assert torch.equal(sample, run_sampler(sampler, steps=4))
    assert not torch.equal(sample, run_sampler(sampler, steps=5))
    noise = torch.randn((2, 1, 6, 7, 8), generator=torch.Generator().manual_seed(5))
    clean = _shrink(noise, torch.full((2,), SCHEDULE.length - 1))
    torch.testing.assert_close(run_sampler(sampler, steps=1), clean, atol=1e-6, rtol=0)
    _check_calls(sampler, noise)


def _check_calls(sampler: Sampler, noise: Tensor) -> None:
    """``steps`` network calls at falling timesteps from T - 1, each told."""
    times, told = [], []

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        times.append(int(t[0]))
        return _shrink(x_t, t)

    sampler(denoise, noise, SCHEDULE, 4, torch.Generator(), lambda done, of: told.append((done, of)))
    assert times[0] == SCHEDULE.length - 1
    assert times == sorted(times, reverse=True)
    assert len(times) == 4
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


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
