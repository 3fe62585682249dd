"""What a method and the training loop agree on: batches, phases and the method itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from relapet.model.diffusion import Schedule


@dataclass(frozen=True)
class Batch:
    """Paired volumes, all in [-1, 1]: the SUVr window for PET, relative to tissue for MRI."""

    pet: Tensor
    """``(B, 1, X, Y, Z)``."""
    condition: Tensor
    """T1w and FLAIR, ``(B, 2, X, Y, Z)``, an absent one is -1 (background) everywhere; where the data are told to,
    a third channel holds the template: the tracer's mean over the training subjects."""
    tracer: Tensor
    """Index in the tracer embedding, ``(B,)``, int64."""
    names: tuple[str, ...] = ()
    """Visit and tracer of each volume, for messages."""

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return Batch(self.pet.to(device), self.condition.to(device), self.tracer.to(device), self.names)


@dataclass(frozen=True)
class Draws:
    """The random numbers of one training step: one CPU generator a volume.

    So a volume's numbers do not depend on which process, or with which others in a batch, it is trained.
    """

    generators: tuple[torch.Generator, ...]

    def integers(self, high: int) -> Tensor:
        """Integers in ``0 .. high - 1``, ``(B,)``."""
        return torch.cat([torch.randint(high, (1,), generator=g) for g in self.generators])

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal volumes of the shape, type and device of ``like``, ``(B, C, X, Y, Z)``."""
        shape = like.shape[1:]
        volumes = [torch.randn(shape, generator=g, dtype=like.dtype) for g in self.generators]
        return torch.stack(volumes).to(like.device)


Losses = Mapping[str, Tensor]
"""Named scalar terms; ``total`` is what is minimised, the others are logged."""


@dataclass(frozen=True)
class Phase:
    """One player's turn in a training step: which network, with which optimiser, on which loss."""

    name: str
    network: nn.Module
    loss: Callable[[Any], Losses]
    """Takes what `Method.forward` returned."""
    lr_ratio: float = 1.0
    """Learning rate as a multiple of train.lr."""
    betas: tuple[float, float] = (0.9, 0.999)
    start_step: int = 0
    """First step at which the phase runs."""
    detached: bool = False
    """Whether the loss sends no gradient into `Method.forward`, so that it may run without a graph."""


class Method(Protocol):
    """A synthesis method; the loop and the samplers know nothing else of it.

    Within a step the phases run in order on what one `forward` call returned; a phase must not update a
    network whose graph a later phase still needs. Where gradients are accumulated, `forward` runs anew for each
    phase with the same random numbers.
    """

    schedule: Schedule
    """The noise schedule that samplers walk."""
    networks: nn.ModuleDict
    """Every trained network by name; ``generator`` is the one that `denoise` runs (and that has an EMA)."""

    def phases(self) -> list[Phase]:
        """The players in the order of their turns."""
        ...

    def forward(self, batch: Batch, draws: Draws, step: int) -> Any:
        """Draw timesteps and noise and run what the phases share."""
        ...

    def denoise(self, x_t: Tensor, t: Tensor, condition: Tensor, tracer: Tensor) -> Tensor:
        """The clean prediction in [-1, 1], ``(B, 1, X, Y, Z)``; a one-shot network ignores ``x_t``."""
        ...
