"""Every shipped sampler keeps the contract of `relapet.sampling.samplers`."""

from __future__ import annotations

from typing import get_args

import pytest

from contract_checks import check_sampler
from relapet.sampling.config import SampleConfig
from relapet.sampling.samplers import SAMPLERS


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_sampler(name: str) -> None:
    check_sampler(SAMPLERS[name])


def test_settings_take_every_sampler_and_no_other() -> None:
    assert set(get_args(SampleConfig.model_fields["sampler"].annotation)) == set(SAMPLERS)
