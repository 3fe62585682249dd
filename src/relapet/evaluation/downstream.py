"""Is synthetic PET worth anything beyond the MRI it came from? Predicting an outcome with and without it.

Three sets of features on the same subjects: (a) MRI VOIs and demographics, (b) the same and synthetic PET
VOIs, (c) the same and measured PET VOIs. What (b) gains over (a) cannot be new information, as it is
computed from the MRI: it is what the generator learnt from other subjects' PET. (c) is the reference.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from relapet.evaluation.design import FEATURE_SETS, Design, DownstreamConfig, make_design
from relapet.evaluation.prediction import METRICS, MODELS, estimate, gain, out_of_fold, permutation_p
from relapet.evaluation.statistics import holm
from relapet.evaluation.tables import plain, write_table
from relapet.files import prepare_output_folder, write_json


def evaluate_downstream(
    derivative: Path, voi: Path, phenotype: Path, out: Path, config: DownstreamConfig
) -> pd.DataFrame:
    """Predict a phenotype from (a), (b) and (c); write downstream.tsv, downstream.json and the predictions.

    ``derivative`` holds the MRI and participants.tsv, ``voi`` is voi.tsv of an evaluation. Returns the table
    of downstream.tsv. Raises InputError for tables that lack what is asked and for too few subjects.
    """
    design = make_design(derivative, voi, phenotype, config)
    prepare_output_folder(out)
    table, predictions = predict_and_compare(design, config)
    write_table(Path(out) / "downstream.tsv", table)
    write_table(Path(out) / "downstream_predictions.tsv", predictions)
    content = {
        "config": asdict(config),
        "inputs": {"derivative": str(derivative), "voi": str(voi), "phenotype": str(phenotype)},
        "task": design.task,
        "classes": design.classes,
        "n": len(design.subjects),
        "excluded": design.excluded,
        "missing_demographics": design.missing_demographics,
        "features": {name: frame.shape[1] for name, frame in design.blocks.items()},
        "results": table.to_dict("records"),
    }
    write_json(Path(out) / "downstream.json", plain(content))
    return table


def predict_and_compare(design: Design, config: DownstreamConfig) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table of metrics, gains and p values, and the out-of-fold predictions averaged over repeats.

    p (one-sided, on the task's first metric) is Holm-adjusted over the models and feature sets.
    """
    rows: list[dict[str, Any]] = []
    predictions = []
    for model_name, model in MODELS[design.task].items():
        predicted = {
            name: out_of_fold(design.features(name), design.outcome, design.task, model, config.prediction)
            for name in FEATURE_SETS
        }
        keys = {"outcome": config.column, "method": config.method, "model": model_name}
        for name, values in predicted.items():
            scores = _score(design, config, values, None if name == "mri" else predicted["mri"])
            rows += [{**keys, "features": name, **score} for score in scores]
            frame = {"subject": design.subjects, "observed": design.outcome, "predicted": values.mean(axis=0)}
            predictions.append(pd.DataFrame({**keys, "features": name, **frame}))
    table = pd.DataFrame(rows)
    table["p_holm"] = holm(table["p"].tolist())
    return table, pd.concat(predictions, ignore_index=True)


def _score(design: Design, config: DownstreamConfig, values: Any, base: Any | None) -> list[dict[str, Any]]:
    """One row a metric; gains over ``base`` where there is one, p on the first metric."""
    rows = []
    outcome, settings = design.outcome, config.prediction
    for position, (name, metric) in enumerate(METRICS[design.task].items()):
        value, low, high = estimate(metric, outcome, values, settings)
        row: dict[str, Any] = {"metric": name, "n": outcome.size, "value": value}
        row |= {"ci_low": low, "ci_high": high}
        if base is not None:
            change = gain(metric, outcome, base, values, settings)
            row |= {"gain": change.difference, "gain_low": change.low, "gain_high": change.high}
            if position == 0:
                row["p"] = permutation_p(metric, outcome, base, values, settings)
        rows.append(row)
    return rows
