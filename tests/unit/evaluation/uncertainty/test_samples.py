from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from relapet.errors import InputError
from relapet.evaluation.uncertainty.coverage import UncertaintyConfig
from relapet.evaluation.uncertainty.samples import (
    attainable,
    central_interval,
    crps,
    crps_table,
    judge_samples,
    read_samples,
    sample_coverage,
    sample_mean_curve,
    scores_table,
    subjects_table,
)
from relapet.evaluation.uncertainty.voi_tables import measure_vois, pair_with_real
from relapet.imaging.bids import Visit, index_derivative
from relapet.imaging.grid import GRIDS
from relapet.imaging.nifti import save_volume
from relapet.imaging.template import load_atlas
from relapet.tracers import get_tracer

CONFIG = UncertaintyConfig(bootstrap=200)


def gaussian_pairs(
    subjects: int, n: int, *, spread: float = 0.2, seed: int = 0, vois: int = 3
) -> pd.DataFrame:
    """A sampler that draws from the true predictive distribution N(1, 0.2) times spread / 0.2."""
    rng = np.random.default_rng(seed)
    rows = subjects * vois
    frame = pd.DataFrame(
        {
            "subject": np.repeat([f"{i:03d}" for i in range(subjects)], vois),
            "session": "",
            "tracer": "tau",
            "voi": [f"voi{i}" for i in range(vois)] * subjects,
            "real_suvr": rng.normal(1, 0.2, rows),
        }
    )
    samples = rng.normal(1, spread, (rows, n))
    return pd.concat([frame, pd.DataFrame(samples, columns=[f"sample-{i}" for i in range(n)])], axis=1)


def test_crps_of_a_gaussian_is_the_closed_form():
    sigma, y = 0.3, np.linspace(-1, 1, 9)
    samples = np.random.default_rng(0).normal(0, sigma, (9, 20_000))
    z = y / sigma
    # Gneiting & Raftery 2007, equation 21 (sign turned).
    expected = sigma * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))
    np.testing.assert_allclose(crps(samples, y), expected, atol=0.005)


@pytest.mark.parametrize("n", [2, 5, 40])
def test_fair_crps_is_unbiased_in_the_number_of_samples(n):
    rng = np.random.default_rng(n)
    sigma, count = 0.3, 40_000
    values = crps(rng.normal(0, sigma, (count, n)), rng.normal(0, sigma, count))
    # A perfect sampler's expected CRPS is sigma / sqrt(pi), whatever N.
    assert abs(values.mean() - sigma / np.sqrt(np.pi)) < 4 * values.std() / np.sqrt(count)


def test_crps_agrees_with_the_double_sum():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=7), 0.4
    pairs = np.abs(x[:, None] - x[None]).sum() / (2 * 7 * 6)
    assert crps(x[None], np.array([y]))[0] == pytest.approx(np.abs(x - y).mean() - pairs)
    with pytest.raises(ValueError, match="two samples"):
        crps(x[None, :1], np.array([y]))


@pytest.mark.parametrize("n", [9, 19, 99])
@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
def test_a_true_sampler_is_covered_as_often_as_promised(n, level):
    rng = np.random.default_rng(2)
    count = 20_000
    low, high = central_interval(rng.normal(size=(count, n)), level)
    real = rng.normal(size=count)
    covered = int(((low <= real) & (real <= high)).sum())
    expected = attainable(n, level)
    # Interpolated order statistics are exact for uniform draws only: 1 % is left to that.
    half = stats.binom.interval(0.9999, count, expected)
    assert half[0] - 0.01 * count <= covered <= half[1] + 0.01 * count


def test_few_samples_cannot_cover_more_than_their_range():
    assert attainable(8, 0.95) == pytest.approx(7 / 9)
    assert attainable(8, 0.5) == 0.5
    low, high = central_interval(np.arange(8.0)[None], 0.95)
    assert (low[0], high[0]) == (0.0, 7.0)


