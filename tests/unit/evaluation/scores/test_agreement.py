from __future__ import annotations

import numpy as np
import pandas as pd
import pingouin
import pytest
from scipy import stats

from relapet.evaluation.scores.agreement import (
    agreement,
    bootstrap_r,
    icc_2_1,
    median_r,
    median_r_difference,
    pearson,
    row_median,
)
from relapet.evaluation.statistics import resample

RNG = np.random.default_rng(0)
REAL = RNG.normal(1.3, 0.2, (20, 6))
SYNTHETIC = REAL + RNG.normal(0.05, 0.1, (20, 6)) * np.arange(1, 7)


def test_r_and_its_interval_equal_scipy():
    table = agreement(REAL, SYNTHETIC)
    for voi, row in table.iterrows():
        reference = stats.pearsonr(REAL[:, voi], SYNTHETIC[:, voi])
        interval = reference.confidence_interval()
        assert [row.r, row.ci_low, row.ci_high] == pytest.approx(
            [reference.statistic, interval.low, interval.high]
        )
        assert row.n == 20


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # raised within pingouin
def test_icc_equals_pingouin():
    for voi, icc in enumerate(icc_2_1(REAL, SYNTHETIC)):
        long = pd.DataFrame(
            {
                "subject": np.tile(np.arange(20), 2),
                "rater": np.repeat(["real", "synthetic"], 20),
                "suvr": np.r_[REAL[:, voi], SYNTHETIC[:, voi]],
            }
        )
        table = pingouin.intraclass_corr(long, "subject", "rater", "suvr").set_index("Type")
        row = next(name for name in table.index if name in ("ICC2", "ICC(A,1)"))
        assert icc == pytest.approx(table.loc[row, "ICC"], abs=1e-6)


def test_a_constant_shift_is_exactly_the_bland_altman_bias():
    table = agreement(REAL, REAL + 0.125)
    assert table["bias"].to_numpy() == pytest.approx(0.125)
    assert table["loa_low"].to_numpy() == pytest.approx(0.125)
    assert table["loa_high"].to_numpy() == pytest.approx(0.125)
    assert table["r"].to_numpy() == pytest.approx(1)
    assert (table["icc"] < 0.95).all()  # r does not see the shift, ICC does


def test_limits_of_agreement_hold_95_percent_of_normal_differences():
    real = RNG.normal(1, 0.2, (4000, 1))
    synthetic = real + RNG.normal(0.1, 0.05, (4000, 1))
    row = agreement(real, synthetic).iloc[0]
    inside = np.mean((synthetic - real > row.loa_low) & (synthetic - real < row.loa_high))
    assert inside == pytest.approx(0.95, abs=0.015)


def test_fewer_than_three_subjects_have_no_r_and_say_so():
    table = agreement(REAL[:2], SYNTHETIC[:2])
    assert table[["r", "ci_low", "ci_high", "icc"]].isna().all(axis=None)
    assert (table["reason"] == "fewer than 3 subjects").all()
    assert (table["n"] == 2).all()
    assert table["bias"].notna().all()
    assert np.isnan(median_r(REAL[:2], SYNTHETIC[:2], 100, 0).estimate)


def test_three_subjects_have_r_with_an_interval_that_says_nothing():
    row = agreement(REAL[:3], SYNTHETIC[:3]).iloc[0]
    assert (row.ci_low, row.ci_high) == (-1, 1)


def test_values_constant_over_subjects_have_no_r_even_with_rounding_noise():
    constant = np.full_like(REAL, 1.3) * (1 + 1e-15 * RNG.normal(size=REAL.shape))
    table = agreement(REAL, constant)
    assert table["r"].isna().all()
    assert (table["reason"] == "no variation over subjects in the synthetic value").all()
    assert np.isnan(bootstrap_r(REAL, constant, 50, 0)).all()


def test_bootstrap_r_equals_numpy_sample_by_sample():
    drawn = bootstrap_r(REAL, SYNTHETIC, 10, 7)
    for row, sample in zip(drawn, resample(20, 10, 7), strict=True):
        assert row == pytest.approx(pearson(REAL[sample], SYNTHETIC[sample]))


def test_cross_subject_r_is_not_fooled_by_anatomy():
    """VOIs that differ a lot, predicted by their mean plus chance: pooled r is high, ours is not."""
    anatomy = np.linspace(0.5, 3, 40)
    real = anatomy + RNG.normal(0, 0.1, (30, 40))
    guess = anatomy + RNG.normal(0, 0.1, (30, 40))
    assert np.corrcoef(real.ravel(), guess.ravel())[0, 1] > 0.95
    interval = median_r(real, guess, 500, 0)
    assert abs(interval.estimate) < 0.2


def test_the_difference_of_medians_is_paired():
    same = median_r_difference(REAL, SYNTHETIC, SYNTHETIC, 200, 0)
    assert (same.estimate, same.low, same.high) == (0, 0, 0)
    better = median_r_difference(REAL, REAL, SYNTHETIC, 200, 0)
    assert better.low > 0


def test_row_median_ignores_undefined_vois():
    assert row_median(np.array([[1, np.nan, 3], [np.nan] * 3])) == pytest.approx([2, np.nan], nan_ok=True)
