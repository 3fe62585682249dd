"""Is synthetic PET worth anything beyond the MRI it came from? Predicting an outcome with and without it.

Three sets of features on the same subjects: (a) MRI VOIs and demographics, (b) the same and synthetic PET
VOIs, (c) the same and measured PET VOIs. What (b) gains over (a) cannot be new information, as it is
computed from the MRI: it is what the generator learnt from other subjects' PET. (c) is the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd

from relapet.errors import InputError, VolumeError
from relapet.evaluation.downstream.design import (
    FEATURE_SETS,
    POSITIVITY,
    Design,
    Outcome,
    make_design,
    positivity_outcome,
    read_background,
    read_outcome,
    read_subject_table,
)
from relapet.evaluation.downstream.prediction import (
    METRICS,
    MODELS,
    PredictionConfig,
    Task,
    estimate,
    gain,
    out_of_fold,
    permutation_p,
)
from relapet.evaluation.statistics import holm
from relapet.tracers import TracerSpec, load_tracers


class Study(TypedDict):
    """Of one outcome and method: who and what it rests on."""

    outcome: str
    method: str
    source: str
    task: Task
    classes: tuple[str, str] | None
    n: int
    n_of_class_1: int | None
    excluded: dict[str, int]
    """How many subjects lack each thing that is needed."""
    features: dict[str, int]
    """Columns of each block."""
    missing_demographics: list[str]


@dataclass(frozen=True)
class Downstream:
    """What `predict_outcomes` gives."""

    table: pd.DataFrame
    """Content of downstream.tsv."""
    predictions: pd.DataFrame
    """Content of downstream_predictions.tsv: each subject, out of fold, averaged over repeats."""
    studies: list[Study]
    """Of each outcome and method: n, task, who was left out and why."""
    unmet: dict[str, str]
    """Outcome and method that could not be predicted, and why."""


@dataclass
class _Parts:
    tables: list[pd.DataFrame] = field(default_factory=list)
    predictions: list[pd.DataFrame] = field(default_factory=list)
    studies: list[Study] = field(default_factory=list)
    unmet: dict[str, str] = field(default_factory=dict)


def check_outcomes(derivative: Path, phenotype: Path | None, names: Sequence[str]) -> None:
    """Raise InputError where an outcome cannot be had from the files, before anything else is done."""
    if not names:
        if phenotype is not None:
            there = ", ".join(read_subject_table(phenotype).columns)
            raise InputError(f"{phenotype} was given without --outcome; name a column, it has: {there}.")
        return
    read_subject_table(Path(derivative) / "participants.tsv")
    for name in names:
        if _positivity_tracer(name) is None:
            if phenotype is None:
                known = ", ".join(t.name + POSITIVITY for t in load_tracers().values() if t.positivity)
                raise InputError(
                    f"The outcome {name} needs --phenotype FILE; without one there are: {known}."
                )
            read_outcome(phenotype, name)


def _positivity_tracer(name: str) -> TracerSpec | None:
    tracer = load_tracers().get(name.removesuffix(POSITIVITY)) if name.endswith(POSITIVITY) else None
    return tracer if tracer is not None and tracer.positivity is not None else None


def predict_outcomes(
    derivative: Path,
    voi: pd.DataFrame,
    phenotype: Path | None,
    names: Sequence[str],
    methods: Sequence[str],
    config: PredictionConfig,
) -> Downstream:
    """Predict each outcome from (a), (b) and (c) for each method; ``voi`` is voi.tsv of the evaluation.

    An outcome is a column of ``phenotype`` or ``<tracer>_positivity``. What cannot be predicted is in ``unmet``.
    """
    parts = _Parts()
    try:
        background = read_background(derivative)
    except (InputError, VolumeError) as error:
        return Downstream(pd.DataFrame(), pd.DataFrame(), [], {f"downstream {n}": str(error) for n in names})
    for name in names:
        for method in methods:
            try:
                outcome = _outcome(name, phenotype, voi)
                design = make_design(outcome, background, voi, method)
            except InputError as error:
                parts.unmet[f"downstream {name} {method}"] = str(error)
                continue
            table, predictions = predict_and_compare(design, outcome.name, method, config)
            parts.tables.append(table)
            parts.predictions.append(predictions)
            absent = [column for column in background.demographics if column not in background.participants]
            parts.studies.append(_study(outcome, design, method, absent))
    return Downstream(_joined(parts.tables), _joined(parts.predictions), parts.studies, parts.unmet)


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _outcome(name: str, phenotype: Path | None, voi: pd.DataFrame) -> Outcome:
    tracer = _positivity_tracer(name)
    if tracer is not None:
        return positivity_outcome(voi, tracer)
    if phenotype is None:
        raise InputError(f"The outcome {name} needs --phenotype FILE.")
    return read_outcome(phenotype, name)


def _study(outcome: Outcome, design: Design, method: str, missing_demographics: list[str]) -> Study:
    return {
        "outcome": outcome.name,
        "method": method,
        "source": outcome.source,
        "task": design.task,
        "classes": outcome.classes,
        "n": len(design.subjects),
        "n_of_class_1": int(design.outcome.sum()) if outcome.classes else None,
        "excluded": design.excluded,
        "features": {name: frame.shape[1] for name, frame in design.blocks.items()},
        "missing_demographics": missing_demographics,
    }


def predict_and_compare(
    design: Design, outcome: str, method: str, config: PredictionConfig
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table of metrics, gains and p values, and the out-of-fold predictions averaged over repeats.

    p (one-sided, on the task's first metric) is Holm-adjusted over the models and feature sets.
    """
    rows: list[dict[str, Any]] = []
    predictions = []
    for model_name, model in MODELS[design.task].items():
        predicted = {
            name: out_of_fold(design.features(name), design.outcome, design.task, model, config)
            for name in FEATURE_SETS
        }
        keys = {"outcome": outcome, "method": method, "model": model_name}
        for name, values in predicted.items():
            scores = _score(design, config, values, None if name == "mri" else predicted["mri"])
            rows += [{**keys, "features": name, **score} for score in scores]
            frame = {"subject": design.subjects, "observed": design.outcome, "predicted": values.mean(axis=0)}
            predictions.append(pd.DataFrame({**keys, "features": name, **frame}))
    table = pd.DataFrame(rows)
    table["p_holm"] = holm(table["p"].tolist())
    return table, pd.concat(predictions, ignore_index=True)


def _score(design: Design, config: PredictionConfig, values: Any, base: Any | None) -> list[dict[str, Any]]:
    """One row a metric; gains over ``base`` where there is one, p on the first metric."""
    rows = []
    outcome = design.outcome
    for position, (name, metric) in enumerate(METRICS[design.task].items()):
        value, low, high = estimate(metric, outcome, values, config)
        row: dict[str, Any] = {"metric": name, "n": outcome.size, "value": value}
        row |= {"ci_low": low, "ci_high": high}
        if base is not None:
            change = gain(metric, outcome, base, values, config)
            row |= {"gain": change.difference, "gain_low": change.low, "gain_high": change.high}
            if position == 0:
                row["p"] = permutation_p(metric, outcome, base, values, config)
        rows.append(row)
    return rows