def test_coverage_table_tells_a_calibrated_from_an_overconfident_sampler():
    honest = sample_coverage(gaussian_pairs(150, 60), CONFIG)
    assert set(honest["voi"]) == {"all", "voi0", "voi1", "voi2"}
    assert (honest["n"] == 150).all()
    pooled = honest[honest["voi"] == "all"]
    assert ((pooled["ci_low"] <= pooled["level"]) & (pooled["level"] <= pooled["ci_high"])).all()
    width = pooled.set_index("level")["width"]
    for level in CONFIG.levels:
        assert width[level] == pytest.approx(2 * 0.2 * stats.norm.ppf((1 + level) / 2), rel=0.08)
    narrow = sample_coverage(gaussian_pairs(150, 60, spread=0.05), CONFIG)
    pooled = narrow[narrow["voi"] == "all"]
    assert (pooled["ci_high"] < pooled["level"]).all()


def test_wilson_interval_of_a_voi_is_the_published_one():
    pairs = gaussian_pairs(20, 30, vois=1)
    table = sample_coverage(pairs, CONFIG)
    row = table[(table["voi"] == "voi0") & (table["level"] == 0.8)].iloc[0]
    expected = stats.binomtest(round(row["coverage"] * 20), 20).proportion_ci(method="wilson")
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((expected.low, expected.high))


def test_sessions_of_one_subject_are_one_subject():
    pairs = gaussian_pairs(10, 20)
    twice = pd.concat([pairs.assign(session="a"), pairs.assign(session="b")], ignore_index=True)
    once_table, twice_table = sample_coverage(pairs, CONFIG), sample_coverage(twice, CONFIG)
    assert (twice_table["n"] == 10).all()
    pd.testing.assert_frame_equal(once_table, twice_table)
    pd.testing.assert_frame_equal(
        crps_table(scores_table(pairs), CONFIG), crps_table(scores_table(twice), CONFIG)
    )


def test_scores_of_subjects_average_to_the_table_over_vois():
    pairs = gaussian_pairs(40, 20)
    subjects = subjects_table(scores_table(pairs))
    assert len(subjects) == pairs["subject"].nunique()
    assert subjects["subject"].str.startswith("sub-").all()
    over = crps_table(scores_table(pairs), CONFIG).set_index("voi").loc["all"]
    for column in ("crps", "mae", "sd"):
        assert subjects[column].mean() == pytest.approx(over[column])


def test_crps_table_of_a_true_sampler():
    table = crps_table(scores_table(gaussian_pairs(300, 20)), CONFIG).set_index("voi")
    row = table.loc["all"]
    assert row["ci_low"] <= 0.2 / np.sqrt(np.pi) <= row["ci_high"]
    assert row["sd"] == pytest.approx(0.2, rel=0.05)
    # The mean of 20 samples errs by N(0, 0.2^2 (1 + 1/20)).
    assert row["mae"] == pytest.approx(0.2 * np.sqrt(1.05 * 2 / np.pi), rel=0.08)


def test_mean_of_n_improves_as_theory_says():
    curve = sample_mean_curve(gaussian_pairs(2000, 8, vois=1), CONFIG).set_index("n_samples")
    for n in (1, 2, 8):
        assert curve.loc[n, "mae"] == pytest.approx(0.2 * np.sqrt((1 + 1 / n) * 2 / np.pi), rel=0.05)
    assert (curve["n"] == 2000).all()
    assert curve.loc[8, "ci_high"] < curve.loc[1, "ci_low"]


def write_samples(root: Path, pairs: pd.DataFrame) -> None:
    for subject, rows in pairs.groupby("subject"):
        folder = root / f"sub-{subject}" / "pet"
        folder.mkdir(parents=True)
        name = (
            f"sub-{subject}_trc-AV1451_space-MNI152NLin2009aSym_meas-SUVR_seg-DK_desc-synthsamples_suvr.tsv"
        )
        table = rows.rename(columns={"voi": "name"}).drop(
            columns=["subject", "session", "tracer", "real_suvr"]
        )
        table.to_csv(folder / name, sep="\t", index=False)


