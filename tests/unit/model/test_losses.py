from __future__ import annotations

import math

import pytest
import torch

from relapet.errors import InputError
from relapet.model.discriminator import Discriminator, DiscriminatorConfig
from relapet.model.losses import (
    annealed,
    cube_means,
    fair_crps,
    gradient_penalty,
    least_squares_discriminator_loss,
    least_squares_generator_loss,
    relativistic_discriminator_loss,
    relativistic_generator_loss,
    standard_discriminator_loss,
    standard_generator_loss,
)
from support import condition_of, facts


def test_relativistic_losses_by_hand() -> None:
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([1.0, 3.0])
    by_hand = (math.log1p(math.exp(1.0)) + math.log1p(math.exp(-3.0))) / 2
    assert relativistic_generator_loss(fake, real).item() == pytest.approx(by_hand, abs=1e-6)
    by_hand = (math.log1p(math.exp(-1.0)) + math.log1p(math.exp(3.0))) / 2
    assert relativistic_discriminator_loss(real, fake).item() == pytest.approx(by_hand, abs=1e-6)


def test_standard_losses_by_hand() -> None:
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([1.0, -3.0])
    softplus = [math.log1p(math.exp(x)) for x in (-1.0, 3.0)]
    assert standard_generator_loss(fake, real).item() == pytest.approx(sum(softplus) / 2, abs=1e-6)
    on_real = (math.log1p(math.exp(-2.0)) + math.log(2)) / 2
    on_fake = (math.log1p(math.exp(1.0)) + math.log1p(math.exp(-3.0))) / 2
    assert standard_discriminator_loss(real, fake).item() == pytest.approx(on_real + on_fake, abs=1e-6)


def test_least_squares_losses_by_hand() -> None:
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([1.0, -3.0])
    assert least_squares_generator_loss(fake, real).item() == pytest.approx((0 + 16) / 2)
    assert least_squares_discriminator_loss(real, fake).item() == pytest.approx((1 + 1) / 2 + (1 + 9) / 2)


def test_a_critic_may_judge_several_volumes_and_be_shown_no_mri() -> None:
    config, rng = DiscriminatorConfig(channels=2, layers=2), torch.Generator().manual_seed(0)
    judged, mri = (torch.randn((1, 2, 8, 8, 8), generator=rng) for _ in range(2))
    t = torch.zeros(1, dtype=torch.int64)
    for sees_mri in (True, False):
        critic = Discriminator(config, facts(), channels=2, sees_mri=sees_mri)
        one, other = (critic(judged, condition_of(shown, [0]), t) for shown in (mri, -mri))
        assert torch.equal(one, other) is not sees_mri
        assert not torch.equal(one, critic(-judged, condition_of(mri, [0]), t))


@pytest.mark.parametrize("m", [2, 5])
def test_the_fair_score_of_normal_samples_is_that_of_the_normal(m: int) -> None:
    """``s (w (2 Phi(w) - 1) + 2 phi(w) - 1 / sqrt(pi))``, w = (y - mean) / s (Gneiting and Raftery 2007)."""
    mean, s, y = 0.3, 0.7, torch.tensor(1.1, dtype=torch.float64)
    rng = torch.Generator().manual_seed(0)
    samples = mean + s * torch.randn((m, 400_000), generator=rng, dtype=torch.float64)
    w = (float(y) - mean) / s
    phi, below = math.exp(-(w**2) / 2) / math.sqrt(2 * math.pi), 0.5 * (1 + math.erf(w / math.sqrt(2)))
    exact = s * (w * (2 * below - 1) + 2 * phi - 1 / math.sqrt(math.pi))
    assert fair_crps(samples, y.expand(400_000)).mean().item() == pytest.approx(exact, abs=0.003)
    # The samples' own score holds 1 / m of their mean distance too much, 2 s / sqrt(pi).
    plain = fair_crps(samples, y.expand(400_000), fairness=0).mean().item()
    assert plain == pytest.approx(exact + s / math.sqrt(math.pi) / m, abs=0.003)


def test_the_fair_score_is_lowest_for_the_true_distribution() -> None:
    rng = torch.Generator().manual_seed(0)
    z = torch.randn((2, 200_000), generator=rng, dtype=torch.float64)
    truth = 0.3 + 0.7 * torch.randn(200_000, generator=rng, dtype=torch.float64)
    mean, s = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.3, 0.7))
    score = fair_crps(mean + s * z, truth).mean()
    slopes = torch.autograd.grad(score, (mean, s))
    assert all(abs(slope) < 0.01 for slope in slopes)
    others = [fair_crps(m + d * z, truth).mean() for m, d in ((0.5, 0.7), (0.3, 0.4), (0.3, 1.1))]
    assert all(other > score + 0.005 for other in others)


def test_means_over_cubes_are_by_weight() -> None:
    volumes = torch.arange(16.0).reshape(1, 1, 4, 2, 2)
    weight = torch.ones_like(volumes)
    weight[0, 0, 0] = 0
    means, inside = cube_means(volumes, weight, 2)
    torch.testing.assert_close(means.flatten(), torch.tensor([5.5, 11.5]))
    torch.testing.assert_close(inside.flatten(), torch.tensor([0.5, 1.0]))


