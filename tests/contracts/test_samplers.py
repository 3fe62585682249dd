"""Every shipped sampler keeps the contract of `relapet.model.samplers`."""

from __future__ import annotations

from typing import get_args

import pytest

from contract_checks import check_sampler
from relapet.info import listing
from relapet.model.samplers import SAMPLERS
from relapet.synthesis.sample_config import SampleConfig


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_sampler(name: str) -> None:
    # The flow keeps the spread of what is not known, at one step too.
    row = SAMPLERS[name]
    check_sampler(row.walk, clean_at_once=name != "flow", calls_a_step=row.calls_a_step)


def test_settings_take_every_sampler_and_no_other() -> None:
    assert set(get_args(SampleConfig.model_fields["sampler"].annotation)) == set(SAMPLERS)


def test_every_sampler_is_listed_with_its_order_and_calls() -> None:
    rows = {row[0]: row[1:] for row in listing("samplers")[1:]}
    assert set(rows) == set(SAMPLERS)
    assert rows["heun"][1:] == ("2", "2 K - 1")
    assert rows["dpmpp"][1:] == ("2", "K")
