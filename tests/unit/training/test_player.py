"""One player's turn: loss scaling in fp16 leaves the gradients as they are and leaves out steps that overflow."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision

from relapet.training.engine import Hooks, Trainer
from relapet.training.errors import TrainingError
from support import tiny_trainer


def half_trainer(*settings: str) -> Trainer:
    """In fp16 on the CPU, which is slow but computes what a GPU would."""
    fabric = Fabric(accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", "cpu")])
    return tiny_trainer("train.precision=16-mixed", "train.lr_warmup=0", *settings, fabric=fabric)


def scaled_gradients(scale: float) -> list[torch.Tensor]:
    trainer = half_trainer("train.clip_norm=0")
    player = trainer.players[-1]
    player.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    with trainer.loader as loader:
        shared = trainer._forward(loader.take(0)[0], 0)
    _, found = player._gradients(shared, 1)
    return [gradient / scale for gradient in found]


def full_gradients() -> list[torch.Tensor]:
    trainer = tiny_trainer("train.clip_norm=0")
    with trainer.loader as loader:
        shared = trainer._forward(loader.take(0)[0], 0)
    return trainer.players[-1]._gradients(shared, 1)[1]


def flat(tensors: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def test_scaled_gradients_are_those_of_full_precision() -> None:
    full, half = flat(full_gradients()), flat(scaled_gradients(1024.0))
    assert (half - full).norm() < 0.02 * full.norm()


def test_scaling_saves_gradients_that_would_vanish() -> None:
    """Small as gradients are late in a training: without the scale, fp16 loses most of them."""
    full = flat(full_gradients())
    errors = [(flat(scaled_gradients(scale)) - full).norm() / full.norm() for scale in (2.0**-14, 1024.0)]
    assert errors[1] < errors[0] / 10


def test_a_step_that_overflows_is_left_out_and_the_scale_halved() -> None:
    trainer = half_trainer("train.steps=1")
    generator = trainer.players[-1]
    generator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    before = {name: tensor.clone() for name, tensor in generator.phase.networks[0].state_dict().items()}
    trainer.run(Hooks())
    assert all(torch.equal(before[k], v) for k, v in generator.phase.networks[0].state_dict().items())
    assert generator.scaler.get_scale() == 2.0**39


def test_half_precision_trains_and_its_scale_is_resumed() -> None:
    trainer = half_trainer("train.steps=3")
    before = trainer.method.networks["generator"].unet.conv_in.conv.weight.clone()
    trainer.run(Hooks())
    assert not torch.equal(before, trainer.method.networks["generator"].unet.conv_in.conv.weight)
    trainer.players[-1].scaler.update(4096.0)
    resumed = half_trainer("train.steps=3")
    resumed.load_state_dict(trainer.state_dict() | {"step": 3})
    assert resumed.players[-1].scaler.get_scale() == 4096.0


def test_gradients_that_overflow_whatever_the_scale_stop_the_training() -> None:
    trainer = half_trainer("train.steps=3")
    trainer.players[-1].scaler = torch.amp.GradScaler("cpu", init_scale=1.5)
    player = trainer.players[-1]
    gradients = player._gradients
    player._gradients = lambda shared, count: (  # type: ignore[method-assign]
        gradients(shared, count)[0],
        [torch.full_like(p, torch.inf) for p in player.parameters],
    )
    with pytest.raises(TrainingError, match="overflow in fp16"):
        trainer.run(Hooks())


def test_a_record_that_does_not_fit_its_parameter_is_refused() -> None:
    trainer = tiny_trainer("train.steps=1")
    trainer.run(Hooks())
    for damage in (
        lambda record: record.pop("exp_avg"),
        lambda record: record.update(exp_avg=record["exp_avg"].flatten()[:0]),
        lambda record: record.update(step=torch.zeros(0)),
    ):
        state = deepcopy(trainer.players[0].state_dict())
        damage(state["optimizer"]["state"][0])
        with pytest.raises(ValueError, match="does not fit its parameters"):
            tiny_trainer().players[0].load_state_dict(state)


def test_weights_that_are_not_finite_are_told_and_not_written() -> None:
    trainer = tiny_trainer()
    trainer.require_finite_weights()
    next(trainer.method.networks["generator"].parameters()).data[...] = torch.nan
    with pytest.raises(TrainingError, match="weights of generator are not finite after step 0"):
        trainer.require_finite_weights()


def test_averages_of_another_network_are_refused() -> None:
    average = tiny_trainer().averages["generator"]
    weights = {name: tensor.flatten() for name, tensor in average.state_dict().items()}
    with pytest.raises(ValueError, match="another network"):
        average.load_state_dict(weights, torch.device("cpu"))
