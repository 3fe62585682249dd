"""Every shipped method keeps the contract of `relapet.model.interface.Method`."""

from __future__ import annotations

import pytest

from contract_checks import check_denoise, check_method_config, check_method_phases, check_method_step
from relapet.methods import METHODS, build_method

NAMES = list(METHODS)


@pytest.mark.parametrize("name", NAMES)
def test_settings_carry_name_and_meanings(name: str) -> None:
    check_method_config(name, METHODS[name])


@pytest.mark.parametrize("name", NAMES)
def test_phases_are_unique_and_train_the_methods_own_networks(name: str) -> None:
    method = build_method(METHODS[name].Config().model_dump(mode="json"))
    assert isinstance(method, METHODS[name])
    check_method_phases(method)


@pytest.mark.parametrize("name", NAMES)
def test_one_step_changes_every_trained_network_the_same_way_each_time(name: str) -> None:
    check_method_step(METHODS[name])


@pytest.mark.parametrize("name", NAMES)
def test_denoise_keeps_shape_and_range_and_sees_mri_and_tracer(name: str) -> None:
    check_denoise(METHODS[name])
