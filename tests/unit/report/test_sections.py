from __future__ import annotations

import math

import pytest

from relapet.evaluation import analyses
from relapet.report.sections import WORDS, section_lines


def result_row(features: str, gain: float, low: float, p: float) -> dict[str, object]:
    return {
        "outcome": "memory", "method": "rela", "model": "ridge", "features": features, "metric": "r2", "n": 30,
        "value": 0.3 + gain, "ci_low": 0.1, "ci_high": 0.5, "gain": gain, "gain_low": low, "gain_high": gain + 0.1,
        "p_holm": p,
    }  # fmt: skip


STUDY = {
    "outcome": "memory", "method": "rela", "source": "cognition.tsv", "task": "regression", "classes": None, "n": 30,
    "n_of_class_1": None, "excluded": {"MRI": 2}, "features": {}, "missing_demographics": ["education"],
}  # fmt: skip


def test_only_analyses_have_words() -> None:
    assert set(WORDS) <= {analysis.key for analysis in analyses.ANALYSES}


def test_an_analysis_without_words_is_shown_as_tables() -> None:
    content = {
        "rows": [{"method": "rela", "share": 0.12345}],
        "threshold": math.nan,
        "empty": [],
        "nested": {},
    }
    assert section_lines("none", "Shares", content) == [
        "## Shares", "", "rows:", "", "| method | share |", "| --- | --- |", "| rela | 0.123 |", "",
        "threshold: n/a", "",
    ]  # fmt: skip
    assert section_lines("none", "Shares", {}) == []


def test_help_is_an_interval_above_zero_and_a_small_p() -> None:
    results = [
        result_row("mri", math.nan, math.nan, math.nan),
        result_row("mri+synthetic", 0.05, -0.01, 0.2),
        result_row("mri+real", 0.2, 0.1, 0.01),
    ]
    content = {"config": {}, "phenotype": None, "studies": [STUDY], "results": results}
    lines = section_lines("downstream", "Prediction of outcomes", content)
    assert lines[0] == "## Prediction of outcomes"
    assert "30 subjects (cognition.tsv); 2 lack MRI; participants.tsv has no education." in lines
    assert any(
        line.startswith("- Synthetic PET does not demonstrably add to the MRI (ridge: R2") for line in lines
    )
    assert "- Measured PET adds to the MRI (ridge: R2 +0.2 [0.1, 0.3], p = 0.01)." in lines
    assert section_lines("downstream", "Prediction of outcomes", content | {"results": []}) == []


@pytest.mark.parametrize(("interval", "attainable"), [("samples", "0.33"), ("conformal", "")])
def test_only_samples_have_an_attainable_coverage(interval: str, attainable: str) -> None:
    row = {
        "tracer": "tau", "method": "rela", "voi": "all", "level": 0.9, "n": 12, "coverage": 0.5, "ci_low": 0.4,
        "ci_high": 0.6, "width": 0.2, "n_samples": 2, "attainable": 0.33, "interval": interval,
    }  # fmt: skip
    lines = section_lines("uncertainty", "Uncertainty", {"coverage": [row]})
    assert f"| tau | rela | {interval} | 90% | 12 | 0.5 [0.4, 0.6] | 0.2 | {attainable} |" in lines
