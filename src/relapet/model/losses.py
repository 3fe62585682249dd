"""The adversarial losses, relativistic, standard and least-squares, and the two gradient penalties R1 and R2.

Relativistic: Huang et al., "The GAN is dead; long live the GAN!" (R3GAN), NeurIPS 2024, equations 2 to 4; as used
at every timestep by Yu et al. 2026 (RelA-Diffusion). Standard: Goodfellow et al. 2014, the non-saturating form. Least
squares: Mao et al. 2017, arXiv:1611.04076.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

AdversarialKind = Literal["relativistic", "standard", "least_squares"]
PenaltyReduction = Literal["full", "released"]


def relativistic_generator_loss(fake_logits: Tensor, real_logits: Tensor) -> Tensor:
    """``softplus(-(D(fake) - D(real)))``, mean over batch and patches."""
    return functional.softplus(real_logits - fake_logits).mean()


def relativistic_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """``softplus(-(D(real) - D(fake)))``, mean over batch and patches."""
    return functional.softplus(fake_logits - real_logits).mean()


def standard_generator_loss(fake_logits: Tensor, real_logits: Tensor) -> Tensor:
    """``softplus(-D(fake))``, mean over batch and patches; the real logits play no part."""
    return functional.softplus(-fake_logits).mean()


def standard_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """``softplus(-D(real)) + softplus(D(fake))``, mean over batch and patches."""
    return functional.softplus(-real_logits).mean() + functional.softplus(fake_logits).mean()


def least_squares_generator_loss(fake_logits: Tensor, real_logits: Tensor) -> Tensor:
    """``(D(fake) - 1)^2``, mean over batch and patches; the real logits play no part."""
    return (fake_logits - 1).square().mean()


def least_squares_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """``(D(real) - 1)^2 + D(fake)^2``, mean over batch and patches."""
    return (real_logits - 1).square().mean() + fake_logits.square().mean()


@dataclass(frozen=True)
class AdversarialLoss:
    """The two players' losses; both take ``real_logits`` and ``fake_logits`` by name."""

    discriminator: Callable[..., Tensor]
    generator: Callable[..., Tensor]


ADVERSARIAL_LOSSES: dict[AdversarialKind, AdversarialLoss] = {
    "relativistic": AdversarialLoss(relativistic_discriminator_loss, relativistic_generator_loss),
    "standard": AdversarialLoss(standard_discriminator_loss, standard_generator_loss),
    "least_squares": AdversarialLoss(least_squares_discriminator_loss, least_squares_generator_loss),
}


def gradient_penalty(logits: Tensor, inputs: Tensor, reduction: PenaltyReduction = "full") -> Tensor:
    """``||grad D||^2``: R1 on real, R2 on fake.

    ``inputs`` ``(B, C, X, Y, Z)`` must require a gradient and have led to ``logits``; patch logits are summed.
    ``full`` sums over every axis but the batch and averages over the batch. ``released`` sums over axes 1, 2, 3
    and averages over the rest, as the published code does: in 3-D that is Z times weaker.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
    if reduction == "released":
        return gradient.square().sum(dim=(1, 2, 3)).mean()
    return gradient.square().flatten(1).sum(dim=1).mean()


def annealed(weight: float, step: int, steps: int) -> float:
    """``weight`` falling ten-fold by a half cosine over ``steps`` steps, then constant; 0 steps: always constant.

    R3GAN anneals gamma so, with factors of ten and less (Huang et al. 2024, appendix on hyperparameters).
    """
    if steps == 0:
        return weight
    course = 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, step / steps))))
    return weight * (0.1 + 0.9 * course)


def weighted_mean(error: Tensor, weight: Tensor | None) -> Tensor:
    """Mean of an error ``(B, K, X, Y, Z)`` over voxels by their weight, broadcast to it (None: all the same)."""
    if weight is None:
        return error.mean()
    whole = weight.expand_as(error)
    return (error * whole).sum() / whole.sum().clamp(min=1)


def regional_error(error: Tensor, weight: Tensor, cube: int) -> Tensor:
    """Mean square of an error's means over cubes of ``cube`` voxels, each by the weight that it holds."""
    means, inside = cube_means(error, weight, cube)
    return weighted_mean(means.square(), inside)


def cube_means(volumes: Tensor, weight: Tensor, cube: int) -> tuple[Tensor, Tensor]:
    """Means over cubes of ``cube`` voxels by weight, and the mean weight of each, ``(B, K, x, y, z)`` both."""
    inside = functional.avg_pool3d(weight.expand_as(volumes), cube, ceil_mode=True)
    means = functional.avg_pool3d(volumes * weight, cube, ceil_mode=True) / inside.clamp(min=1e-3)
    return means, inside


def fair_crps(samples: Tensor, truth: Tensor, fairness: float = 1.0) -> Tensor:
    """The fair continuous ranked probability score of M samples ``(M, ...)`` against a truth ``(...)``, in its shape.

    ``mean_i |x_i - y| - sum_ij |x_i - x_j| / (2 M (M - 1))``: its expectation is the score of the distribution that the
    samples are drawn from, however few they are (Ferro 2014, doi:10.1002/qj.2270). ``fairness`` below 1 mixes in the
    score of the samples themselves, which has M^2 in place of M (M - 1): where the truth lies between two samples
    their fair score is 0 however far apart they are (almost fair CRPS, Lang et al. 2024, arXiv:2412.15832).
    """
    m = len(samples)
    apart = (samples[:, None] - samples[None]).abs().sum(dim=(0, 1))
    weight = fairness / (2 * m * (m - 1)) + (1 - fairness) / (2 * m**2)
    return (samples - truth).abs().mean(dim=0) - weight * apart
