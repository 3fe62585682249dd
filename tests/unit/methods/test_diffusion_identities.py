"""What one diffusion method is of another: rela without its critic is FICD, FICD without its image L1 is DDPM."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from contract_checks import noise_items
from relapet.data.augment import AugmentConfig
from relapet.methods import METHODS
from relapet.model.interface import DataFacts, Draws, Method
from relapet.synthesis.sample_config import SampleConfig
from relapet.training.engine import Hooks, Trainer
from relapet.training.loader import Source
from relapet.training.train_config import TrainConfig
from support import batch_of, condition_of, facts

SMALL = {"generator": {"channels": (8, 8), "residual_blocks": 1}}
SIDE = 16


def trained(name: str, **settings: Any) -> Method:
    """A method after three steps, without a prior."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        known = DataFacts(tracers=3, tracer_slots=4, prior=False, shape=(SIDE,) * 3, voxel_mm=8.0)
        method: Method = METHODS[name](METHODS[name].Config.model_validate(SMALL | settings), known)
    items = noise_items(together=False)
    items._made = _without_prior(items._made)  # type: ignore[method-assign]
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    Trainer(method, Source(items, AugmentConfig()), TrainConfig(steps=3), fabric).run(Hooks())
    method.networks.eval()
    return method


def _without_prior(made: Any) -> Any:
    return lambda *args: replace(made(*args), prior=None)


def sampled(method: Method) -> Tensor:
    rng = torch.Generator().manual_seed(1)
    condition = condition_of(torch.rand((1, 2, SIDE, SIDE, SIDE), generator=rng) * 2 - 1, [2])
    with torch.no_grad():
        return method.sample(
            condition, SampleConfig(steps=4), Draws((torch.Generator().manual_seed(3),)), None
        )


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("rela", {"adversarial_weight": 0.0, "image_weight": 0.7}), ("ficd", {"image_weight": 0.7})),
        (("ficd", {"image_weight": 0.0}), ("ddpm", {})),
    ],
    ids=["rela-ficd", "ficd-ddpm"],
)
def test_they_train_and_sample_the_same_bit_for_bit(
    one: tuple[str, dict[str, Any]], other: tuple[str, dict[str, Any]], prediction: str
) -> None:
    first, second = (trained(name, prediction=prediction, **settings) for name, settings in (one, other))
    weights = [dict(method.networks["generator"].named_parameters()) for method in (first, second)]
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name
    assert torch.equal(sampled(first), sampled(second))


def test_the_image_l1_is_told_apart() -> None:
    assert not torch.equal(
        sampled(trained("ficd", prediction="x0")), sampled(trained("ddpm", prediction="x0"))
    )


def test_with_a_prior_it_is_what_the_prior_leaves_that_is_noised() -> None:
    """In units of its size: a network that gives the noise back finds the remainder, and the PET."""
    pet = torch.rand((1, 1, 8, 12, 16), generator=torch.Generator().manual_seed(0)) - 0.5
    mri = torch.zeros((1, 2, 8, 12, 16))
    batch = batch_of(pet, mri, prior=torch.full_like(pet, -0.2))
    method = METHODS["ddpm"](METHODS["ddpm"].Config.model_validate(SMALL), facts(prior=True))
    method.fit([batch])
    size = (pet + 0.2).square().mean().sqrt()
    torch.testing.assert_close(method.fitted()["residual_sd"][0], size)
    step = method.forward(batch, Draws((torch.Generator().manual_seed(0),)), 0)
    t = Draws((torch.Generator().manual_seed(0),)).integers(1000)
    x_0 = (pet + 0.2) / size
    x_t = method.form.schedule.mix(x_0, step.target, t)
    found = method.frame.out_of(method.form.clean(step.target, x_t, t, batch.condition), batch.condition)
    torch.testing.assert_close(found, pet, atol=1e-4, rtol=0)
