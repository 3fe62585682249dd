"""Whether the stated probability of positivity holds, for trees whose VOI tables give one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

import pandas as pd

from relapet.errors import InputError
from relapet.evaluation.interface import Findings, Material
from relapet.evaluation.tables import NOT_AVAILABLE, TableSpec, rows_of
from relapet.evaluation.uncertainty.positivity import read_probabilities
from relapet.evaluation.uncertainty.reliability import reliability_table, score_probabilities
from relapet.evaluation.uncertainty.voi_tables import PROBABILITY
from relapet.tracers import load_tracers

_SCORES, _BINS = "positivity_probability", "positivity_reliability"
TABLES = (
    TableSpec(
        _SCORES,
        "method",
        {
            "tracer": "name",
            "method": "name",
            "composite": "what the threshold is for",
            "threshold_suvr": "measured SUVr above which a subject is positive",
            "n": "subjects",
            "n_positive": "positive by measured PET",
            "brier": "mean squared difference of probability and outcome (0 or 1)",
            "brier_low": "lower end of its 95 % interval",
            "brier_high": "upper end",
            "brier_base_rate": "the same, were everyone told the share of positive subjects",
            "to_base_rate": "brier minus brier_base_rate: below 0 is better",
            "to_base_rate_low": "lower end of its 95 % interval",
            "to_base_rate_high": "upper end",
            "brier_threshold": "the same of yes or no, by the threshold on the mean map",
            "to_threshold": "brier minus brier_threshold: below 0 is better",
            "to_threshold_low": "lower end of its 95 % interval",
            "to_threshold_high": "upper end",
            "ece": "expected calibration error over the bins of positivity_reliability",
            "ece_low": "lower end of its 95 % interval",
            "ece_high": "upper end",
            "ece_calibrated": "its mean, were the stated probabilities true, with as many subjects",
            "reason": "why a value is missing",
        },
    ),
    TableSpec(
        _BINS,
        "method and bin",
        {
            "tracer": "name",
            "method": "name",
            "bin_low": "least stated probability",
            "bin_high": "largest stated probability",
            "n": "subjects",
            "n_positive": "positive by measured PET",
            "predicted": "mean stated probability",
            "observed": "share of positive subjects",
            "ci_low": "lower end of its 95 % interval",
            "ci_high": "upper end",
        },
    ),
)


class ProbabilitySection(TypedDict):
    """Rows of both tables, with their columns."""

    scores: list[dict[str, Any]]
    reliability: list[dict[str, Any]]


def run(material: Material) -> Findings | None:
    """Both tables over all trees with probabilities; None without any. A broken tree takes itself away alone."""
    scores: list[dict[str, Any]] = []
    bins: list[pd.DataFrame] = []
    unmet = {}
    for method, root in material.trees.items():
        try:
            _judge(material, method, root, scores, bins)
        except InputError as error:
            unmet[f"probability of positivity {method}"] = str(error)
    if not scores:
        return Findings(unmet=unmet) if unmet else None
    tables = {
        _SCORES: pd.DataFrame(scores)[list(TABLES[0].columns)],
        _BINS: pd.concat(bins, ignore_index=True)[list(TABLES[1].columns)],
    }
    section: ProbabilitySection = {"scores": rows_of(tables[_SCORES]), "reliability": rows_of(tables[_BINS])}
    return Findings(tables, section=section, unmet=unmet)


def _judge(
    material: Material, method: str, root: Path, scores: list[dict[str, Any]], bins: list[pd.DataFrame]
) -> None:
    stated = read_probabilities(root)
    if stated is None:
        return
    regions = pd.DataFrame(material.scores.regions)
    regions = regions[(regions["method"] == method) & (regions["kind"] == "composite")]
    # As the scores name them: labels with their prefix.
    sessions = ["ses-" + label if label else NOT_AVAILABLE for label in stated["session"]]
    stated = stated.assign(subject="sub-" + stated["subject"], session=sessions)
    for tracer, rows in stated.groupby("tracer", sort=False):
        rule = load_tracers()[str(tracer)].positivity
        assert rule is not None
        measured = regions[(regions["tracer"] == tracer) & (regions["voi"] == rule.composite)]
        pairs = measured.merge(rows, on=["subject", "session", "tracer"], validate="one_to_one")
        if pairs.empty:  # not scored, or an atlas without the composite
            continue
        subjects = pairs.groupby("subject")[["real_suvr", "synth_suvr", PROBABILITY]].mean()
        probability = subjects[PROBABILITY].to_numpy()
        positive, called = ((subjects[c] > rule.threshold).to_numpy() for c in ("real_suvr", "synth_suvr"))
        key = {"tracer": tracer, "method": method}
        judged = score_probabilities(probability, positive, called, material.results.sampling)
        scores.append(key | {"composite": rule.composite, "threshold_suvr": rule.threshold} | judged)
        bins.append(reliability_table(probability, positive).assign(**key))