@pytest.mark.parametrize(
    "loss",
    [
        relativistic_generator_loss,
        relativistic_discriminator_loss,
        lambda fake, real: standard_generator_loss(fake, real) + 0 * real.sum(),
        standard_discriminator_loss,
    ],
)
def test_gradients_of_the_losses_against_finite_differences(loss: object) -> None:
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


def test_the_released_penalty_of_a_linear_critic() -> None:
    """Sum over channel, x and y, mean over batch and z: the square of the weights over the depth, here 5."""
    rng = torch.Generator().manual_seed(0)
    weight = torch.randn(1, 2, 3, 4, 5, generator=rng, dtype=torch.float64)
    x = torch.randn(3, 2, 3, 4, 5, generator=rng, dtype=torch.float64, requires_grad=True)
    penalty = gradient_penalty((weight * x).flatten(1).sum(1), x, "released")
    torch.testing.assert_close(penalty, weight.square().sum() / 5)


@pytest.mark.parametrize("reduction", ["full", "released"])
def test_the_penaltys_own_gradient_against_finite_differences(reduction: str) -> None:
    torch.manual_seed(0)
    critic = Discriminator(DiscriminatorConfig(kind="conditional", channels=2, layers=1), facts()).double()
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(1, 1, 4, 6, 8, generator=rng, dtype=torch.float64, requires_grad=True)
    condition = condition_of(torch.randn(1, 2, 4, 6, 8, generator=rng, dtype=torch.float64), [1])
    weight, t = critic.body.score.weight, torch.tensor([0])

    def penalty(w: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            weight.copy_(w)
        return gradient_penalty(critic(x, condition, t), x, reduction)

    start = weight.detach().clone()
    (gradient,) = torch.autograd.grad(penalty(start), weight)
    for index in (0, 17, weight.numel() - 1):
        shift = torch.zeros_like(start).flatten()
        shift[index] = 1e-6
        shift = shift.view_as(start)
        slope = (penalty(start + shift) - penalty(start - shift)) / 2e-6
        assert gradient.flatten()[index].item() == pytest.approx(slope.item(), rel=1e-5, abs=1e-8)


def test_annealing_is_ten_fold_and_then_constant() -> None:
    assert [annealed(2.0, step, 100) for step in (-5, 0, 100, 500)] == pytest.approx([2.0, 2.0, 0.2, 0.2])
    assert annealed(2.0, 50, 100) == pytest.approx(1.1)
    assert annealed(2.0, 50, 0) == 2.0


@pytest.mark.parametrize("kind", ["patch", "conditional"])
def test_the_penalty_of_a_critic_against_finite_differences_on_a_volume_that_is_no_cube(kind: str) -> None:
    torch.manual_seed(0)
    critic = Discriminator(DiscriminatorConfig(kind=kind, channels=2, layers=1), facts()).double().eval()
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(1, 1, 6, 8, 10, generator=rng, dtype=torch.float64, requires_grad=True)
    condition = condition_of(torch.randn(1, 2, 6, 8, 10, generator=rng, dtype=torch.float64), [1])
    t = torch.tensor([500])
    penalty = gradient_penalty(critic(x, condition, t), x).item()

    step, total = 1e-6, 0.0
    flat = x.detach().flatten()
    for i in range(flat.numel()):
        shifted = []
        for sign in (1, -1):
            moved = flat.clone()
            moved[i] += sign * step
            shifted.append(critic(moved.view(x.shape), condition, t).sum().item())
        total += ((shifted[0] - shifted[1]) / (2 * step)) ** 2
    assert penalty == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("kind", ["patch", "conditional"])
def test_the_penalty_reaches_the_critics_weights(kind: str) -> None:
    critic = Discriminator(DiscriminatorConfig(kind=kind, channels=2, layers=2), facts())
    x = torch.randn(1, 1, 16, 16, 16, requires_grad=True)
    condition = condition_of(torch.randn(1, 2, 16, 16, 16), [0])
    penalty = gradient_penalty(critic(x, condition, torch.tensor([0])), x)
    gradients = torch.autograd.grad(penalty, list(critic.parameters()), allow_unused=True)
    assert any(g is not None and g.abs().sum() > 0 for g in gradients)


def test_a_critic_that_is_told_the_timestep_learns_to_use_it() -> None:
    torch.manual_seed(0)
    x, condition = torch.randn(1, 1, 16, 16, 16), condition_of(torch.randn(1, 2, 16, 16, 16), [0])
    early, late = torch.tensor([10]), torch.tensor([900])
    deaf, told = (
        Discriminator(
            DiscriminatorConfig(kind="conditional", channels=2, layers=2, timestep_conditioned=told), facts()
        )
        for told in (False, True)
    )
    assert torch.equal(deaf(x, condition, early), deaf(x, condition, late))
    optimiser = torch.optim.Adam(told.parameters(), 0.01)
    for _ in range(20):  # that the same volume is worth more late than early
        loss = (told(x, condition, early) - told(x, condition, late)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < -0.01


def test_the_published_critic_cannot_be_told_the_timestep() -> None:
    with pytest.raises(InputError, match="timestep_conditioned"):
        DiscriminatorConfig(kind="patch", timestep_conditioned=True)
