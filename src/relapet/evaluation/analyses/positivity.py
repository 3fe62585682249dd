"""Whether a synthetic composite tells positive from negative subjects, for tracers with a threshold."""

from __future__ import annotations

from dataclasses import asdict

import pandas as pd

from relapet.evaluation.interface import Findings, Material
from relapet.evaluation.results import Results
from relapet.evaluation.statistics import classify
from relapet.evaluation.tables import TableSpec

TABLES = (
    TableSpec(
        "positivity",
        "method",
        {
            "tracer": "name",
            "method": "name, tracer_mean or a ceiling",
            "composite": "what the threshold is for",
            "threshold_suvr": "measured SUVr above which a subject is positive",
            "n": "subjects",
            "n_positive": "positive by measured PET",
            "auc": "of the synthetic composite for measured positivity",
            "auc_low": "lower end of its 95 % interval",
            "auc_high": "upper end",
            "sensitivity": "at the same threshold",
            "specificity": "at the same threshold",
            "reason": "why a value is missing",
        },
    ),
)


def run(material: Material) -> Findings:
    """Each row goes to its method's summary."""
    table = positivity_table(material.results)
    content = {
        (row["tracer"], row["method"]): {
            "positivity": {key: row[key] for key in row if key not in ("tracer", "method")}
        }
        for row in table.to_dict("records")
    }
    return Findings({"positivity": table}, of_method=content)


def positivity_table(results: Results) -> pd.DataFrame:
    """How well each method's composite tells positive from negative subjects, where a threshold is set."""
    rows = []
    for tracer in results.tracers():
        rule = tracer.positivity
        if rule is None:
            continue
        for method in results.methods_of(tracer):
            values = results.composite(tracer, method, rule.composite)
            if values is None:
                continue
            real, synthetic = values["real_suvr"].to_numpy(), values["synth_suvr"].to_numpy()
            outcome = classify(real, synthetic, rule.threshold, results.sampling.count, results.sampling.seed)
            key = {"tracer": tracer.name, "method": method, "composite": rule.composite}
            rows.append(key | {"threshold_suvr": rule.threshold} | asdict(outcome))
    return pd.DataFrame(rows, columns=list(TABLES[0].columns))
