"""Whether what a tree says of its own uncertainty holds: samples, and calibrated intervals."""

from __future__ import annotations

from typing import Any, TypedDict

import pandas as pd

from relapet.errors import InputError
from relapet.evaluation.interface import Findings, Material
from relapet.evaluation.tables import TableSpec, rows_of
from relapet.evaluation.uncertainty.conformal import judge_intervals
from relapet.evaluation.uncertainty.coverage import ALL_VOIS, UncertaintyConfig
from relapet.evaluation.uncertainty.samples import judge_samples

_COVERAGE, _CRPS, _SAMPLE_MEAN = "uncertainty_coverage", "uncertainty_crps", "uncertainty_sample_mean"
_SUBJECTS = "uncertainty_subjects"
TABLES = (
    TableSpec(
        _COVERAGE,
        "method, VOI (and all) and level",
        {
            "tracer": "name",
            "method": "name",
            "voi": "name, or all: the mean over VOIs",
            "level": "nominal coverage",
            "n": "subjects",
            "coverage": "share of intervals that hold the measured value",
            "ci_low": "lower end of its 95 % interval",
            "ci_high": "upper end",
            "width": "mean width, SUVr",
            "n_samples": "samples a scan",
            "attainable": "what a perfect sampler covers with as many samples",
            "interval": "samples or conformal",
        },
    ),
    TableSpec(
        _CRPS,
        "method and VOI (and all)",
        {
            "tracer": "name",
            "method": "name",
            "voi": "name, or all: the mean over VOIs",
            "n": "subjects",
            "n_samples": "samples a scan",
            "crps": "fair CRPS, SUVr",
            "ci_low": "lower end of its 95 % interval",
            "ci_high": "upper end",
            "mae": "absolute error of the samples' mean, SUVr",
            "sd": "of the samples, SUVr",
        },
    ),
    TableSpec(
        _SUBJECTS,
        "subject and method",
        {
            "subject": "label with sub-",
            "tracer": "name",
            "method": "name",
            "n_samples": "samples a scan",
            "crps": "fair CRPS, mean over VOIs, SUVr",
            "mae": "absolute error of the samples' mean, mean over VOIs, SUVr",
            "sd": "of the samples, mean over VOIs, SUVr",
        },
    ),
    TableSpec(
        _SAMPLE_MEAN,
        "method and number of samples averaged",
        {
            "tracer": "name",
            "method": "name",
            "n_samples": "samples that were averaged",
            "n": "subjects",
            "mae": "absolute error over VOIs, SUVr",
            "ci_low": "lower end of its 95 % interval",
            "ci_high": "upper end",
        },
    ),
)

Row = dict[str, Any]


class UncertaintySection(TypedDict, total=False):
    """Rows of the tables over all VOIs, with the tables' columns."""

    coverage: list[Row]
    crps: list[Row]
    sample_mean: list[Row]


def run(material: Material) -> Findings | None:
    """Samples and intervals are judged apart: a fault of one does not take away the other."""
    config = UncertaintyConfig(bootstrap=material.config.bootstrap, seed=material.config.seed)
    measured = pd.DataFrame(material.scores.measured)
    tables: dict[str, pd.DataFrame] = {}
    unmet = {}
    try:
        tables |= judge_samples(material.trees, measured, config)
    except InputError as error:
        unmet["uncertainty of samples"] = str(error)
    try:
        intervals = judge_intervals(material.trees, measured, config)
    except InputError as error:
        unmet["coverage of calibrated intervals"] = str(error)
    else:
        if intervals is not None:
            both = [*([tables[_COVERAGE]] if _COVERAGE in tables else []), intervals]
            tables[_COVERAGE] = pd.concat(both, ignore_index=True)
    return Findings(tables, section=_section(tables) or None, unmet=unmet)


def _section(tables: dict[str, pd.DataFrame]) -> UncertaintySection:
    section: UncertaintySection = {}
    if _COVERAGE in tables:
        section["coverage"] = _over_vois(tables[_COVERAGE])
    if _CRPS in tables:
        section["crps"] = _over_vois(tables[_CRPS])
    if _SAMPLE_MEAN in tables:
        section["sample_mean"] = rows_of(tables[_SAMPLE_MEAN])
    return section


def _over_vois(table: pd.DataFrame) -> list[Row]:
    return rows_of(table[table["voi"] == ALL_VOIS])
