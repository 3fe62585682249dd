from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score
from statsmodels.stats.multitest import multipletests

from relapet.evaluation.statistics import (
    _bootstrap_auc,
    bootstrap_difference,
    bootstrap_mean,
    classify,
    holm,
    paired_difference,
    paired_wilcoxon,
    percentile_interval,
    resample,
)

RNG = np.random.default_rng(0)
VALUES = RNG.gamma(2, 1, 25)


def test_bootstrap_mean_agrees_with_scipy():
    interval = bootstrap_mean(VALUES, 20_000, 0)
    reference = stats.bootstrap(
        (VALUES,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert interval.estimate == pytest.approx(VALUES.mean())
    assert interval.n == 25
    assert interval.low == pytest.approx(reference.low, abs=0.02)
    assert interval.high == pytest.approx(reference.high, abs=0.02)


def test_the_interval_of_the_mean_covers_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(400):
        interval = bootstrap_mean(rng.normal(3, 1, 40), 400, 0)
        covered += interval.low <= 3 <= interval.high
    assert 0.90 < covered / 400 < 0.98


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    assert bootstrap_mean(VALUES, 500, 3) == bootstrap_mean(VALUES, 500, 3)
    assert bootstrap_mean(VALUES, 500, 3) != bootstrap_mean(VALUES, 500, 4)


def test_missing_subjects_do_not_count_and_two_subjects_have_no_interval():
    interval = bootstrap_mean(np.array([1.0, math.nan, 3.0]), 100, 0)
    assert (interval.estimate, interval.n) == (2.0, 2)
    assert math.isnan(interval.low)
    assert bootstrap_mean(np.full(3, math.nan), 100, 0).n == 0


def test_infinite_scores_keep_a_defined_interval():
    everywhere = bootstrap_mean(np.full(5, math.inf), 100, 0)
    assert (everywhere.low, everywhere.high) == (math.inf, math.inf)
    once = bootstrap_mean(np.array([30.0, 31, 32, math.inf]), 200, 0)
    assert (once.low, once.high) == (pytest.approx(30, abs=1.2), math.inf)
    assert paired_difference(np.array([math.inf, 1.0]), np.array([math.inf, 3.0])).tolist() == [0, -2]


def test_the_paired_interval_is_narrower_than_the_subjects_spread():
    better = VALUES + 0.5 + 0.01 * RNG.normal(size=25)
    interval = bootstrap_difference(better, VALUES, 1000, 0)
    assert interval.low < 0.5 < interval.high
    assert interval.high - interval.low < 0.02


def test_wilcoxon_equals_scipy_and_the_effect_its_definition():
    a, b = VALUES, VALUES + RNG.normal(0.3, 0.5, 25)
    test = paired_wilcoxon(a, b)
    assert test.p == pytest.approx(stats.wilcoxon(a, b).pvalue)
    ranks = stats.rankdata(np.abs(a - b))
    plus, minus = ranks[a > b].sum(), ranks[a < b].sum()
    assert test.effect == pytest.approx((plus - minus) / (plus + minus))
    assert paired_wilcoxon(b, a).effect == pytest.approx(-test.effect)


def test_wilcoxon_on_equal_and_on_too_few_subjects():
    same = paired_wilcoxon(VALUES, VALUES)
    assert (same.p, same.effect) == (1.0, 0.0)
    few = paired_wilcoxon(VALUES[:2], VALUES[:2] + 1)
    assert math.isnan(few.p)
    assert "3 subjects" in few.reason
    assert paired_wilcoxon(VALUES, VALUES - 1).effect == 1.0


@pytest.mark.parametrize("size", [1, 2, 5, 12])
def test_holm_equals_statsmodels(size):
    p = np.random.default_rng(size).beta(0.3, 2, size)
    assert holm(p.tolist()) == pytest.approx(multipletests(p, method="holm")[1].tolist())


def test_holm_leaves_undefined_p_out_of_the_family():
    adjusted = holm([0.01, math.nan, 0.04])
    assert adjusted[::2] == pytest.approx([0.02, 0.04])
    assert math.isnan(adjusted[1])
    assert holm([]) == []


def test_classification_equals_scikit_learn():
    real = RNG.normal(1.3, 0.3, 40)
    synthetic = real + RNG.normal(0, 0.3, 40)
    outcome = classify(real, synthetic, 1.3, 1000, 0)
    positive = real > 1.3
    assert outcome.auc == pytest.approx(roc_auc_score(positive, synthetic))
    assert outcome.auc_low < outcome.auc < outcome.auc_high
    assert outcome.sensitivity == pytest.approx(np.mean(synthetic[positive] > 1.3))
    assert outcome.specificity == pytest.approx(np.mean(synthetic[~positive] <= 1.3))
    assert (outcome.n, outcome.n_positive) == (40, positive.sum())


def test_bootstrap_auc_equals_scikit_learn_sample_by_sample():
    positive = RNG.random(15) > 0.5
    score = np.round(RNG.normal(size=15), 1)  # with ties
    drawn = _bootstrap_auc(positive, score, 20, 0)
    for sample, auc in zip(resample(15, 20, 0), drawn, strict=True):
        if 0 < positive[sample].sum() < 15:
            assert auc == pytest.approx(roc_auc_score(positive[sample], score[sample]))
        else:
            assert math.isnan(auc)


@pytest.mark.parametrize(("threshold", "reason"), [(-9, "no negative scan"), (9, "no positive scan")])
def test_one_class_alone_has_no_auc(threshold, reason):
    outcome = classify(VALUES[:5], VALUES[:5], threshold, 10, 0)
    assert math.isnan(outcome.auc)
    assert outcome.reason == reason


def test_a_statistic_mostly_undefined_has_no_interval():
    samples = np.r_[np.full(60, math.nan), np.arange(40.0)]
    assert all(math.isnan(end) for end in percentile_interval(samples))
