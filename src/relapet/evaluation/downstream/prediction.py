"""Nested cross-validation of a subject-level outcome from blocks of features, and the worth of a block.

One row is one subject, so no subject is ever on both sides of a split. Columns are standardised inside the
training folds; each block (MRI, demographics, one tracer's VOIs) is then divided by the root of its number
of columns, so that a hundred VOIs do not outweigh the age by their number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy.stats import rankdata
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold, ParameterGrid, StratifiedKFold
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from relapet.evaluation.statistics import percentile_interval, resample
from relapet.settings import Settings

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
Fold = tuple[Indices, Indices]
Task = Literal["regression", "classification"]
MetricFunction = Callable[[Floats, Floats], Floats]
"""Outcome and prediction ``(..., n)`` to a value ``(...)``."""

_GAMMA = [0.03, 0.1, 0.3, 1.0]  # of an RBF kernel; two subjects lie about sqrt(2 x blocks) apart


class PredictionConfig(Settings):
    """Folds, repeats and seeds of the nested cross-validation and of its intervals and tests."""

    outer_folds: int = Field(5, ge=2, description="folds that are predicted in turn")
    inner_folds: int = Field(5, ge=2, description="folds that hyperparameters are chosen on")
    repeats: int = Field(3, ge=1, description="outer cross-validations with other folds, averaged over")
    bootstrap: int = Field(2000, ge=1, description="bootstrap samples of subjects")
    permutations: int = Field(5000, ge=1, description="permutations of the test of the gain")
    seed: int = Field(0, ge=0, description="seed of folds, bootstrap and permutations")


@dataclass(frozen=True)
class Model:
    """An estimator with the grid of hyperparameters that the inner folds choose from."""

    make: Callable[..., Any]
    grid: dict[str, list[float]]


MODELS: dict[Task, dict[str, Model]] = {
    "regression": {
        "ridge": Model(Ridge, {"alpha": [0.01, 0.1, 1.0, 10.0, 100.0]}),
        "kernel_ridge": Model(
            partial(KernelRidge, kernel="rbf"), {"alpha": [0.01, 0.1, 1.0, 10.0], "gamma": _GAMMA}
        ),
    },
    "classification": {
        "logistic_ridge": Model(
            partial(LogisticRegression, max_iter=1000), {"C": [0.01, 0.1, 1.0, 10.0, 100.0]}
        ),
        "svc": Model(partial(SVC, kernel="rbf"), {"C": [0.1, 1.0, 10.0, 100.0], "gamma": _GAMMA}),
    },
}


def out_of_fold(
    blocks: list[Floats], outcome: Floats, task: Task, model: Model, config: PredictionConfig
) -> Floats:
    """Predictions ``(repeats, n)`` of each subject by models that never saw it; blocks are ``(n, p_b)``.

    Regression predicts the outcome, classification a score that rises with the odds of 1.
    """
    features = np.concatenate(blocks, axis=1)
    weights = np.concatenate([np.full(block.shape[1], block.shape[1] ** -0.5) for block in blocks])
    splitter = KFold if task == "regression" else StratifiedKFold
    seeds = np.random.SeedSequence(config.seed).generate_state(2 * config.repeats)
    predictions = np.empty((config.repeats, outcome.size))
    for repeat in range(config.repeats):
        outer = splitter(config.outer_folds, shuffle=True, random_state=int(seeds[2 * repeat]))
        inner = splitter(config.inner_folds, shuffle=True, random_state=int(seeds[2 * repeat + 1]))
        for train, test in outer.split(features, outcome):
            folds = [
                (train[fit], train[check]) for fit, check in inner.split(features[train], outcome[train])
            ]
            settings = _choose(features, outcome, task, model, weights, folds)
            known, unseen = _standardised(features, train, test, weights)
            predictions[repeat, test] = _predict(model, settings, task, known, outcome[train], unseen)
    return predictions


def _choose(
    features: Floats, outcome: Floats, task: Task, model: Model, weights: Floats, folds: list[Fold]
) -> dict[str, float]:
    """The hyperparameters with the best mean score over the inner folds: least squared error, or AUC."""
    grid = list(ParameterGrid(model.grid))
    scores = np.zeros((len(grid), len(folds)))
    for number, (train, test) in enumerate(folds):
        known, unseen = _standardised(features, train, test, weights)
        for candidate, settings in enumerate(grid):
            predicted = _predict(model, settings, task, known, outcome[train], unseen)
            if task == "regression":
                scores[candidate, number] = -np.mean((outcome[test] - predicted) ** 2)
            else:
                scores[candidate, number] = area_under_roc(outcome[test], predicted)
    return dict(grid[int(np.argmax(scores.mean(axis=1)))])


def _standardised(features: Floats, train: Indices, test: Indices, weights: Floats) -> tuple[Floats, Floats]:
    """Training and test rows, standardised by the training rows and weighted; missing values get the mean."""
    scaler = StandardScaler().fit(features[train])
    known, unseen = (np.nan_to_num(scaler.transform(features[rows])) * weights for rows in (train, test))
    return known, unseen


def _predict(
    model: Model, settings: dict[str, float], task: Task, known: Floats, outcome: Floats, unseen: Floats
) -> Floats:
    estimator = model.make(**settings)
    if task == "classification":
        return np.asarray(estimator.fit(known, outcome).decision_function(unseen))
    # A kernel ridge has no intercept: the outcome is centred and scaled by the training rows too.
    mean, sd = outcome.mean(), outcome.std() or 1.0
    return np.asarray(estimator.fit(known, (outcome - mean) / sd).predict(unseen) * sd + mean)


def r_squared(outcome: Floats, predicted: Floats) -> Floats:
    """1 - residual / total sum of squares over the last axis; 0 is the mean, below 0 worse than the mean."""
    total = outcome.var(axis=-1)
    residual = ((outcome - predicted) ** 2).mean(axis=-1)
    return np.asarray(1 - np.divide(residual, total, out=np.full(residual.shape, np.nan), where=total > 0))


def mean_absolute_error(outcome: Floats, predicted: Floats) -> Floats:
    """Mean absolute error over the last axis, in the outcome's unit."""
    return np.asarray(np.abs(outcome - predicted).mean(axis=-1))


