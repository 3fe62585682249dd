"""Stated probabilities are judged where they are, against the measured composite of the same subjects."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from relapet.cli import main
from relapet.evaluation.config import EvaluationConfig
from relapet.evaluation.evaluate import evaluate
from relapet.imaging.bids import Visit, write_table
from relapet.report.summary import write_summary
from relapet.tracers import TracerSpec, get_tracer

QUICK = EvaluationConfig(bootstrap=50)
TAU, PIB = get_tracer("tau"), get_tracer("pib")


def state(root: Path, visit: Visit, tracer: TracerSpec, probability: float) -> Path:
    rule = tracer.positivity
    assert rule is not None
    path = visit.voi_table(root, tracer, "synth")
    rows = pd.DataFrame({"name": ["CSF", rule.composite], "mean": 1.0})
    rows["probability_positive"] = [math.nan, probability]
    write_table(path, rows, {"PositivityThreshold": rule.threshold})
    return path


@pytest.fixture
def halfway(cohort, trees, tmp_path):
    """Twelve subjects of two tracers; tau and PiB state 0.1, 0.2 ... in the order of the subjects."""
    root = trees.synthetic(tmp_path / "s", cohort, cohort.halfway, "rela", [])
    for number, visit in enumerate(cohort.visits):
        for tracer in (TAU, PIB):
            state(root, visit, tracer, number / 12)
    return root


def test_scores_are_those_of_the_tables_and_of_measured_positivity(cohort, halfway, tmp_path):
    result = evaluate(cohort.root, [halfway], tmp_path / "out", QUICK)
    scores = pd.read_csv(tmp_path / "out" / "positivity_probability.tsv", sep="\t").set_index("tracer")
    voi = result.tables["voi"]
    for tracer in (TAU, PIB):
        rows = voi.query(f"tracer == '{tracer.name}' and method == 'rela'").set_index("subject")
        rows = rows[rows["voi"] == tracer.positivity.composite].sort_index()
        truth = rows["real_suvr"] > tracer.positivity.threshold
        row = scores.loc[tracer.name]
        assert (row["n"], row["n_positive"]) == (12, truth.sum())
        assert row["brier"] == pytest.approx(np.mean((np.arange(12) / 12 - truth) ** 2))
        assert row["brier_base_rate"] == pytest.approx(truth.mean() * (1 - truth.mean()))
        called = rows["synth_suvr"] > tracer.positivity.threshold
        assert row["brier_threshold"] == pytest.approx((called != truth).mean())
        assert row["to_threshold"] == pytest.approx(row["brier"] - row["brier_threshold"])
        assert row["brier_low"] <= row["brier"] <= row["brier_high"]
    bins = pd.read_csv(tmp_path / "out" / "positivity_reliability.tsv", sep="\t")
    assert list(bins.query("tracer == 'tau'")["n"]) == [3, 2, 3, 2, 2]
    assert bins.groupby("tracer")["n_positive"].sum().to_dict() == scores["n_positive"].to_dict()
    text = write_summary(result).read_text()
    assert "## Probability of positivity" in text
    assert "nan" not in text
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["probability"]["scores"][0]["n"] == 12


def test_sessions_are_averaged_and_only_scored_ones_count(trees, tmp_path):
    measured = trees.cohort(tmp_path / "real", 4, ("tau",), sessions=("a", "b"), truth=False)
    root = trees.synthetic(tmp_path / "s", measured, measured.visible, "rela", [])
    for visit in measured.visits:
        state(root, visit, TAU, 0.1 if visit.session == "a" else 0.2)
    state(root, Visit("99", "a"), TAU, 0.9)
    result = evaluate(measured.root, [root], tmp_path / "out", QUICK)
    (row,) = result.tables["positivity_reliability"].query("n > 0").to_dict("records")
    assert row["n"] == 4
    assert row["predicted"] == pytest.approx(0.15)


def test_trees_without_probabilities_have_no_tables(small, tmp_path):
    measured, root = small
    result = evaluate(measured.root, [root], tmp_path / "out", QUICK)
    assert "probability" not in result.summary
    assert result.unmet == {}
    assert not list((tmp_path / "out").glob("positivity_*.tsv"))


def test_a_broken_tree_takes_itself_away_alone(cohort, halfway, trees, tmp_path):
    other = trees.synthetic(tmp_path / "o", cohort, cohort.visible, "regression", [])
    path = state(other, cohort.visits[0], TAU, 1.5)
    result = evaluate(cohort.root, [halfway, other], tmp_path / "out", QUICK)
    assert set(result.tables["positivity_probability"]["method"]) == {"rela"}
    assert result.unmet == {
        "probability of positivity regression": f"The column probability_positive of {path} gives temporal_meta_roi no "
        "number from 0 to 1; synthesize it anew."
    }


def test_synthesis_and_evaluation_work_together(toy_source, synthetic, tmp_path):
    assert main(["evaluate", str(toy_source), str(synthetic), str(tmp_path), "--quiet"]) == 0
    scores = pd.read_csv(tmp_path / "positivity_probability.tsv", sep="\t")
    stated = pd.concat(pd.read_csv(path, sep="\t") for path in synthetic.rglob("*desc-synth_suvr.tsv"))
    assert list(scores["n"]) == [stated["probability_positive"].notna().sum()]
    listed = pd.read_csv(tmp_path / "figures" / "figures.tsv", sep="\t").set_index("figure")["tables"]
    name = "reliability_method-rela.png"
    assert listed[name] == "positivity_reliability.tsv, positivity_probability.tsv"
    assert (tmp_path / "figures" / name).is_file()
