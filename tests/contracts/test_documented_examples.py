"""The examples of CONTRIBUTING.md work as they stand."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from contract_checks import (
    check_method_config,
    check_method_phases,
    check_method_step,
    check_metric,
    check_sample,
    check_sampler,
    made,
    run_sampler,
)
from method_walk import Subject, walk_through_the_commands
from relapet.evaluation import analyses
from relapet.evaluation.config import EvaluationConfig
from relapet.evaluation.evaluate import evaluate
from relapet.evaluation.interface import Analysis
from relapet.evaluation.scores import image_metrics
from relapet.model import samplers
from relapet.report.summary import write_summary
from relapet.tracers import get_tracer
from support import write_toy_derivative

CONTRIBUTING = Path(__file__).resolve().parents[2] / "CONTRIBUTING.md"


def block(start: str, language: str = "python") -> str:
    """The one fenced block of CONTRIBUTING.md whose text starts with ``start``."""
    text = CONTRIBUTING.read_text(encoding="utf-8")
    found = [
        code for code in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL) if code.startswith(start)
    ]
    assert len(found) == 1, start
    return found[0]


@pytest.fixture
def masked(tmp_path: Path) -> Iterator[ModuleType]:
    """The documented method, imported from a file of its own."""
    path = tmp_path / "masked_example.py"
    path.write_text(block('"""Masked regression'), encoding="utf-8")
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[path.stem] = module  # where pydantic and dataclasses look annotations up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[path.stem]


def test_the_method_keeps_the_contract(masked: ModuleType) -> None:
    check_method_config("masked", masked.Masked)
    check_method_phases(made(masked.Masked))
    check_method_step(masked.Masked)
    check_sample(masked.Masked)


def test_the_method_runs_through_the_commands(masked: ModuleType, tmp_path: Path) -> None:
    preset = tmp_path / "masked.yaml"
    preset.write_text(block("# Regression from MRI", "yaml"), encoding="utf-8")
    walk_through_the_commands(Subject(Path(str(masked.__file__)), block("METHODS["), preset), tmp_path)
    sidecars = [
        json.loads(path.read_text()) for path in (tmp_path / "synthetic").rglob("*_desc-synth_mimap.json")
    ]
    assert sidecars
    for sidecar in sidecars:  # random, but by no sampler
        assert "Seeds" in sidecar
        assert not {"Sampler", "Steps", "NetworkCalls"} & set(sidecar)


def test_the_sampler_keeps_the_contract() -> None:
    names = dict(vars(samplers))
    exec(block("def consistency("), names)
    check_sampler(names["consistency"])
    one, other = (run_sampler(names["consistency"], steps=4, seed=seed) for seed in (1, 2))
    assert not torch.equal(one, other)


def test_the_metric_keeps_the_contract() -> None:
    names = dict(vars(image_metrics))
    exec(block("def error_p95("), names)
    metric = eval(block('Metric("error_p95"'), names)
    check_metric(metric)
    real = np.zeros((12, 12, 12), np.float32)
    pair = image_metrics.ScanPair(real, real + np.float32(0.5), real == 0, (0.0, 2.5))
    assert metric.compute(pair) == pytest.approx(0.5)


def test_the_analysis_is_written_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spread = ModuleType("spread")
    exec(block('"""Does a method keep the differences'), vars(spread))
    row = eval(block('Analysis("spread"'), {"Analysis": Analysis, "spread": spread})
    monkeypatch.setattr(analyses, "ANALYSES", (*analyses.ANALYSES, row))
    toy = write_toy_derivative(tmp_path / "toy", 4, tracers=[get_tracer("tau")])
    result = evaluate(toy, [toy], tmp_path / "out", EvaluationConfig(bootstrap=20))
    assert result.unmet == {}
    np.testing.assert_allclose(result.tables["spread"]["sd_ratio"], 1)
    assert (result.out / "spread.tsv").is_file()
    assert "## Differences between people" in write_summary(result).read_text(encoding="utf-8")