def correlation(outcome: Floats, predicted: Floats) -> Floats:
    """Pearson's r over the last axis; NaN where one side is constant."""
    x = outcome - outcome.mean(axis=-1, keepdims=True)
    y = predicted - predicted.mean(axis=-1, keepdims=True)
    scale = np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    product = (x * y).sum(axis=-1)
    return np.asarray(np.divide(product, scale, out=np.full(product.shape, np.nan), where=scale > 0))


def area_under_roc(outcome: Floats, predicted: Floats) -> Floats:
    """AUC over the last axis from ranks (Mann-Whitney); NaN where a class is missing."""
    positive = outcome.sum(axis=-1)
    pairs = positive * (outcome.shape[-1] - positive)
    wins = (rankdata(predicted, axis=-1) * outcome).sum(axis=-1) - positive * (positive + 1) / 2
    return np.asarray(np.divide(wins, pairs, out=np.full(wins.shape, np.nan), where=pairs > 0))


METRICS: dict[Task, dict[str, MetricFunction]] = {
    "regression": {"r2": r_squared, "mae": mean_absolute_error, "r": correlation},
    "classification": {"auc": area_under_roc},
}
"""By task; the first is the one that the gain is tested on."""


@dataclass(frozen=True)
class Gain:
    """What added features change in a metric: the difference with its bootstrap interval over subjects."""

    difference: float
    low: float
    high: float


def estimate(
    metric: MetricFunction, outcome: Floats, predictions: Floats, config: PredictionConfig
) -> tuple[float, float, float]:
    """A metric of out-of-fold predictions ``(repeats, n)`` with the ends of its interval over subjects."""
    value = _averaged(metric, outcome, predictions)
    return float(value), *percentile_interval(_bootstrapped(metric, outcome, predictions, config))


def _averaged(metric: MetricFunction, outcome: Floats, predictions: Floats) -> Floats:
    """The metric averaged over repeats; predictions ``(..., repeats, n)``, outcome ``(..., n)``."""
    every = np.broadcast_to(outcome[..., None, :], predictions.shape)
    return np.asarray(metric(every, predictions).mean(axis=-1))


def _bootstrapped(
    metric: MetricFunction, outcome: Floats, predictions: Floats, config: PredictionConfig
) -> Floats:
    drawn = resample(outcome.size, config.bootstrap, config.seed)
    return _averaged(metric, outcome[drawn], np.moveaxis(predictions[:, drawn], 0, 1))


def gain(
    metric: MetricFunction,
    outcome: Floats,
    base: Floats,
    added: Floats,
    config: PredictionConfig,
) -> Gain:
    """Metric of ``added`` minus that of ``base``, both predictions ``(repeats, n)`` of the same subjects."""
    difference = _averaged(metric, outcome, added) - _averaged(metric, outcome, base)
    samples = _bootstrapped(metric, outcome, added, config) - _bootstrapped(metric, outcome, base, config)
    low, high = percentile_interval(samples)
    return Gain(float(difference), low, high)


def permutation_p(
    metric: MetricFunction,
    outcome: Floats,
    base: Floats,
    added: Floats,
    config: PredictionConfig,
) -> float:
    """One-sided p of the gain: each subject's pair of predictions is swapped or not, at random.

    Under the null hypothesis that the added features are worth nothing, a subject's two predictions are
    exchangeable (Good, Permutation Tests, 2000). Ranks stand for predictions where only their order counts
    (AUC; Venkatraman & Begg, Biometrika 83:835, 1996). p = (1 + count) / (1 + permutations).
    """
    if metric is area_under_roc:
        base, added = rankdata(base, axis=-1), rankdata(added, axis=-1)
    observed = _averaged(metric, outcome, added) - _averaged(metric, outcome, base)
    generator = np.random.default_rng(np.random.SeedSequence([config.seed, 1]))
    swap = generator.random((config.permutations, 1, outcome.size)) < 0.5
    every = np.broadcast_to(outcome, (config.permutations, outcome.size))
    permuted = _averaged(metric, every, np.where(swap, base, added)) - _averaged(
        metric, every, np.where(swap, added, base)
    )
    tolerance = 1e-12  # equal up to rounding counts as equal
    return float((1 + (permuted >= observed - tolerance).sum()) / (1 + config.permutations))
