"""Where the flow and the bridge lead, and what their networks are asked for."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from relapet.methods import METHODS
from relapet.model.interface import Batch, Draws
from relapet.synthesis.sample_config import SampleConfig
from support import batch_of, facts

SMALL: dict[str, Any] = {"generator": {"channels": (8, 8), "residual_blocks": 1}, "timesteps": 20}


def made(name: str, prior: bool) -> Any:
    torch.manual_seed(0)
    return METHODS[name](METHODS[name].Config.model_validate(SMALL), facts(prior))


def batch(prior: bool) -> Batch:
    rng = torch.Generator().manual_seed(3)
    pet = torch.rand((2, 1, 8, 12, 16), generator=rng) * 0.2
    mri = torch.rand((2, 2, 8, 12, 16), generator=rng) - 0.5
    return batch_of(pet, mri, torch.full_like(pet, -0.2) if prior else None)


def draws() -> Draws:
    return Draws(tuple(torch.Generator().manual_seed(i) for i in range(2)))


@pytest.mark.parametrize("prior", [False, True])
@pytest.mark.parametrize("name", ["rectified_flow", "bridge"])
def test_the_target_stands_for_the_pet(name: str, prior: bool) -> None:
    """A network that gives what it is asked for finds the PET from any timestep."""
    method, b = made(name, prior), batch(prior)
    method.fit([b])
    step = method.forward(b, draws(), 0)
    t = draws().integers(20)
    eps = Draws(tuple(_after_integer(i) for i in range(2))).normal(b.condition.volumes())
    x_t = method.form.schedule.mix(method.frame.into(b.pet, b.condition), eps, t)
    found = method.frame.out_of(method.form.clean(step.target, x_t, t, b.condition), b.condition)
    torch.testing.assert_close(found, b.pet, atol=1e-5, rtol=0)


def _after_integer(seed: int) -> torch.Generator:
    generator = torch.Generator().manual_seed(seed)
    torch.randint(20, (1,), generator=generator)
    return generator


@pytest.mark.parametrize("prior", [False, True])
def test_the_bridge_starts_at_the_t1w_or_at_the_prior(prior: bool) -> None:
    """An untrained network says that nothing is to be changed, and one step leaves it at its end."""
    method, b = made("bridge", prior), batch(prior)
    with torch.no_grad():
        found = method.sample(b.condition, SampleConfig(sampler="ddpm", steps=1), draws())
    end = b.condition.prior if prior else b.condition.mri[:, :1]
    deviation = method.form.schedule.noise[-1] * (method.frame.unit(b.condition) if prior else 1)
    torch.testing.assert_close(
        (found - end).std(), torch.as_tensor(deviation).float().mean(), rtol=0.1, atol=0
    )
    assert (found - end).mean().abs() < 0.02
