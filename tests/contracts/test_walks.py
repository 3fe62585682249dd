"""Every method, and a toy of a kind that none of them is, lives through the real commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract_checks import (
    check_method_config,
    check_method_phases,
    check_method_step,
    check_sample,
    made,
)
from method_walk import Subject, walk_through_the_commands
from relapet.methods import METHODS
from toys import cycle

PRESET_OF = {name: name for name in METHODS} | {"rela": "demo"}


@pytest.mark.parametrize("name", METHODS)
def test_a_shipped_method(name: str, tmp_path: Path) -> None:
    walk_through_the_commands(Subject(None, "", PRESET_OF[name]), tmp_path)


def test_a_toy_with_two_generators_unpaired_batches_and_an_image_pool(tmp_path: Path) -> None:
    check_method_config("cycle", cycle.Cycle)
    check_method_phases(made(cycle.Cycle))
    check_method_step(cycle.Cycle)
    check_sample(cycle.Cycle)
    preset = tmp_path / "cycle.yaml"
    preset.write_text("method: {name: cycle}\ntrain: {lr: 1.0e-3}\nsample: {steps: 1}\n", encoding="utf-8")
    walk_through_the_commands(Subject(Path(cycle.__file__), 'METHODS["cycle"] = Cycle', preset), tmp_path)
