"""Every shipped method keeps the contract of `relapet.model.interface.Method`."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import BaseModel

from contract_checks import (
    FACTS,
    check_method_config,
    check_method_phases,
    check_method_step,
    check_sample,
    made,
    noise_items,
)
from relapet.methods import METHODS, build_method
from relapet.methods.rela import Rela, RelaConfig
from relapet.model.interface import Draws
from relapet.training.loader import collate

NAMES = list(METHODS)
SHAPED = RelaConfig.model_validate(
    {
        "noise": "shaped",
        "tracers": "all",
        "mean_share": 0.2,
        "regional_weight": 1.0,
        "generator": {"channels": (8, 8), "residual_blocks": 1, "packed": True},
        "discriminator": {"channels": 4, "layers": 2},
    }
)
"""All that rela has beyond what is published, at once."""
AT_ONCE = [name for name in NAMES if "tracers" in METHODS[name].Config.model_fields]
TRAINED = [name for name in NAMES if made(METHODS[name]).phases()]


def at_once(name: str) -> BaseModel:
    """Small, with all tracers in a call."""
    settings = {"tracers": "all", "generator": {"channels": (8, 8), "residual_blocks": 1}}
    return METHODS[name].Config.model_validate(settings)


@pytest.mark.parametrize("name", NAMES)
def test_settings_carry_name_and_meanings(name: str) -> None:
    check_method_config(name, METHODS[name])


@pytest.mark.parametrize("name", NAMES)
def test_phases_are_unique_and_train_the_methods_own_networks(name: str) -> None:
    method = build_method(METHODS[name].Config().model_dump(mode="json"), FACTS)
    assert isinstance(method, METHODS[name])
    check_method_phases(method)


@pytest.mark.parametrize("name", TRAINED)
def test_one_step_changes_every_trained_network_the_same_way_each_time(name: str) -> None:
    check_method_step(METHODS[name])


@pytest.mark.parametrize("name", NAMES)
def test_samples_keep_shape_and_range_and_depend_on_what_they_are_of(name: str) -> None:
    check_sample(METHODS[name])


@pytest.mark.parametrize("name", AT_ONCE)
def test_with_all_tracers_at_once_it_steps_and_samples(name: str) -> None:
    settings = at_once(name)
    check_method_step(METHODS[name], settings)
    check_sample(METHODS[name], settings)


@pytest.mark.parametrize("name", AT_ONCE)
def test_what_stands_in_place_of_a_pet_that_is_missing_plays_no_part(name: str) -> None:
    method = made(METHODS[name], at_once(name))
    batch = collate([noise_items(together=True)[n] for n in (0, 2)])
    assert batch.present.tolist() == [[True] * 3, [True, True, False]]
    other = batch.pet.clone()
    other[1, 2] = 0.3
    for step in {phase.first_step for phase in method.phases()}:
        found = []
        for given in (batch, replace(batch, pet=other)):
            draws = Draws(tuple(torch.Generator().manual_seed(n) for n in range(2)))
            made_of = method.forward(given, draws, step)
            found.append([phase.loss(made_of)["total"] for phase in method.phases() if phase.runs_at(step)])
        assert found[0] == found[1]
        assert all(loss.isfinite() for loss in found[0])


def test_rela_in_shaped_noise_with_all_tracers_at_once_steps_and_samples() -> None:
    check_method_step(Rela, SHAPED)
    check_sample(Rela, SHAPED)
