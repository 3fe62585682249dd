"""Is synthetic PET worth anything beyond its MRI? Outcomes predicted without it, with it, and with measured PET."""

from __future__ import annotations

from typing import Any, TypedDict

from relapet.evaluation.downstream.prediction import PredictionConfig
from relapet.evaluation.downstream.studies import Study, predict_outcomes
from relapet.evaluation.interface import Findings, Material
from relapet.evaluation.tables import TableSpec, rows_of

_KEYS = {
    "outcome": "column of the phenotype, or <tracer>_positivity",
    "method": "name",
    "model": "what predicts",
    "features": "mri, mri+synthetic or mri+real",
}
TABLES = (
    TableSpec(
        "downstream",
        "outcome, method, model, feature set and metric",
        _KEYS
        | {
            "metric": "r2, mae, r or auc",
            "n": "subjects",
            "value": "out of fold, averaged over repeats",
            "ci_low": "lower end of its 95 % interval",
            "ci_high": "upper end",
            "gain": "value minus that of the feature set mri",
            "gain_low": "lower end of its 95 % interval",
            "gain_high": "upper end",
            "p": "one-sided permutation test of the gain",
            "p_holm": "the same, Holm-corrected over models and feature sets",
        },
    ),
    TableSpec(
        "downstream_predictions",
        "subject of each of these",
        _KEYS
        | {
            "subject": "label without sub-",
            "observed": "the outcome; 0 and 1 in a classification",
            "predicted": "out of fold, averaged over repeats",
        },
    ),
)


class DownstreamSection(TypedDict):
    """What was done with which settings, and the rows of downstream.tsv."""

    config: dict[str, Any]
    phenotype: str | None
    studies: list[Study]
    results: list[dict[str, Any]]


def run(material: Material) -> Findings | None:
    """Predict every outcome that was asked for; None where there was none."""
    told = material.config
    if not told.outcomes:
        return None
    config = PredictionConfig(bootstrap=told.bootstrap, permutations=told.permutations, seed=told.seed)
    methods = list(material.trees)
    done = predict_outcomes(
        material.real, material.results.voi, told.phenotype, told.outcomes, methods, config
    )
    tables = {"downstream": done.table, "downstream_predictions": done.predictions}
    section: DownstreamSection = {
        "config": config.model_dump(),
        "phenotype": None if told.phenotype is None else str(told.phenotype),
        "studies": done.studies,
        "results": rows_of(done.table),
    }
    return Findings({} if done.table.empty else tables, section=section, unmet=done.unmet)
