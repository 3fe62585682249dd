from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional

from relapet.methods.ddgan import Ddgan, DdganConfig
from relapet.model.diffusion import few_step_schedule
from relapet.model.interface import Batch, Draws
from relapet.synthesis.sample_config import SampleConfig
from support import batch_of, facts

SMALL: dict[str, Any] = {
    "generator": {"channels": (8, 8), "residual_blocks": 1},
    "discriminator": {"channels": 4, "layers": 2, "timestep_conditioned": True},
    "latent": 5,
}


def made(prior: bool = False, **settings: Any) -> Ddgan:
    torch.manual_seed(0)
    method = Ddgan(DdganConfig.model_validate(SMALL | settings), facts(prior))
    # MONAI starts the last convolution of each block at 0: give it something to pass on.
    for parameter in method.networks.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return method


def batch(prior: bool = False) -> Batch:
    rng = torch.Generator().manual_seed(3)
    pet = torch.rand((2, 1, 8, 12, 16), generator=rng) - 0.5
    mri = torch.rand((2, 2, 8, 12, 16), generator=rng) * 2 - 1
    return batch_of(pet, mri, torch.full_like(pet, -0.2) if prior else None)


def draws(seed: int = 0) -> Draws:
    return Draws(tuple(torch.Generator().manual_seed(seed + i) for i in range(2)))


def test_with_one_step_it_is_a_conditional_gan() -> None:
    """The players see the maps themselves, the noise tells nothing of the PET, and a sample is one call."""
    method, b = made(timesteps=1, penalty_weight=0.0), batch()
    step = method.forward(b, draws(), 0)
    assert torch.equal(step.real, b.pet)
    torch.testing.assert_close(step.fake, step.clean, atol=1e-6, rtol=1e-6)
    told = torch.corrcoef(torch.stack([step.x_t.flatten(), b.pet.flatten()]))[0, 1]
    assert abs(told) < 4 / math.sqrt(b.pet.numel())
    critic_phase, generator_phase = method.phases()

    def judge(pet: torch.Tensor) -> torch.Tensor:
        both = torch.cat([pet, step.x_t], dim=1)
        logits: torch.Tensor = method.networks["discriminator"](both, b.condition, torch.zeros(2).long())
        return logits

    real, fake = judge(b.pet), judge(step.clean)
    by_hand = functional.softplus(-real).mean() + functional.softplus(fake).mean()
    torch.testing.assert_close(critic_phase.loss(step)["total"], by_hand)
    torch.testing.assert_close(generator_phase.loss(step)["total"], functional.softplus(-fake).mean())
    found = method.sample(b.condition, SampleConfig(sampler="ddpm", steps=1), draws(7))
    again = draws(7)
    noise = again.normal(b.pet)
    again.normal(b.pet)  # which the last step draws and does not use
    z = again.vector(5)
    called = method.networks["generator"](noise, torch.zeros(2).long(), b.condition, z).clamp(-1, 1)
    torch.testing.assert_close(found, called, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("length", [1, 2, 4, 8])
def test_few_steps_lead_to_noise(length: int) -> None:
    """The product of the steps is that of the SDE: exp(-(b + B) / 2)."""
    schedule = few_step_schedule(length)
    assert schedule.alpha_bar[-1].item() == pytest.approx(math.exp(-(0.1 + 20) / 2), rel=1e-3)
    assert (schedule.alpha_bar.diff() < 0).all()


def test_two_neighbours_of_a_walk_are_drawn_as_the_process_says() -> None:
    """x_t by way of x_{t-1} has the mean and spread of x_t."""
    schedule, rng = few_step_schedule(4), torch.Generator().manual_seed(0)
    x_0 = torch.full((1, 1, 40, 40, 40), 0.7, dtype=torch.float64)
    for now in range(4):
        t = torch.tensor([now])
        noise = [torch.randn(x_0.shape, generator=rng, dtype=torch.float64) for _ in range(2)]
        x_t = schedule.onward(schedule.mix(x_0, noise[0], t - 1), noise[1], t)
        signal, deviation = schedule.signal_and_noise(t, x_0)
        assert x_t.mean().item() == pytest.approx(0.7 * signal.item(), abs=0.02)
        assert x_t.std().item() == pytest.approx(deviation.item(), rel=0.02)


def test_the_penalty_is_on_the_measured_volume_alone() -> None:
    method = made(penalty_weight=0.5)
    losses = method.phases()[0].loss(method.forward(batch(), draws(), 0))
    torch.testing.assert_close(losses["total"], losses["adversarial"] + 0.25 * losses["r1"])
    assert losses["r1"] > 0


def test_the_critic_sees_the_step_before_and_the_timestep() -> None:
    method, b = made(), batch()
    step = method.forward(b, draws(), 0)
    critic, t = method.networks["discriminator"], torch.tensor([0, 0])
    base = critic(torch.cat([step.real, step.x_t], dim=1), b.condition, t)
    assert not torch.equal(base, critic(torch.cat([step.real, -step.x_t], dim=1), b.condition, t))
    assert not torch.equal(base, critic(torch.cat([step.real, step.x_t], dim=1), b.condition, t + 3))


def test_samples_differ_by_the_latent_and_the_noise() -> None:
    method, b = made(prior=True), batch(prior=True)
    samples = [
        method.sample(b.condition, SampleConfig(sampler="ddpm", steps=4), draws(seed)) for seed in (0, 0, 9)
    ]
    assert torch.equal(samples[0], samples[1])
    assert not torch.equal(samples[0], samples[2])
