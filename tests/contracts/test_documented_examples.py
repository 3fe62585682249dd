"""The examples of CONTRIBUTING.md work as they stand."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import numpy as np
import pytest
import torch
import yaml
from pydantic import Field, TypeAdapter

from contract_checks import (
    check_denoise,
    check_method_config,
    check_method_phases,
    check_method_step,
    check_metric,
    check_sampler,
    run_sampler,
    trained,
)
from relapet.config import RunConfig
from relapet.evaluation import analyses
from relapet.evaluation.config import EvaluationConfig
from relapet.evaluation.evaluate import evaluate
from relapet.evaluation.interface import Analysis
from relapet.evaluation.scores import image_metrics
from relapet.methods.rela import Rela, RelaConfig
from relapet.model import samplers
from relapet.report.summary import write_summary
from relapet.synthesis.config import SampleConfig
from relapet.tracers import get_tracer
from relapet.training.config import TrainConfig
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
def oneshot(tmp_path: Path) -> Iterator[ModuleType]:
    """The documented method, imported from a file of its own."""
    path = tmp_path / "oneshot_example.py"
    path.write_text(block('"""One-shot prediction'), encoding="utf-8")
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[path.stem] = module  # where pydantic and dataclasses look annotations up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[path.stem]


def test_the_method_keeps_the_contract(oneshot: ModuleType) -> None:
    check_method_config("oneshot", oneshot.OneShot)
    check_method_phases(oneshot.OneShot(oneshot.OneShotConfig()))
    check_method_step(oneshot.OneShot)
    check_denoise(oneshot.OneShot)


def test_the_method_needs_one_network_call(oneshot: ModuleType) -> None:
    """Three steps give the volume that one gives, so the preset asks for one."""
    method = trained(oneshot.OneShot)[0].method
    method.networks.eval()
    condition = torch.rand((2, 2, 8, 8, 8), generator=torch.Generator().manual_seed(0))

    def sample(steps: int) -> torch.Tensor:
        noise = torch.zeros((2, 1, 8, 8, 8))
        with torch.no_grad():
            return samplers.ddim(
                lambda x_t, t: method.denoise(x_t, t, condition, torch.tensor([0, 1])),
                noise,
                method.schedule,
                steps,
            )

    torch.testing.assert_close(sample(1), sample(3))


def test_the_table_and_the_preset_take_the_method(oneshot: ModuleType) -> None:
    names: dict[str, Any] = {
        "Rela": Rela, "RelaConfig": RelaConfig, "Annotated": Annotated, "Field": Field, **vars(oneshot)
    }  # fmt: skip
    exec(block("METHODS ="), names)
    preset = yaml.safe_load(block("# One-shot", "yaml"))
    config = TypeAdapter(names["MethodConfig"]).validate_python(preset["method"])
    assert isinstance(config, names["METHODS"]["oneshot"].Config)
    assert isinstance(TypeAdapter(names["MethodConfig"]).validate_python({"name": "rela"}), RelaConfig)
    assert TrainConfig.model_validate(preset["train"]).steps == 1200
    assert SampleConfig.model_validate(preset["sample"]).steps == 1
    assert set(preset) <= set(RunConfig.model_fields)


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
