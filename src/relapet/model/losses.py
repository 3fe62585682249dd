"""The adversarial losses: relativistic pairing with the two gradient penalties R1 and R2.

Source: Huang et al., "The GAN is dead; long live the GAN!" (R3GAN), NeurIPS 2024, equations 2 to 4;
as used at every timestep by Yu et al. 2026 (RelA-Diffusion).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def relativistic_generator_loss(fake_logits: Tensor, real_logits: Tensor) -> Tensor:
    """``softplus(-(D(fake) - D(real)))``, mean over batch and patches."""
    return functional.softplus(real_logits - fake_logits).mean()


def relativistic_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """``softplus(-(D(real) - D(fake)))``, mean over batch and patches."""
    return functional.softplus(fake_logits - real_logits).mean()


def gradient_penalty(logits: Tensor, inputs: Tensor) -> Tensor:
    """``||grad D||^2`` summed over every axis but the batch, mean over the batch: R1 on real, R2 on fake.

    ``inputs`` ``(B, C, X, Y, Z)`` must require a gradient and have led to ``logits``; patch logits are summed.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
    return gradient.square().flatten(1).sum(dim=1).mean()