def test_files_in_tables_out(tmp_path):
    """Two atlas VOIs of constant maps, whose means are known."""
    tracer, grid = get_tracer("tau"), GRIDS["4mm"]
    labels, names = load_atlas(grid).labels, load_atlas(grid).names
    chosen = {names[index]: index for index in np.unique(labels)[1:3]}
    pairs = gaussian_pairs(12, 6, vois=2).replace({"voi": dict(zip(["voi0", "voi1"], chosen, strict=True))})
    write_samples(tmp_path / "synth", pairs)
    for subject, rows in pairs.groupby("subject"):
        suvr = np.ones(grid.shape, np.float32)
        for voi, value in zip(rows["voi"], rows["real_suvr"], strict=True):
            suvr[labels == chosen[voi]] = value
        save_volume(Visit(str(subject)).pet(tmp_path / "real", tracer), suvr, grid.affine)
    measured = measure_vois(index_derivative(tmp_path / "real"), grid, pytest.fail)
    tables = judge_samples({"rela": tmp_path / "synth"}, measured, CONFIG)
    coverage = tables["uncertainty_coverage"]
    assert set(coverage["interval"]) == {"samples"}
    pd.testing.assert_frame_equal(
        coverage.drop(columns=["method", "interval"]), sample_coverage(pairs, CONFIG)
    )
    for table in tables.values():
        assert list(table.columns.drop("subject", errors="ignore")[:2]) == ["tracer", "method"]
        assert set(table["method"]) == {"rela"}
    assert judge_samples({"rela": tmp_path / "real"}, measured, CONFIG) == {}
    with pytest.raises(InputError, match="No measured"):
        measure_vois(index_derivative(tmp_path / "synth"), grid, pytest.fail)


def test_a_measured_map_that_cannot_be_read_is_told_and_left_out(tmp_path):
    tracer, grid = get_tracer("tau"), GRIDS["4mm"]
    for label in ("01", "02"):
        suvr = np.random.default_rng(0).random(grid.shape)
        save_volume(Visit(label).pet(tmp_path, tracer), suvr, grid.affine)
    path = Visit("02").pet(tmp_path, tracer)
    path.write_bytes(path.read_bytes()[:500])
    told: list[str] = []
    assert set(measure_vois(index_derivative(tmp_path), grid, told.append)["subject"]) == {"01"}
    assert len(told) == 1
    assert path.name in told[0]


def test_missing_and_uneven_samples_are_refused(tmp_path):
    pairs = gaussian_pairs(3, 4)
    (tmp_path / "sub-01" / "pet").mkdir(parents=True)
    with pytest.raises(InputError, match="--samples 2 or more"):
        read_samples(tmp_path)
    write_samples(tmp_path, pairs)
    odd = next((tmp_path / "sub-001" / "pet").iterdir())
    pd.read_csv(odd, sep="\t").drop(columns="sample-3").to_csv(odd, sep="\t", index=False)
    with pytest.raises(InputError, match=r"sub-001\S+ holds 3 samples but \S+ holds 4"):
        read_samples(tmp_path)
    odd.write_text("index\tname\n1\tvoi0\n")
    with pytest.raises(InputError, match="lacks the columns sample-0"):
        read_samples(tmp_path)
    odd.write_text("index\tregion\n1\tvoi0\n")
    with pytest.raises(InputError, match="lacks the column name"):
        read_samples(tmp_path)


def test_pairing_refuses_tables_that_do_not_meet():
    pairs = gaussian_pairs(3, 4)
    samples = pairs.drop(columns="real_suvr")
    with pytest.raises(InputError, match="check the labels"):
        pair_with_real(samples, pairs.assign(subject="x" + pairs["subject"]))
    assert len(pair_with_real(samples, pairs[1:])) == len(pairs) - 1
    samples.loc[4, "sample-1"] = np.nan
    with pytest.raises(InputError, match="VOI voi1 of subject 001 has no finite value in sample-1"):
        pair_with_real(samples, pairs)
