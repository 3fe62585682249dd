from __future__ import annotations

from typing import Any

import pytest
import torch

from relapet.methods.rela import Rela, RelaConfig
from relapet.model.interface import Batch, Condition, Draws
from relapet.model.parametrisation import wiener
from relapet.synthesis.sample_config import SampleConfig
from support import batch_of, facts

SMALL: dict[str, Any] = {
    "generator": {"channels": (8, 8), "residual_blocks": 1},
    "discriminator": {"kind": "conditional", "channels": 4, "layers": 2},
}


def make(**settings: Any) -> Rela:
    torch.manual_seed(0)
    prior = settings.pop("prior", False)
    return Rela(RelaConfig.model_validate(SMALL | settings), facts(prior))


def batch(size: int = 2, prior: bool = False) -> Batch:
    rng = torch.Generator().manual_seed(3)
    pet = torch.rand((size, 1, 8, 12, 16), generator=rng) * 2 - 1
    mri = torch.rand((size, 2, 8, 12, 16), generator=rng) * 2 - 1
    return batch_of(pet, mri, torch.full_like(pet, -0.2) if prior else None)


def draws(size: int = 2, seed: int = 0) -> Draws:
    return Draws(tuple(torch.Generator().manual_seed(seed + i) for i in range(size)))


def test_without_the_adversarial_term_it_is_ficd() -> None:
    """No critic, one phase, and the loss is the noise error plus the image L1, whatever the critic's settings."""
    method = make(prediction="eps", adversarial_weight=0.0)
    assert list(method.networks) == ["generator"]
    (phase,) = method.phases()
    shared = method.forward(batch(), draws(), step=10_000)
    losses = phase.loss(shared)
    by_hand = ((shared.prediction - shared.target) ** 2).mean() + (shared.x0_hat - batch().pet).abs().mean()
    torch.testing.assert_close(losses["total"], by_hand)
    assert set(losses) == {"total", "target", "image"}


