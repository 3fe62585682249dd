"""Every shipped method keeps the contract of `relapet.model.interface.Method`."""

from __future__ import annotations

import pytest

from contract_checks import (
    FACTS,
    check_method_config,
    check_method_phases,
    check_method_step,
    check_sample,
    made,
)
from relapet.methods import METHODS, build_method
from relapet.methods.crps import Crps, CrpsConfig
from relapet.methods.rela import Rela, RelaConfig

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
TRAINED = [name for name in NAMES if made(METHODS[name]).phases()]


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


def test_crps_with_all_tracers_at_once_steps_and_samples() -> None:
    generator = {"channels": (8, 8), "residual_blocks": 1}
    settings = CrpsConfig.model_validate({"tracers": "all", "generator": generator})
    check_method_step(Crps, settings)
    check_sample(Crps, settings)


def test_rela_in_shaped_noise_with_all_tracers_at_once_steps_and_samples() -> None:
    check_method_step(Rela, SHAPED)
    check_sample(Rela, SHAPED)
