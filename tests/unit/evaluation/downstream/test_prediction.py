from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from relapet.evaluation.downstream.prediction import (
    METRICS,
    MODELS,
    Model,
    PredictionConfig,
    area_under_roc,
    correlation,
    estimate,
    gain,
    out_of_fold,
    permutation_p,
    r_squared,
)

CONFIG = PredictionConfig(repeats=1, bootstrap=300, permutations=499)


def small(task: str, name: str) -> Model:
    """The packaged model with the two middle values of each hyperparameter, to be quick."""
    model = MODELS[task][name]
    return Model(model.make, {key: values[1:3] for key, values in model.grid.items()})


def linear_data(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A wide uninformative block, a narrow informative one, and an outcome with R2 = 0.8 from the latter."""
    rng = np.random.default_rng(seed)
    wide, narrow = rng.normal(size=(n, 150)), rng.normal(size=(n, 2))
    return wide, narrow, narrow.sum(axis=1) + rng.normal(0, np.sqrt(0.5), n)


def test_metrics_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    y, p = rng.normal(size=(4, 30)), rng.normal(size=(4, 30))
    labels = (y > 0.3).astype(float)
    for row in range(4):
        assert r_squared(y, p)[row] == pytest.approx(sklearn_metrics.r2_score(y[row], p[row]))
        assert correlation(y, p)[row] == pytest.approx(stats.pearsonr(y[row], p[row])[0])
        expected = sklearn_metrics.roc_auc_score(labels[row], np.round(p[row], 1))
        assert area_under_roc(labels, np.round(p, 1))[row] == pytest.approx(expected)
    assert np.isnan(area_under_roc(np.ones(5), np.arange(5.0)))
    assert np.isnan(r_squared(np.ones(5), np.arange(5.0)))


@pytest.mark.parametrize("name", MODELS["regression"])
def test_regression_finds_the_narrow_block_beside_the_wide_one(name):
    wide, narrow, y = linear_data(150, 1)
    predicted = out_of_fold([wide, narrow], y, "regression", small("regression", name), CONFIG)
    assert predicted.shape == (1, 150)
    value, low, high = estimate(METRICS["regression"]["r2"], y, predicted, CONFIG)
    assert low < value < high
    assert 0.45 < value < 0.85  # 0.8 is all that can be explained


def test_blocks_count_by_what_they_are_and_not_by_their_columns():
    """The same columns as one block of 152 drown the informative two."""
    wide, narrow, y = linear_data(150, 1)
    model = small("regression", "kernel_ridge")
    apart = out_of_fold([wide, narrow], y, "regression", model, CONFIG)[0]
    together = out_of_fold([np.hstack([wide, narrow])], y, "regression", model, CONFIG)[0]
    assert r_squared(y, apart) > r_squared(y, together) + 0.3


@pytest.mark.parametrize("name", MODELS["classification"])
def test_classification_ranks_the_classes(name):
    wide, narrow, y = linear_data(120, 2)
    labels = (y > np.median(y)).astype(float)
    predicted = out_of_fold([wide, narrow], labels, "classification", small("classification", name), CONFIG)
    value, low, high = estimate(area_under_roc, labels, predicted, CONFIG)
    assert low < value < high
    assert value > 0.8


@pytest.mark.parametrize(("task", "name"), [("regression", "ridge"), ("classification", "logistic_ridge")])
def test_no_subject_helps_to_predict_itself(task, name):
    """With far more columns than subjects, any leak would fit an outcome that is pure noise."""
    rng = np.random.default_rng(3)
    values = []
    for _ in range(4):
        features, y = rng.normal(size=(60, 200)), rng.normal(size=60)
        y = y if task == "regression" else (y > 0).astype(float)
        predicted = out_of_fold([features], y, task, small(task, name), CONFIG)
        values.append(abs(correlation(y, predicted)[0]))
    assert np.mean(values) < 0.3


def test_missing_values_are_imputed_inside_folds_and_scales_do_not_matter():
    wide, narrow, y = linear_data(100, 4)
    model = small("regression", "ridge")
    plain = out_of_fold([wide, narrow], y, "regression", model, CONFIG)
    scaled = out_of_fold([wide * 1e4 + 7, narrow], 1e3 * y - 5, "regression", model, CONFIG)
    np.testing.assert_allclose(scaled, 1e3 * plain - 5, rtol=1e-6, atol=1e-3)
    holed = narrow.copy()
    holed[::10, 0] = np.nan
    r2 = [r_squared(y, out_of_fold([b], y, "regression", model, CONFIG)[0]) for b in (narrow, holed)]
    assert 0.4 < r2[1] < r2[0]


def test_seeds_decide_the_folds():
    _, narrow, y = linear_data(60, 5)
    model = Model(MODELS["regression"]["ridge"].make, {"alpha": [1.0]})
    once, again = (
        out_of_fold([narrow], y, "regression", model, PredictionConfig(repeats=2)) for _ in range(2)
    )
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once[0], once[1])  # repeats differ
    other = out_of_fold([narrow], y, "regression", model, PredictionConfig(repeats=2, seed=1))
    assert not np.array_equal(once, other)


def test_a_real_gain_is_significant_and_its_interval_excludes_zero():
    rng = np.random.default_rng(6)
    y = rng.normal(size=80)
    base, better = y + rng.normal(0, 1.2, (2, 80)), y + rng.normal(0, 0.5, (2, 80))
    for task, outcome in (("regression", y), ("classification", (y > 0).astype(float))):
        metric = next(iter(METRICS[task].values()))
        change = gain(metric, outcome, base, better, CONFIG)
        assert change.low > 0
        assert change.low < change.difference < change.high
        assert permutation_p(metric, outcome, base, better, CONFIG) == pytest.approx(1 / 500)
        assert permutation_p(metric, outcome, better, base, CONFIG) > 0.99
        assert permutation_p(metric, outcome, base, base, CONFIG) == 1.0


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_p_values_of_worthless_features_are_uniform(task):
    rng = np.random.default_rng(7)
    metric = next(iter(METRICS[task].values()))
    p = []
    for _ in range(150):
        y = rng.normal(size=40)
        a, b = (y + rng.normal(size=(1, 40)) for _ in range(2))
        # Another scale must not matter where only order counts.
        a, y = (a, y) if task == "regression" else (3 * a + 1, (y > 0).astype(float))
        p.append(permutation_p(metric, y, a, b, PredictionConfig(permutations=199)))
    assert stats.kstest(p, "uniform").pvalue > 0.001
