from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from relapet.methods.pix2pix import Pix2pix, Pix2pixConfig
from relapet.model.interface import Batch, Draws
from support import batch_of, facts

SMALL: dict[str, Any] = {
    "generator": {"channels": (8, 8), "residual_blocks": 1},
    "discriminator": {"channels": 4, "layers": 2},
}


def made(prior: bool = False, **settings: Any) -> Pix2pix:
    torch.manual_seed(0)
    return Pix2pix(Pix2pixConfig.model_validate(SMALL | settings), facts(prior))


def batch(prior: bool = False) -> Batch:
    rng = torch.Generator().manual_seed(3)
    pet = torch.rand((2, 1, 8, 12, 16), generator=rng) * 2 - 1
    mri = torch.rand((2, 2, 8, 12, 16), generator=rng) * 2 - 1
    return batch_of(pet, mri, torch.full_like(pet, -0.2) if prior else None)


def draws() -> Draws:
    return Draws(tuple(torch.Generator().manual_seed(i) for i in range(2)))


def test_both_players_losses_by_hand() -> None:
    method, b = made(image_weight=7.0), batch()
    critic_phase, generator_phase = method.phases()
    shared = method.forward(b, draws(), 0)
    critic, t = method.networks["discriminator"], torch.zeros(2, dtype=torch.int64)
    real, fake = (critic(pet, b.condition, t) for pet in (b.pet, shared.fake))
    on_critic = (functional.softplus(-real).mean() + functional.softplus(fake).mean()) / 2
    torch.testing.assert_close(critic_phase.loss(shared)["total"], on_critic)
    on_generator = functional.softplus(-fake).mean() + 7 * (shared.fake - b.pet).abs().mean()
    torch.testing.assert_close(generator_phase.loss(shared)["total"], on_generator)


def test_the_critics_turn_does_not_reach_the_generator() -> None:
    method = made()
    critic_phase, generator_phase = method.phases()
    total = critic_phase.loss(method.forward(batch(), draws(), 0))["total"]
    found = torch.autograd.grad(total, generator_phase.parameters(), allow_unused=True)
    assert all(gradient is None for gradient in found)


def test_the_critic_sees_whether_the_pet_is_of_this_brain() -> None:
    method, b = made(), batch()
    other = batch_of(b.pet, b.condition.mri.flip(0))
    critic, t = method.networks["discriminator"], torch.zeros(2, dtype=torch.int64)
    assert not torch.equal(critic(b.pet, b.condition, t), critic(b.pet, other.condition, t))


@pytest.mark.parametrize("prior", [False, True])
def test_an_untrained_generator_gives_the_prior_or_the_middle_of_the_window(prior: bool) -> None:
    """Its last layer begins at zero."""
    shared = made(prior).forward(batch(prior), draws(), 0)
    torch.testing.assert_close(shared.fake, torch.full_like(shared.fake, -0.2 if prior else 0.0))
