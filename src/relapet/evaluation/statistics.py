"""Statistics with the subject as unit: bootstrap intervals, paired tests, classification by a threshold.

Intervals are percentile bootstrap intervals over subjects (Efron & Tibshirani 1993). Every function takes
an explicit generator; two calls with generators of the same seed and n draw the same subjects.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95
MIN_SUBJECTS = 3
"""Below this a correlation, a test or an interval says nothing, and is not computed."""


@dataclass(frozen=True)
class Sampling:
    """How intervals are drawn: number of bootstrap samples and seed."""

    count: int
    seed: int


@dataclass(frozen=True)
class Interval:
    """An estimate with the ends of its interval, and the number of subjects that it rests on."""

    estimate: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class PairedTest:
    """A paired Wilcoxon signed-rank test: two-sided p and matched-pairs rank-biserial correlation."""

    n: int
    p: float
    effect: float
    reason: str = ""


def resample(n: int, count: int, seed: int) -> npt.NDArray[np.intp]:
    """Indices of ``count`` bootstrap samples of ``n`` subjects, ``(count, n)``."""
    return np.random.default_rng(seed).integers(0, n, (count, n))


def percentile_interval(samples: Floats) -> tuple[float, float]:
    """Ends of the central 95 % of the finite bootstrap samples ``(count,)``; NaN where most are undefined."""
    defined = samples[~np.isnan(samples)]
    if 2 * defined.size < samples.size:
        return math.nan, math.nan
    tail = 100 * (1 - CONFIDENCE) / 2
    # Order statistics, not interpolated ones: infinite PSNR must not turn into inf - inf.
    low, high = np.percentile(defined, [tail, 100 - tail], method="nearest")
    return float(low), float(high)


def bootstrap_mean(values: Floats, count: int, seed: int) -> Interval:
    """Mean over subjects ``(n,)`` with its bootstrap interval; NaN values are missing subjects."""
    values = values[~np.isnan(values)]
    n = values.size
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    low, high = math.nan, math.nan
    if n >= MIN_SUBJECTS:
        low, high = percentile_interval(values[resample(n, count, seed)].mean(axis=1))
    return Interval(float(values.mean()), low, high, n)


def paired_difference(a: Floats, b: Floats) -> Floats:
    """``a - b`` of the subjects that have both; two infinite values (identical images) differ by nothing."""
    both = ~(np.isnan(a) | np.isnan(b))
    a, b = a[both], b[both]
    difference = np.zeros(a.size)
    np.subtract(a, b, out=difference, where=a != b)
    return difference


def bootstrap_difference(a: Floats, b: Floats, count: int, seed: int) -> Interval:
    """Mean paired difference ``a - b`` with its bootstrap interval, resampling subjects."""
    return bootstrap_mean(paired_difference(a, b), count, seed)


def paired_wilcoxon(a: Floats, b: Floats) -> PairedTest:
    """Two-sided Wilcoxon signed-rank test of ``a`` against ``b`` over subjects ``(n,)``.

    The effect is the matched-pairs rank-biserial correlation (Kerby, Compr Psychol 3:1, 2014): the share of
    ranks in favour of ``a`` minus that in favour of ``b``, in [-1, 1]. Zero differences are dropped.
    """
    difference = paired_difference(a, b)
    n = difference.size
    if n < MIN_SUBJECTS:
        return PairedTest(n, math.nan, math.nan, f"fewer than {MIN_SUBJECTS} subjects")
    nonzero = difference[difference != 0]
    if nonzero.size == 0:
        return PairedTest(n, 1.0, 0.0, "no subject differs")
    p = float(stats.wilcoxon(nonzero).pvalue)
    ranks = stats.rankdata(np.abs(nonzero))
    return PairedTest(n, p, float((ranks * np.sign(nonzero)).sum() / ranks.sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm-adjusted p values of one family (Scand J Stat 6:65, 1979); NaN stays NaN and does not count.

    Not statsmodels' multipletests, which it equals: that one collects garbage at every call (0.2 s each).
    """
    p = np.asarray(p_values, dtype=np.float64)
    defined = np.flatnonzero(~np.isnan(p))
    order = defined[np.argsort(p[defined])]
    steps = p[order] * np.arange(order.size, 0, -1)
    adjusted = np.full(p.size, math.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return [float(value) for value in adjusted]


@dataclass(frozen=True)
class Classification:
    """How well a synthetic composite tells positive from negative scans; undefined parts are NaN."""

    n: int
    n_positive: int
    auc: float
    auc_low: float
    auc_high: float
    sensitivity: float
    specificity: float
    reason: str = ""


def classify(real: Floats, synthetic: Floats, threshold: float, count: int, seed: int) -> Classification:
    """AUC of the synthetic value for measured positivity, and both rates at the same threshold (SUVr)."""
    from sklearn.metrics import (
        roc_auc_score,
    )  # here, because it takes a fifth of a second, also of synthesize

    positive = real > threshold
    called = synthetic > threshold
    n, n_positive = real.size, int(positive.sum())
    sensitivity = float(called[positive].mean()) if n_positive else math.nan
    specificity = float((~called[~positive]).mean()) if n_positive < n else math.nan
    if n_positive in (0, n):
        which = "positive" if n_positive == 0 else "negative"
        return Classification(
            n, n_positive, math.nan, math.nan, math.nan, sensitivity, specificity, f"no {which} scan"
        )
    low, high = percentile_interval(_bootstrap_auc(positive, synthetic, count, seed))
    auc = float(roc_auc_score(positive, synthetic))
    return Classification(n, n_positive, auc, low, high, sensitivity, specificity)


def _bootstrap_auc(positive: npt.NDArray[np.bool_], score: Floats, count: int, seed: int) -> Floats:
    """AUC of each bootstrap sample as the weighted share of positive-negative pairs in the right order."""
    n = positive.size
    drawn = resample(n, count, seed)
    weight = np.stack([np.bincount(row, minlength=n) for row in drawn]).astype(np.float64)
    gap = score[positive][:, None] - score[~positive][None, :]
    right = (gap > 0) + 0.5 * (gap == 0)
    up, down = weight[:, positive], weight[:, ~positive]
    pairs = up.sum(axis=1) * down.sum(axis=1)
    wins = np.einsum("bp,pq,bq->b", up, right, down, optimize=True)
    auc = np.full(count, math.nan)
    np.divide(wins, pairs, out=auc, where=pairs > 0)
    return auc
