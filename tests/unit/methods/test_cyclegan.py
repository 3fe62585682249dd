from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from relapet.methods.cyclegan import Cyclegan, CycleganConfig
from relapet.model.interface import Batch, Draws
from relapet.model.pool import FakePool
from support import batch_of, facts

SMALL: dict[str, Any] = {
    "generator": {"channels": (8, 8), "residual_blocks": 1},
    "discriminator": {"channels": 4, "layers": 2},
}


def made(**settings: Any) -> Cyclegan:
    torch.manual_seed(0)
    return Cyclegan(CycleganConfig.model_validate(SMALL | settings), facts())


def batch() -> Batch:
    rng = torch.Generator().manual_seed(3)
    pet = torch.rand((2, 1, 8, 12, 16), generator=rng) * 2 - 1
    return batch_of(pet, torch.rand((2, 2, 8, 12, 16), generator=rng) * 2 - 1)


def draws(seed: int = 0) -> Draws:
    return Draws(tuple(torch.Generator().manual_seed(seed + i) for i in range(2)))


def test_both_losses_by_hand() -> None:
    method, b = made(cycle_weight=3.0, pool=0), batch()
    critics_phase, generators_phase = method.phases()
    step, tracer = method.forward(b, draws(), 0), b.condition.tracer
    judged = {
        (side, what): method._judge(side, getattr(getattr(step, side), what), tracer)
        for side in ("pet", "mri")
        for what in ("real", "fake")
    }
    on_critics = sum(
        ((judged[side, "real"] - 1).square().mean() + judged[side, "fake"].square().mean()) / 2
        for side in ("pet", "mri")
    )
    torch.testing.assert_close(critics_phase.loss(step)["total"], on_critics)
    adversarial = sum((judged[side, "fake"] - 1).square().mean() for side in ("pet", "mri"))
    cycle = (step.pet.back - b.pet).abs().mean() + (step.mri.back - b.condition.mri).abs().mean()
    torch.testing.assert_close(generators_phase.loss(step)["total"], adversarial + 3 * cycle)


def test_the_critics_see_no_mri_beside_the_pet() -> None:
    """It would be of another person; and of the MRI the critic sees both channels."""
    method, b = made(), batch()
    critic = method.networks["pet_critic"].body
    assert critic.features[0].in_channels == 1
    assert method.networks["mri_critic"].body.features[0].in_channels == 2
    assert method.pairing == "unpaired"
    assert method.forward(b, draws(), 0).mri.fake.shape == b.condition.mri.shape


def test_a_full_pool_gives_back_the_past_half_of_the_time() -> None:
    pool = FakePool(4)
    first = torch.arange(4.0).reshape(4, 1, 1, 1, 1)
    tracer = torch.arange(4)[:, None]
    rng = Draws(tuple(torch.Generator().manual_seed(i) for i in range(4)))
    shown, told = pool.exchange(first, tracer, rng)
    assert torch.equal(shown, first)
    assert torch.equal(told, tracer)
    past = 0
    for turn in range(1, 101):
        new = first + 10 * turn
        shown, told = pool.exchange(new, tracer, rng)
        past += int((shown != new).sum())
        assert torch.equal(shown.flatten() % 10, told.flatten().float())  # a fake keeps its tracer
    assert 160 < past < 240
    assert len(pool.volumes) == 4


def test_a_pool_goes_on_where_it_was_and_refuses_what_is_too_much() -> None:
    pool, other = FakePool(3), FakePool(3)
    volumes, tracer = torch.rand(2, 1, 2, 2, 2), torch.zeros(2, 1)
    pool.exchange(volumes, tracer, draws())
    other.load_state_dict(pool.state_dict())
    one, two = (p.exchange(volumes + 1, tracer, draws(5))[0] for p in (pool, other))
    assert torch.equal(one, two)
    with pytest.raises(ValueError, match="another training"):
        FakePool(1).load_state_dict(pool.state_dict())


def test_a_cycle_that_closes_costs_nothing() -> None:
    method, b = made(), batch()
    step = method.forward(b, draws(), 0)
    closed = replace(step, pet=replace(step.pet, back=b.pet), mri=replace(step.mri, back=b.condition.mri))
    assert method.phases()[1].loss(closed)["cycle"] == 0


def test_a_batch_enters_the_pools_once_however_often_it_is_predicted() -> None:
    method, b = made(pool=50), batch()
    critics, generators = method.phases()
    for _ in critics, generators:  # as where gradients are accumulated
        step = method.forward(b, draws(), 0)
    critics.loss(step)
    generators.loss(step)
    assert [len(pool.volumes) for pool in method.pools.values()] == [len(b.pet)] * 2
