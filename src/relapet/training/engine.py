"""The training loop: named phases on Lightning Fabric, no branch on a method's name.

Determinism: every random number of a step (pairs, augmentation, timesteps, noise) is drawn from generators
seeded by (seed, step, slot), never from a running state. So the loop can be stopped after any step and go on
bitwise as if it had not been, and several processes draw what one process with a larger batch would draw.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from relapet.model.interface import Batch, Draws, Method, Phase
from relapet.training.distributed import exchange
from relapet.training.ema import Ema, averaged
from relapet.training.errors import TrainingError, is_out_of_memory
from relapet.training.loader import Loader, Source
from relapet.training.player import Player
from relapet.training.train_config import TrainConfig

_CLOCK_SLACK = 0.05
"""Share of the budget by which the clock may be ahead of the steps before the learning rate follows it.

Within it the rate depends on the step alone, and two runs are bitwise equal though a limit in seconds is set.
"""


@dataclass(frozen=True)
class Progress:
    """What the loop tells after each step."""

    step: int
    """Steps done."""
    fraction: float
    """Share of the budget (steps or seconds) that is used."""
    losses: dict[str, float]
    """Mean over the volumes of the step."""
    seconds: float
    """Training time so far, over all resumes."""
    loader_seconds: float
    """Time spent waiting for data in this process."""


@dataclass
class Hooks:
    """What a caller may do between steps; in all processes but the first these do nothing."""

    on_step: Callable[[Progress], None] = lambda progress: None
    validate: Callable[[Method, int], None] | None = None
    save: Callable[[int], None] = lambda step: None
    stop: Callable[[], bool] = lambda: False
    """Whether to end after this step; one process's wish ends all."""


