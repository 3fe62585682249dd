"""The training loop: named phases on Lightning Fabric, no branch on a method's name.

Determinism: every random number of a step (pairs, augmentation, timesteps, noise) is drawn from generators
seeded by (seed, step, slot), never from a running state. So the loop can be stopped after any step and go on
bitwise as if it had not been, and several processes draw what one process with a larger batch would draw.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from relapet.data.augment import AugmentConfig
from relapet.data.dataset import PairedVolumes, augmented, pick
from relapet.errors import RelapetError
from relapet.model.interface import Batch, Draws, Method, Phase
from relapet.training.config import TrainConfig
from relapet.training.ema import Ema


class TrainingError(RelapetError):
    """Training cannot go on: the message says at which step and what helps."""


@dataclass
class Progress:
    """What the loop tells after each step."""

    step: int
    """Steps done."""
    fraction: float
    """Share of the budget (steps or seconds) that is used."""
    losses: dict[str, float]
    seconds: float
    """Training time so far, over all resumes."""
    loader_seconds: float
    """Time spent waiting for data in this process."""


@dataclass
class Hooks:
    """What a caller may do between steps."""

    on_step: Callable[[Progress], None] = lambda progress: None
    validate: Callable[[Method, int], Mapping[str, float]] | None = None
    save: Callable[[int], None] = lambda step: None


@dataclass
class Trainer:
    """One method in training: its networks, optimisers and EMA, and the loop over steps."""

    method: Method
    data: PairedVolumes
    augment: AugmentConfig
    config: TrainConfig
    fabric: Fabric
    step: int = 0
    seconds: float = 0.0
    loader_seconds: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        # Channels last: 3-D convolutions run several times faster so, on CPU as on GPU.
        self.method.networks.to(self.fabric.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.phases = self.method.phases()
        self.optimizers = {phase.name: self._optimizer(phase) for phase in self.phases}
        self.ema = Ema(self.method.networks["generator"], self.config.ema_decay)

    def _optimizer(self, phase: Phase) -> torch.optim.Optimizer:
        lr = self.config.lr * phase.lr_ratio
        return torch.optim.Adam(phase.network.parameters(), lr=lr, betas=phase.betas)

    # -- state -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that an exact resume needs, but the data."""
        return {
            "networks": self.method.networks.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.method.networks.load_state_dict(state["networks"])
        self.ema.weights = {k: v.to(self.fabric.device) for k, v in state["ema"].items()}
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.step, self.seconds = int(state["step"]), float(state["seconds"])

    # -- the loop ----------------------------------------------------------------------------------------

    def run(self, hooks: Hooks) -> None:
        """Train until the budget of steps or seconds is used; checkpoints and validates on the way."""
        self.method.networks.train()
        with ThreadPoolExecutor(max_workers=1) as loader:
            upcoming = loader.submit(self._load, self.step)
            while not self._finished():
                batch, upcoming = self._next(loader, upcoming)
                started = time.perf_counter()
                losses = self._train_step(batch)
                self.step += 1
                self.seconds += time.perf_counter() - started
                self._between_steps(hooks, losses)
            upcoming.cancel()
        hooks.save(self.step)

    def _finished(self) -> bool:
        return self._fraction() >= 1

    def _fraction(self) -> float:
        """Share of the budget that is used. With a limit in seconds every process takes the slowest one's clock."""
        fraction = self.step / self.config.steps
        if self.config.seconds is not None:
            elapsed = torch.tensor(self.seconds, device=self.fabric.device)
            slowest = self.fabric.all_reduce(elapsed, reduce_op="max")
            fraction = max(fraction, float(slowest) / self.config.seconds)
        return fraction

    def _next(self, loader: ThreadPoolExecutor, upcoming: Future[Batch]) -> tuple[Batch, Future[Batch]]:
        started = time.perf_counter()
        batch = upcoming.result().to(self.fabric.device)
        waited = time.perf_counter() - started
        self.loader_seconds += waited
        self.seconds += waited
        return batch, loader.submit(self._load, self.step + 1)

    def _load(self, step: int) -> Batch:
        size, slots = self.config.batch_size, self.config.batch_size * self.fabric.world_size
        pairs = []
        for slot in range(self.fabric.global_rank * size, (self.fabric.global_rank + 1) * size):
            index = pick(step, slot, slots, len(self.data), self.config.seed)
            rng = np.random.default_rng((self.config.seed, step, slot))
            pairs.append(augmented(self.data[index], self.augment, rng))
        return Batch(
            pet=torch.from_numpy(np.stack([pair.pet[None] for pair in pairs])),
            condition=torch.from_numpy(np.stack([pair.condition for pair in pairs])),
            tracer=torch.tensor([pair.tracer.index for pair in pairs]),
            names=tuple(pair.name for pair in pairs),
        )

    def _train_step(self, batch: Batch) -> dict[str, float]:
        first = self.fabric.global_rank * self.config.batch_size
        draws = Draws(
            tuple(_generator(self.config.seed, self.step, first + i) for i in range(len(batch.pet)))
        )
        logged: dict[str, float] = {}
        try:
            with self.fabric.autocast():
                shared = self.method.forward(batch, draws, self.step)
            for phase in self.phases:
                if self.step >= phase.start_step:
                    losses = self._take_turn(phase, shared)
                    logged |= {
                        f"{phase.name}/{name}": float(value.detach()) for name, value in losses.items()
                    }
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"Out of memory at step {self.step}; lower train.batch_size, set train.precision to bf16-mixed, "
                "or use a coarser grid."
            ) from error
        bad = [name for name, value in logged.items() if not math.isfinite(value)]
        if bad:
            raise TrainingError(
                f"{bad[0]} is not finite at step {self.step} (volumes: {', '.join(batch.names)}); resume from the "
                "last checkpoint with a lower train.lr or with train.precision=32-true."
            )
        self.ema.update(self.method.networks["generator"], self.step)
        return logged

    def _take_turn(self, phase: Phase, shared: Any) -> Mapping[str, Tensor]:
        optimizer = self.optimizers[phase.name]
        for group in optimizer.param_groups:
            group["lr"] = self.config.lr * phase.lr_ratio * self._lr_factor()
        # The players' gradients must not mix: the generator's turn also reaches the critic's weights.
        optimizer.zero_grad(set_to_none=True)
        with self.fabric.autocast():
            losses = phase.loss(shared)
        parameters = [p for p in phase.network.parameters() if p.requires_grad]
        # autograd.grad and an explicit mean over processes, not wrapped modules: the penalties differentiate
        # twice and the players share one forward pass, neither of which a wrapped module's hooks allow.
        gradients = torch.autograd.grad(losses["total"], parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                parameter.grad = self.fabric.all_reduce(gradient, reduce_op="mean")
        if self.config.clip_norm > 0:
            nn.utils.clip_grad_norm_(parameters, self.config.clip_norm)
        optimizer.step()
        return losses

    def _lr_factor(self) -> float:
        warmup = min(1.0, (self.step + 1) / self.config.lr_warmup) if self.config.lr_warmup else 1.0
        if self.config.lr_schedule == "constant":
            return warmup
        return warmup * 0.5 * (1 + math.cos(math.pi * min(1.0, self._fraction())))

    def _between_steps(self, hooks: Hooks, losses: dict[str, float]) -> None:
        fraction = self._fraction()
        hooks.on_step(Progress(self.step, fraction, losses, self.seconds, self.loader_seconds))
        if hooks.validate is not None and (self.step % self.config.validate_every == 0):
            generator = self.method.networks["generator"]
            self.method.networks.eval()
            with self.ema.applied_to(generator), torch.no_grad(), self.fabric.autocast():
                hooks.validate(self.method, self.step)
            self.method.networks.train()
        if self.step % self.config.checkpoint_every == 0 and fraction < 1:
            hooks.save(self.step)


def _generator(*numbers: int) -> torch.Generator:
    """A CPU generator seeded by several numbers, well mixed."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))
