"""What a method costs: seconds of its fit in closed form, and of a training step, averaged over its phases.

Measured on the derivative itself before training, so that a budget in seconds becomes a number of steps: a training
then repeats bit for bit and goes on after an interruption, and what else the machine does changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from relapet.benchmarking.config import for_steps
from relapet.benchmarking.shared import SharedMaterial
from relapet.config import RunConfig
from relapet.imaging.derivatives import index_measured
from relapet.messages import Silent
from relapet.methods import build_method
from relapet.model.interface import Method, Phase
from relapet.runs import RunFolder
from relapet.training.distributed import make_fabric
from relapet.training.engine import Hooks, Trainer
from relapet.training.loader import Source, collate
from relapet.training.material import Material, give_prior, prepare_material

TIMED_STEPS = 6
"""The first of these, which warms up, is not counted."""
_WHOLE = 10_000
"""Steps of a training whose regimes are looked at: their shares are those of any."""


@dataclass(frozen=True)
class Cost:
    """Seconds by `clock`."""

    fit_seconds: float
    """Of all that is fitted in closed form: the prior, and the method's own."""
    step_seconds: float
    """Mean over a whole training; 0 for a closed form."""
    tracers: int
    """That an item of training holds."""


def on_gpu() -> bool:
    """Whether a GPU does the work."""
    return torch.cuda.is_available()


def clock() -> float:
    """Seconds of this process: of the processor, or elapsed ones where a GPU does the work."""
    return time.perf_counter() if on_gpu() else time.process_time()


def measure_cost(config: RunConfig, derivatives: Path, run: RunFolder, shared: SharedMaterial) -> Cost:
    """Fit and take a few steps of each regime; the run's cache and prior are made on the way, or taken over."""
    whole = for_steps(config, _WHOLE)
    with shared.volumes(run):
        material = prepare_material(whole, derivatives, index_measured(derivatives), run, Silent())

    def fit_prior() -> float:
        begun = clock()
        give_prior(material, whole.data, run, Silent())
        return clock() - begun

    fit = shared.prior(run, whole.data, fit_prior) if whole.data.prior == "linear" else 0.0
    if material.training.prior is None:  # one that was fitted here has been given already
        give_prior(material, whole.data, run, Silent())
    started = clock()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        method = build_method(whole.method.model_dump(mode="json"), material.manifest.facts())
    if method.targets == "all":
        material.training.hold_together()
    method.fit(collate([item]) for item in material.training.whole_visits())
    fit += clock() - started
    seconds = 0.0
    for first, last in regimes(method.phases(), _WHOLE):
        seconds += _step_seconds(method, material, whole, first) * (last - first) / _WHOLE
    return Cost(fit, seconds, len(material.manifest.tracers) if method.targets == "all" else 1)


def regimes(phases: Sequence[Phase], steps: int) -> list[tuple[int, int]]:
    """Parts of a training in which the same phases run: first step, and the one after the last."""
    if not phases:
        return []
    ends = {phase.last_step + 1 for phase in phases if phase.last_step is not None}
    bounds = {0, steps, *(b for b in (*ends, *(phase.first_step for phase in phases)) if 0 < b < steps)}
    edges = sorted(bounds)
    return list(pairwise(edges))


def _step_seconds(method: Method, material: Material, config: RunConfig, first: int) -> float:
    steps = first + TIMED_STEPS
    train = config.train.changed(steps=steps, validate_every=steps + 1, checkpoint_every=steps + 1)
    source = Source(material.training, config.data.augment, method.pairing)
    trainer = Trainer(method, source, train, make_fabric(train), step=first)
    stamps: list[float] = []
    trainer.run(Hooks(on_step=lambda progress: stamps.append(clock())))
    return float(np.median(np.diff(stamps)))