@dataclass
class Trainer:
    """One method in training: its networks, optimisers and moving averages, and the loop over steps."""

    method: Method
    source: Source
    config: TrainConfig
    fabric: Fabric
    step: int = 0
    seconds: float = 0.0
    loader_seconds: float = field(default=0.0, init=False)
    clock: float = field(default=0.0, init=False)
    """Training time so far of the slowest process, as of the last step."""

    def __post_init__(self) -> None:
        # Channels last: 3-D convolutions run several times faster so, on CPU as on GPU.
        self.method.networks.to(self.fabric.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.players = [Player(phase, self.config, self.fabric) for phase in self.method.phases()]
        networks = {name: self.method.networks[name] for name in self.method.deployed}
        self.averages = {name: Ema(network, self.config.ema_decay) for name, network in networks.items()}
        self.loader = Loader(self.source, self.config, self.fabric.global_rank, self.fabric.world_size)

    # -- state -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that an exact resume needs, but the data."""
        return {
            "networks": self.method.networks.state_dict(),
            "averages": {name: average.state_dict() for name, average in self.averages.items()},
            "players": {player.phase.name: player.state_dict() for player in self.players},
            "method": self.method.state_dict(),
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken; raises KeyError, ValueError or RuntimeError for a foreign state."""
        self.method.networks.load_state_dict(state["networks"])
        for name, average in self.averages.items():
            average.load_state_dict(state["averages"][name], self.fabric.device)
        for player in self.players:
            player.load_state_dict(state["players"][player.phase.name])
        self.method.load_state_dict(state["method"])
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
        self.clock = self.seconds

    def deployed_weights(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, dict[str, Tensor]]]:
        """Weights of every network that synthesis needs, as trained and averaged."""
        raw = {name: self.method.networks[name].state_dict() for name in self.averages}
        return raw, {name: average.state_dict() for name, average in self.averages.items()}

    def require_finite_weights(self) -> None:
        """Raise TrainingError where a weight is NaN or infinite, so that none such is written."""
        for weights in self.deployed_weights():
            for network, tensors in weights.items():
                if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
                    raise TrainingError(
                        f"The weights of {network} are not finite after step {self.step}",
                        "lower train.lr or set train.precision=32-true",
                    )

    # -- the loop ----------------------------------------------------------------------------------------

    def run(self, hooks: Hooks) -> bool:
        """Train until the budget of steps or seconds is used, then save; False where a hook ended it before.

        Raises TrainingError where a loss is not finite or memory runs out.
        """
        self.method.networks.train()
        stopped = False
        with self.loader:
            while self._fraction() < 1 and not stopped:
                batches = self._next()
                started = time.perf_counter()
                logged = self._guarded_step(batches)
                self.step += 1
                self.seconds += time.perf_counter() - started
                heard = exchange(self.fabric, logged, hooks.stop(), self.seconds)
                self._check_finite(heard.values)
                self.clock, stopped = heard.seconds, heard.stop
                self._between_steps(hooks, heard.values)
        hooks.save(self.step)
        return self._fraction() >= 1

    def _fraction(self, slack: float = 0.0) -> float:
        """Share of the budget that is used."""
        fraction = self.step / self.config.steps
        if self.config.seconds is not None:
            fraction = max(fraction, self.clock / self.config.seconds - slack)
        return fraction

    def _next(self) -> list[Batch]:
        started = time.perf_counter()
        batches = [batch.to(self.fabric.device) for batch in self.loader.take(self.step)]
        waited = time.perf_counter() - started
        self.loader_seconds += waited
        self.seconds += waited
        return batches

    def _guarded_step(self, batches: list[Batch]) -> dict[str, Tensor]:
        """One training step; its losses."""
        try:
            return self._train_step(batches)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(
                f"Out of memory at step {self.step}",
                "lower train.batch_size (train.accumulate makes up for it), set method.generator.checkpointing=true "
                "or train.precision=bf16-mixed, or use a coarser grid",
            ) from error

    def _check_finite(self, values: Mapping[str, float]) -> None:
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad:
            step = self.step - 1
            raise TrainingError(
                f"{bad[0]} is not finite at step {step} (volumes: {', '.join(self.loader.names(step))})",
                "lower train.lr or set train.precision=32-true",
            )

    def _train_step(self, batches: list[Batch]) -> dict[str, Tensor]:
        shared = [self._forward(batches[0], 0)] if len(batches) == 1 else None
        lr_factor = self._lr_factor()
        logged: dict[str, Tensor] = {}
        for player in self.players:
            if not player.phase.runs_at(self.step):
                continue
            runs = iter(shared) if shared else self._runs(batches, player.phase)
            losses = player.take_turn(runs, len(batches), lr_factor)
            logged |= {f"{player.phase.name}/{name}": value for name, value in losses.items()}
        for name, average in self.averages.items():
            average.update(self.method.networks[name], self.step)
        return logged

    def _runs(self, batches: list[Batch], phase: Phase) -> Iterator[Any]:
        """What the phases share, a batch at a time, so that only one batch's graph is held."""
        for part, batch in enumerate(batches):
            with torch.set_grad_enabled(not phase.detached):
                shared = self._forward(batch, part)
            yield shared
            del shared

    def _forward(self, batch: Batch, part: int) -> Any:
        seeds = [(self.config.seed, self.step, slot) for slot in self.loader.own_slots(part)]
        with self.fabric.autocast():
            draws = Draws(tuple(_generator(self.fabric.device, *s) for s in seeds))
            return self.method.forward(batch, draws, self.step)

    def _lr_factor(self) -> float:
        warmup = min(1.0, (self.step + 1) / self.config.lr_warmup) if self.config.lr_warmup else 1.0
        if self.config.lr_schedule == "constant":
            return warmup
        return warmup * 0.5 * (1 + math.cos(math.pi * min(1.0, self._fraction(_CLOCK_SLACK))))

    def _between_steps(self, hooks: Hooks, losses: dict[str, float]) -> None:
        fraction = self._fraction()
        hooks.on_step(Progress(self.step, fraction, losses, self.seconds, self.loader_seconds))
        if hooks.validate is not None and self.step % self.config.validate_every == 0:
            with averaged(self.method, self.averages), self.fabric.autocast():
                hooks.validate(self.method, self.step)
        if self.step % self.config.checkpoint_every == 0 and fraction < 1:
            hooks.save(self.step)


def _generator(device: torch.device, *numbers: int) -> torch.Generator:
    """A generator seeded by several numbers, well mixed; on the device that trains, where drawing is fast."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))
