from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from relapet.errors import InputError
from relapet.evaluation import analyses
from relapet.evaluation.config import EvaluationConfig
from relapet.evaluation.evaluate import evaluate
from relapet.evaluation.interface import Analysis, Findings
from relapet.evaluation.scores.image_metrics import METRICS
from relapet.evaluation.tables import TableSpec
from relapet.report.summary import write_summary

SPEC = TableSpec("counts", "method", {"method": "name", "n": "scans"})
QUICK = EvaluationConfig(bootstrap=20)


def add_analysis(monkeypatch, run):
    row = Analysis("counts", "Counts", (SPEC,), run, "counting")
    monkeypatch.setattr(analyses, "ANALYSES", (*analyses.ANALYSES, row))


def test_a_new_analysis_is_written_and_shown(small, tmp_path, monkeypatch):
    table = pd.DataFrame({"method": ["rela"], "n": [8]})
    section = {"results": table.to_dict("records"), "share": 0.25}
    add_analysis(monkeypatch, lambda _: Findings({"counts": table}, section=section, notes=("Counted.",)))
    measured, root = small
    result = evaluate(measured.root, [root], tmp_path / "out", QUICK)
    assert (result.out / "counts.tsv").read_text() == "method\tn\nrela\t8\n"
    assert json.loads((result.out / "summary.json").read_text())["counts"] == section
    text = write_summary(result).read_text()
    assert "## Counts\n\nresults:\n\n| method | n |\n| --- | --- |\n| rela | 8 |\n\nshare: 0.25\n" in text
    assert "- Counted." in text


def test_an_analysis_that_cannot_be_done_is_named_and_the_others_stay(small, tmp_path, monkeypatch):
    def refuse(material):
        raise InputError("Nothing to go by; give more.")

    add_analysis(monkeypatch, refuse)
    measured, root = small
    result = evaluate(measured.root, [root], tmp_path / "out", QUICK)
    assert result.unmet == {"counting": "Nothing to go by; give more."}
    assert "- counting: Nothing to go by; give more." in write_summary(result).read_text()


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"other": pd.DataFrame()}, "gives a table other that its row does not name"),
        ({"counts": pd.DataFrame(columns=["method", "share"])}, "documented are: method, n"),
        ({"counts": pd.DataFrame(columns=["n", "method"])}, "documented are: method, n"),
    ],
)
def test_an_undocumented_table_or_column_is_an_error(tables, message):
    row = Analysis("counts", "Counts", (SPEC,), lambda _: None, "counting")
    with pytest.raises(ValueError, match=message):
        row.check(Findings(tables))


def test_keys_and_tables_are_unique():
    keys = [analysis.key for analysis in analyses.ANALYSES]
    names = [spec.name for analysis in analyses.ANALYSES for spec in analysis.tables]
    assert len(set(keys)) == len(keys)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "spec", [spec for analysis in analyses.ANALYSES for spec in analysis.tables], ids=lambda spec: spec.name
)
def test_the_documentation_lists_every_table_with_its_columns(spec):
    text = (Path(__file__).parents[4] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if line.startswith(f"| `{spec.name}.tsv` |")]
    assert spec.rows in line.replace("`", "")
    said = [word for word in line.split("`")[3::2] if word in spec.columns]
    elsewhere = METRICS if spec.name == "image_metrics" else ()  # "the image metrics above"
    assert list(dict.fromkeys(said)) == [column for column in spec.columns if column not in elsewhere]
