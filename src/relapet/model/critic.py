"""What the methods with a critic share: the two players' losses, and volumes of one tracer each for it to judge.

A critic judges one PET at a time, whatever a generator's call gives: it is told the tracer, and a PET that a visit
lacks is not shown to it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from relapet.model.interface import Condition
from relapet.model.losses import AdversarialLoss, PenaltyReduction, gradient_penalty

Judge = Callable[[Tensor], Tensor]
"""Logits of volumes, whatever else the critic is told."""


def generator_loss(judge: Judge, loss: AdversarialLoss, fake: Tensor, real: Tensor) -> Tensor:
    """What the generator is to lower, through ``fake`` alone."""
    fake_logits = judge(fake)
    with torch.no_grad():
        real_logits = judge(real)
    value: Tensor = loss.generator(fake_logits=fake_logits, real_logits=real_logits)
    return value


def critic_losses(
    judge: Judge,
    loss: AdversarialLoss,
    fake: Tensor,
    real: Tensor,
    gamma: float = 0,
    penalties: tuple[str, ...] = ("r1", "r2"),
    reduction: PenaltyReduction = "full",
) -> dict[str, Tensor]:
    """What the critic is to lower: ``adversarial``, each penalty by name, and ``total`` with gamma / 2 of these."""
    volumes = {
        "r1": real.detach().requires_grad_(gamma > 0 and "r1" in penalties),
        "r2": fake.detach().requires_grad_(gamma > 0 and "r2" in penalties),
    }
    logits = {name: judge(volume) for name, volume in volumes.items()}
    value = loss.discriminator(real_logits=logits["r1"], fake_logits=logits["r2"])
    losses = {"adversarial": value}
    if gamma > 0:
        for name in penalties:
            losses[name] = gradient_penalty(logits[name], volumes[name], reduction)
        value = value + gamma / 2 * sum(losses[name] for name in penalties)
    return {"total": value, **losses}


def nothing_to_judge(critic: nn.Module) -> Tensor:
    """A loss of 0 that reaches every weight, for a step in which no PET may be judged."""
    zero: Tensor = sum(((p * 0).sum() for p in critic.parameters()), torch.zeros(()))
    return zero


def singly(volumes: Tensor, kept: Tensor) -> Tensor:
    """The volumes that are kept, each for itself: ``(B, K, ...)`` by ``(B, K)`` to ``(N, 1, ...)``."""
    return volumes[kept][:, None]


def told_singly(condition: Condition, t: Tensor, kept: Tensor) -> tuple[Condition, Tensor]:
    """MRI and tracer, and timestep, of each volume that is kept, as `singly` orders them."""
    volume = kept.nonzero()[:, 0]
    return Condition(condition.mri[volume], None, singly(condition.tracer, kept)), t[volume]
