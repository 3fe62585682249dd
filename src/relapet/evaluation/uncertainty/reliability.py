"""How good stated probabilities are: Brier score, reliability by bins, expected calibration error.

Brier, Mon Weather Rev 78:1, 1950; Murphy & Winkler, Appl Stat 26:41, 1977. Intervals are over subjects.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from relapet.evaluation.statistics import MIN_SUBJECTS, Sampling, percentile_interval, resample

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Of the bins of stated probability; a bin holds its lower end, the last one both."""


def _members(probability: Floats) -> Floats:
    """Which bin each subject is in, ``(n, bins)`` of 0 and 1."""
    bins = np.minimum(np.searchsorted(EDGES, probability, side="right") - 1, len(EDGES) - 2)
    members: Floats = np.eye(len(EDGES) - 1)[bins]
    return members


def reliability_table(probability: Floats, positive: Flags) -> pd.DataFrame:
    """One row a bin: its ends, n, n_positive, the mean predicted and the observed share with Wilson's interval.

    ``probability`` and ``positive`` are ``(n,)``, a value a subject; a bin without subjects has NaN.
    """
    from statsmodels.stats.proportion import (
        proportion_confint,
    )  # here, because it takes half a second of synthesize

    members = _members(probability)
    n, hits = members.sum(axis=0), members.T @ positive
    unknown = np.full(n.size, math.nan)
    predicted = np.divide(members.T @ probability, n, out=unknown.copy(), where=n > 0)
    observed = np.divide(hits, n, out=unknown.copy(), where=n > 0)
    # Not a bootstrap: a bin of a few who are all positive would have an interval of no width.
    ends = [
        proportion_confint(k, m, method="wilson") if m else (math.nan, math.nan)
        for k, m in zip(hits, n, strict=True)
    ]
    low, high = np.array(ends).T
    return pd.DataFrame(
        {
            "bin_low": EDGES[:-1],
            "bin_high": EDGES[1:],
            "n": n.astype(int),
            "n_positive": hits.astype(int),
            "predicted": predicted,
            "observed": observed,
            "ci_low": low,
            "ci_high": high,
        }
    )


def score_probabilities(
    probability: Floats, positive: Flags, called: Flags, sampling: Sampling
) -> dict[str, Any]:
    """Brier score and calibration error of stated probabilities, ``(n,)`` each, with their bootstrap intervals.

    Beside it the Brier score of the share of positive subjects, told to everyone, and of ``called``, a yes or no by the
    threshold on the mean map. ``ece_calibrated`` is the mean calibration error that true probabilities
    would show with as few subjects.
    """
    n = probability.size
    truth = positive.astype(np.float64)
    members = _members(probability)
    drawn = resample(n, sampling.count, sampling.seed)
    weight = np.stack([np.ones(n), *(np.bincount(row, minlength=n) for row in drawn)]) / n
    brier = weight @ np.square(probability - truth)
    share = weight @ truth
    base_rate = share * (1 - share)
    threshold = weight @ np.not_equal(called, positive)
    ece = np.abs(weight @ ((probability - truth)[:, None] * members)).sum(axis=1)
    rng = np.random.default_rng(sampling.seed)
    true = rng.random((sampling.count, n)) < probability
    ece_calibrated = np.abs((probability - true) @ members / n).sum(axis=1).mean()

    def interval(values: Floats) -> tuple[float, float]:
        return percentile_interval(values[1:]) if n >= MIN_SUBJECTS else (math.nan, math.nan)

    scores: dict[str, Any] = {"n": n, "n_positive": int(positive.sum())}
    for name, values in {
        "brier": brier,
        "to_base_rate": brier - base_rate,
        "to_threshold": brier - threshold,
        "ece": ece,
    }.items():
        low, high = interval(values)
        scores |= {name: float(values[0]), f"{name}_low": low, f"{name}_high": high}
    scores |= {"brier_base_rate": float(base_rate[0]), "brier_threshold": float(threshold[0])}
    reason = f"fewer than {MIN_SUBJECTS} subjects" if n < MIN_SUBJECTS else ""
    return scores | {"ece_calibrated": float(ece_calibrated), "reason": reason}