def test_before_its_start_the_adversarial_term_changes_nothing() -> None:
    """The generator's loss and gradient equal those of the method without the term, bit for bit."""
    results = []
    for settings in ({"adversarial_weight": 0.0}, {"adversarial_weight": 1.0, "adversarial_start": 5}):
        method = make(**settings)
        generator_phase = method.phases()[-1]
        total = generator_phase.loss(method.forward(batch(), draws(), step=4))["total"]
        gradients = torch.autograd.grad(total, generator_phase.parameters(), allow_unused=True)
        results.append((total, gradients))
    assert torch.equal(results[0][0], results[1][0])
    for one, other in zip(results[0][1], results[1][1], strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


def test_the_critic_is_trained_on_the_detached_prediction() -> None:
    method = make(adversarial_start=0)
    critic_phase, generator_phase = method.phases()
    shared = method.forward(batch(), draws(), step=0)
    critic_total = critic_phase.loss(shared)["total"]
    gradients = torch.autograd.grad(
        critic_total, generator_phase.parameters(), allow_unused=True, retain_graph=True
    )
    assert all(gradient is None for gradient in gradients)
    assert generator_phase.loss(shared)["adversarial"].requires_grad


def test_the_penalty_enters_with_half_gamma() -> None:
    method = make(penalty_weight=0.5)
    losses = method.phases()[0].loss(method.forward(batch(), draws(), step=0))
    expected = losses["adversarial"] + 0.25 * (losses["r1"] + losses["r2"])
    torch.testing.assert_close(losses["total"], expected)


def test_gamma_falls_ten_fold_from_the_start_of_the_adversarial_term() -> None:
    method = make(penalty_weight=0.5, adversarial_start=10, penalty_anneal_steps=20)
    for step, gamma in ((10, 0.5), (20, 0.275), (30, 0.05), (1000, 0.05)):
        losses = method.phases()[0].loss(method.forward(batch(), draws(), step=step))
        expected = losses["adversarial"] + gamma / 2 * (losses["r1"] + losses["r2"])
        torch.testing.assert_close(losses["total"], expected)


def test_without_gamma_no_penalty_is_computed() -> None:
    method = make(penalty_weight=0.0)
    losses = method.phases()[0].loss(method.forward(batch(), draws(), step=0))
    assert set(losses) == {"total", "adversarial"}


def test_the_released_penalty_is_weaker_by_the_depth_of_the_volume() -> None:
    penalties = []
    for reduction in ("full", "released"):
        method = make(penalty_reduction=reduction)
        penalties.append(method.phases()[0].loss(method.forward(batch(), draws(), step=0))["r1"])
    torch.testing.assert_close(penalties[0], penalties[1] * 16)  # volumes are 8 x 12 x 16


@pytest.mark.parametrize("kind", ["relativistic", "standard"])
def test_the_adversarial_loss_is_one_setting_for_both_players(kind: str) -> None:
    method = make(adversarial_loss=kind, penalty_weight=0.0)
    critic_phase, generator_phase = method.phases()
    shared, b = method.forward(batch(), draws(), step=0), batch()
    critic = method.networks["discriminator"]
    real, fake = (critic(x, b.condition, shared.t) for x in (b.pet, shared.x0_hat))
    softplus = torch.nn.functional.softplus
    if kind == "standard":
        by_hand = softplus(-real).mean() + softplus(fake).mean(), softplus(-fake).mean()
    else:
        by_hand = softplus(fake - real).mean(), softplus(real - fake).mean()
    torch.testing.assert_close(critic_phase.loss(shared)["total"], by_hand[0])
    torch.testing.assert_close(generator_phase.loss(shared)["adversarial"], by_hand[1])


@pytest.mark.parametrize("weight", ["target_weight", "image_weight", "adversarial_weight"])
def test_each_loss_weight_scales_its_own_term(weight: str) -> None:
    term = {"target_weight": "target", "image_weight": "image", "adversarial_weight": "adversarial"}[weight]
    totals = []
    for value in (1.0, 3.0):
        method = make(**{weight: value})
        losses = method.phases()[-1].loss(method.forward(batch(), draws(), step=0))
        totals.append(losses["total"])
    torch.testing.assert_close(totals[1] - totals[0], 2 * losses[term])


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_a_sample_stays_in_range(prediction: str) -> None:
    method = make(prediction=prediction)
    b = batch()
    x_0 = method.sample(b.condition, SampleConfig(steps=2), draws())
    assert x_0.shape == b.pet.shape
    assert x_0.abs().max() <= 1


def test_an_untrained_preconditioned_network_gives_what_x_t_alone_says() -> None:
    """Its last layer begins at zero: the posterior mean about the prior, which at pure noise is the prior."""
    method, b, sd = make(prior=True, residual_sd=0.1), batch(prior=True), 0.1
    t = torch.tensor([999, 3])
    x_t = method.schedule.mix(b.pet, torch.randn_like(b.pet), t)
    signal, noise = method.schedule.signal_and_noise(t, x_t)
    weight = signal * sd**2 / ((signal * sd) ** 2 + noise**2)
    by_hand = -0.2 + weight * (x_t + 0.2 * signal)
    predicted = method.parametrisation.predict(method.networks["generator"], x_t, t, b.condition)
    torch.testing.assert_close(predicted, by_hand)
    assert (by_hand[0] + 0.2).abs().max() < 0.01


def test_without_its_sd_the_residual_is_added_as_it_is() -> None:
    """Its last layer begins at zero: the prior, whatever the noise."""
    method, b = make(prior=True), batch(prior=True)
    x_t, t = torch.randn_like(b.pet), torch.tensor([999, 3])
    predicted = method.parametrisation.predict(method.networks["generator"], x_t, t, b.condition)
    torch.testing.assert_close(predicted, torch.full_like(predicted, -0.2))


def test_the_preconditioned_network_is_asked_for_a_normal_number() -> None:
    """With residuals of the stated deviation its ideal output has deviation 1, whatever the timestep."""
    sd = 0.1
    schedule = make().schedule
    rng = torch.Generator().manual_seed(0)
    x_0 = sd * torch.randn((5, 1, 32, 32, 32), generator=rng)
    t = torch.tensor([0, 10, 100, 500, 999])
    x_t = schedule.mix(x_0, torch.randn(x_0.shape, generator=rng), t)
    known, unknown = wiener(schedule, x_t, torch.zeros_like(x_0), t, sd)
    wanted = ((x_0 - known) / unknown).flatten(1).std(dim=1)
    torch.testing.assert_close(wanted, torch.ones(5), atol=0.02, rtol=0)


def test_a_residual_of_noise_is_refused() -> None:
    with pytest.raises(ValueError, match="residual_sd needs prediction: x0"):
        make(prediction="eps", residual_sd=0.1)


def test_a_volumes_draws_do_not_depend_on_the_batch() -> None:
    method, b = make(), batch()
    together = method.forward(b, draws(2), step=0)
    second = Condition(b.condition.mri[1:], None, b.condition.tracer[1:])
    alone = method.forward(Batch(b.pet[1:], b.present[1:], second), draws(1, seed=1), step=0)
    assert torch.equal(together.target[1:], alone.target)
    torch.testing.assert_close(together.x0_hat[1:], alone.x0_hat)
