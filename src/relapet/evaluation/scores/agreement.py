"""Agreement of synthetic with measured regional SUVr over subjects, one VOI at a time.

Voxels or VOIs pooled over the brain are never correlated: any average brain scores well on that.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from relapet.evaluation.statistics import CONFIDENCE, MIN_SUBJECTS, Interval, percentile_interval, resample

Floats = npt.NDArray[np.float64]

_CONSTANT = 1e-6
"""Relative SD below which values are the same number up to rounding: they correlate with nothing."""


def _is_constant(values: Floats) -> npt.NDArray[np.bool_]:
    scale = np.maximum(np.abs(values).max(axis=0), np.finfo(float).tiny)
    return np.asarray(values.std(axis=0) <= _CONSTANT * scale)


def pearson_interval(r: Floats, n: int) -> tuple[Floats, Floats]:
    """95 % interval of Pearson's r by Fisher's z; (-1, 1) with three subjects, NaN where r is."""
    if n <= MIN_SUBJECTS:
        unknown = np.where(np.isnan(r), np.nan, 1.0)
        return -unknown, unknown
    width = stats.norm.ppf((1 + CONFIDENCE) / 2) / np.sqrt(n - 3)
    with np.errstate(divide="ignore"):
        z = np.arctanh(r)
    return np.tanh(z - width), np.tanh(z + width)


def pearson(real: Floats, synthetic: Floats) -> Floats:
    """Pearson's r over subjects of each VOI from ``(n, V)``, as ``(V,)``; NaN where one side is constant."""
    x, y = real - real.mean(axis=0), synthetic - synthetic.mean(axis=0)
    defined = ~(_is_constant(real) | _is_constant(synthetic))
    scale = np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
    r = np.divide((x * y).sum(axis=0), scale, out=np.full(x.shape[1], np.nan), where=defined)
    return np.asarray(np.clip(r, -1, 1))


def icc_2_1(real: Floats, synthetic: Floats) -> Floats:
    """ICC(2,1) of each VOI: two-way random effects, single measure, absolute agreement; inputs ``(n, V)``.

    Shrout & Fleiss, Psychol Bull 86:420 (1979), doi:10.1037/0033-2909.86.2.420, with k = 2 raters.
    """
    n, k = real.shape[0], 2
    data = np.stack([real, synthetic])  # (k, n, V)
    grand = data.mean(axis=(0, 1))
    between_subjects = k * ((data.mean(axis=0) - grand) ** 2).sum(axis=0) / (n - 1)
    between_raters = n * ((data.mean(axis=1) - grand) ** 2).sum(axis=0) / (k - 1)
    residual = data - data.mean(axis=0) - data.mean(axis=1)[:, None] + grand
    error = (residual**2).sum(axis=(0, 1)) / ((n - 1) * (k - 1))
    total = between_subjects + (k - 1) * error + k * (between_raters - error) / n
    icc = np.full(grand.shape, np.nan)
    np.divide(between_subjects - error, total, out=icc, where=total > 0)
    return icc


def agreement(real: Floats, synthetic: Floats) -> pd.DataFrame:
    """One row a VOI from ``(n, V)`` SUVr: r with its interval, ICC(2,1), Bland-Altman bias and limits.

    Bias is synthetic minus measured, limits are bias -/+ 1.96 SD (Bland & Altman, Lancet 1:307, 1986).
    Fewer than three subjects give a bias alone; the column reason says why a value is missing.
    """
    n, vois = real.shape
    unknown = np.full(vois, np.nan)
    difference = synthetic - real
    columns: dict[str, object] = {"n": np.full(vois, n)}
    if n < MIN_SUBJECTS:
        columns |= dict.fromkeys(("r", "ci_low", "ci_high", "icc"), unknown)
        columns |= {"bias": difference.mean(axis=0), "loa_low": unknown, "loa_high": unknown}
        return pd.DataFrame(columns | {"reason": f"fewer than {MIN_SUBJECTS} subjects"})
    r = pearson(real, synthetic)
    low, high = pearson_interval(r, n)
    bias = difference.mean(axis=0)
    spread = stats.norm.ppf((1 + CONFIDENCE) / 2) * difference.std(axis=0, ddof=1)
    reason = np.where(_is_constant(synthetic), "no variation over subjects in the synthetic value", "")
    reason = np.where(_is_constant(real), "no variation over subjects in the measured value", reason)
    columns |= {"r": r, "ci_low": low, "ci_high": high, "icc": icc_2_1(real, synthetic)}
    columns |= {"bias": bias, "loa_low": bias - spread, "loa_high": bias + spread, "reason": reason}
    return pd.DataFrame(columns)


def bootstrap_r(real: Floats, synthetic: Floats, count: int, seed: int) -> Floats:
    """Pearson's r of each VOI in each bootstrap sample of subjects, ``(count, V)``; NaN where undefined.

    Sums over drawn subjects are one matrix product with how often each was drawn.
    """
    n = real.shape[0]
    weight = np.stack([np.bincount(row, minlength=n) for row in resample(n, count, seed)]) / n
    x, y = real - real.mean(axis=0), synthetic - synthetic.mean(axis=0)
    mean_x, mean_y = weight @ x, weight @ y
    var_x, var_y = weight @ x**2 - mean_x**2, weight @ y**2 - mean_y**2
    covariance = weight @ (x * y) - mean_x * mean_y
    floor_x, floor_y = ((_CONSTANT * np.abs(v).max(axis=0)) ** 2 for v in (real, synthetic))
    defined = (var_x > floor_x) & (var_y > floor_y)
    scale = np.sqrt(np.where(defined, var_x * var_y, 1.0))
    return np.clip(np.where(defined, covariance / scale, np.nan), -1, 1)


def row_median(values: Floats) -> Floats:
    """Median over the defined entries of each row ``(B, V)``; NaN where a row has none, without a warning."""
    result = np.full(values.shape[0], np.nan)
    some = ~np.isnan(values).all(axis=1)
    result[some] = np.nanmedian(values[some], axis=1)
    return result


def median_r(real: Floats, synthetic: Floats, count: int, seed: int) -> Interval:
    """Median over VOIs of the cross-subject r, with a bootstrap interval over subjects; inputs ``(n, V)``."""
    n = real.shape[0]
    if n < MIN_SUBJECTS or real.shape[1] == 0:
        return Interval(np.nan, np.nan, np.nan, n)
    estimate = float(row_median(pearson(real, synthetic)[None])[0])
    if np.isnan(estimate):
        return Interval(estimate, np.nan, np.nan, n)
    low, high = percentile_interval(row_median(bootstrap_r(real, synthetic, count, seed)))
    return Interval(estimate, low, high, n)


def median_r_difference(real: Floats, a: Floats, b: Floats, count: int, seed: int) -> Interval:
    """Median r of ``a`` minus that of ``b`` on the same subjects, with its paired bootstrap interval."""
    n = real.shape[0]
    if n < MIN_SUBJECTS or real.shape[1] == 0:
        return Interval(np.nan, np.nan, np.nan, n)
    estimates = [float(row_median(pearson(real, values)[None])[0]) for values in (a, b)]
    drawn = [row_median(bootstrap_r(real, values, count, seed)) for values in (a, b)]
    low, high = percentile_interval(drawn[0] - drawn[1])
    return Interval(estimates[0] - estimates[1], low, high, n)
