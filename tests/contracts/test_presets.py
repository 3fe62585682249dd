"""Every shipped preset loads, means what it says and survives being written and read."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from contract_checks import made, starts, trained
from relapet.config import describe, load_config, presets
from relapet.methods import METHODS
from relapet.methods.rela import RelaConfig
from relapet.model.samplers import SAMPLERS
from relapet.tracers import get_tracer

NAMES = list(presets())


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is_for(name: str) -> None:
    first = presets()[name].read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")
    assert len(first) > 30


@pytest.mark.parametrize("name", NAMES)
def test_it_survives_a_file(name: str, tmp_path: Path) -> None:
    """What a run folder's config.yaml holds gives the same settings again."""
    config = load_config(name)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")), encoding="utf-8")
    assert load_config(file=path) == config


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_has_a_meaning(name: str) -> None:
    assert [key for key, _, meaning in describe(load_config(name)) if not meaning] == []


@pytest.mark.parametrize("name", NAMES)
def test_its_parts_fit_together(name: str) -> None:
    """The method has a preset of its name, the sampler's steps fit the schedule, and tracers are told apart."""
    config = load_config(name)
    assert set(METHODS) <= {*NAMES, "rela"}
    assert config.sample.sampler in SAMPLERS
    if isinstance(config.method, RelaConfig):
        assert config.sample.steps <= config.method.timesteps
    indices = [get_tracer(tracer).index for tracer in config.data.tracers]
    assert len(set(indices)) == len(indices)


@pytest.mark.parametrize("name", NAMES)
def test_it_trains(name: str) -> None:
    """One step with every phase; where one ends before another begins, a step with each."""
    config = load_config(name)
    method = made(METHODS[config.method.name], config.method)
    turns = set()
    for first in starts(method):
        _, losses = trained(METHODS[config.method.name], settings=config.method, first=first)
        assert all(math.isfinite(value) for value in losses.values())
        turns |= losses.keys()
    assert {f"{phase.name}/total" for phase in method.phases()} <= turns
