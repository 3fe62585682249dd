"""Every shipped sampler keeps the contract of `relapet.model.samplers`."""

from __future__ import annotations

from typing import get_args

import pytest

from contract_checks import check_sampler
from relapet.model.samplers import SAMPLERS
from relapet.synthesis.sample_config import SampleConfig


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_sampler(name: str) -> None:
    # The flow keeps the spread of what is not known, at one step too.
    check_sampler(SAMPLERS[name], clean_at_once=name != "flow")


def test_settings_take_every_sampler_and_no_other() -> None:
    assert set(get_args(SampleConfig.model_fields["sampler"].annotation)) == set(SAMPLERS)
