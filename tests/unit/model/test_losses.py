from __future__ import annotations

import math

import pytest
import torch

from relapet.model.discriminator import Discriminator, DiscriminatorConfig
from relapet.model.losses import (
    gradient_penalty,
    relativistic_discriminator_loss,
    relativistic_generator_loss,
)


def test_relativistic_losses_by_hand() -> None:
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([1.0, 3.0])
    by_hand = (math.log1p(math.exp(1.0)) + math.log1p(math.exp(-3.0))) / 2
    assert relativistic_generator_loss(fake, real).item() == pytest.approx(by_hand, abs=1e-6)
    by_hand = (math.log1p(math.exp(-1.0)) + math.log1p(math.exp(3.0))) / 2
    assert relativistic_discriminator_loss(real, fake).item() == pytest.approx(by_hand, abs=1e-6)


@pytest.mark.parametrize("loss", [relativistic_generator_loss, relativistic_discriminator_loss])
def test_relativistic_gradients_against_finite_differences(loss: object) -> None:
    rng = torch.Generator().manual_seed(0)
    logits = [
        torch.randn(2, 1, 2, 3, 4, generator=rng, dtype=torch.float64, requires_grad=True) for _ in range(2)
    ]
    assert torch.autograd.gradcheck(loss, logits)


def test_the_penalty_of_a_linear_critic_is_the_square_of_its_weights() -> None:
    """D(x) = sum(w x) has gradient w everywhere, whatever the shape: here 2 x (3, 4, 5), not a cube."""
    rng = torch.Generator().manual_seed(0)
    weight = torch.randn(1, 2, 3, 4, 5, generator=rng, dtype=torch.float64)
    x = torch.randn(3, 2, 3, 4, 5, generator=rng, dtype=torch.float64, requires_grad=True)
    penalty = gradient_penalty((weight * x).flatten(1).sum(1), x)
    torch.testing.assert_close(penalty, weight.square().sum())


def test_the_penalty_is_the_mean_over_the_batch() -> None:
    x = torch.arange(6.0, dtype=torch.float64).reshape(2, 1, 3, 1, 1).requires_grad_()
    # D = sum x^2 / 2 has the gradient x: ||x||^2 is 0 + 1 + 4 and 9 + 16 + 25.
    penalty = gradient_penalty(x.square().sum() / 2, x)
    assert penalty.item() == pytest.approx((5 + 50) / 2)


@pytest.mark.parametrize("kind", ["patch", "conditional"])
def test_the_penalty_of_a_critic_against_finite_differences_on_a_volume_that_is_no_cube(kind: str) -> None:
    torch.manual_seed(0)
    critic = Discriminator(DiscriminatorConfig(kind=kind, channels=2, layers=1)).double().eval()
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(1, 1, 6, 8, 10, generator=rng, dtype=torch.float64, requires_grad=True)
    condition = torch.randn(1, 2, 6, 8, 10, generator=rng, dtype=torch.float64)
    tracer = torch.tensor([1])
    penalty = gradient_penalty(critic(x, condition, tracer), x).item()

    step, total = 1e-6, 0.0
    flat = x.detach().flatten()
    for i in range(flat.numel()):
        shifted = []
        for sign in (1, -1):
            moved = flat.clone()
            moved[i] += sign * step
            shifted.append(critic(moved.view(x.shape), condition, tracer).sum().item())
        total += ((shifted[0] - shifted[1]) / (2 * step)) ** 2
    assert penalty == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("kind", ["patch", "conditional"])
def test_the_penalty_reaches_the_critics_weights(kind: str) -> None:
    critic = Discriminator(DiscriminatorConfig(kind=kind, channels=2, layers=2))
    x = torch.randn(1, 1, 16, 16, 16, requires_grad=True)
    penalty = gradient_penalty(critic(x, torch.randn(1, 2, 16, 16, 16), torch.tensor([0])), x)
    gradients = torch.autograd.grad(penalty, list(critic.parameters()), allow_unused=True)
    assert any(g is not None and g.abs().sum() > 0 for g in gradients)
