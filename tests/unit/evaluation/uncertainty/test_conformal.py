from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from relapet.errors import InputError
from relapet.evaluation.uncertainty.conformal import (
    add_intervals,
    calibrate,
    conformal_quantile,
    interval_coverage,
    load_calibration,
    read_predictions,
    save_calibration,
)
from relapet.evaluation.uncertainty.coverage import UncertaintyConfig

CONFIG = UncertaintyConfig(bootstrap=200)


def subjects(n: int, seed: int, *, sd: bool = False, vois: int = 2) -> pd.DataFrame:
    """Predictions whose error is far from Gaussian and, with ``sd``, heteroscedastic as the SD says."""
    rng = np.random.default_rng(seed)
    rows = n * vois
    scale = rng.uniform(0.02, 0.4, rows)
    mean = rng.normal(1.3, 0.2, rows)
    return pd.DataFrame(
        {
            "subject": np.repeat([f"{i:04d}" for i in range(n)], vois),
            "session": "",
            "tracer": "tau",
            "voi": [f"voi{i}" for i in range(vois)] * n,
            "mean": mean,
            "sd": scale if sd else np.nan,
            "real_suvr": mean + scale * rng.standard_t(4, rows),
        }
    )


def at_every_level(calibration, test: pd.DataFrame) -> pd.DataFrame:
    parts = [add_intervals(calibration, test, level).assign(level=level) for level in calibration.levels]
    return interval_coverage(pd.concat(parts), CONFIG)


def test_quantile_is_the_finite_sample_one():
    scores = np.arange(1.0, 20.0)  # n = 19
    assert conformal_quantile(scores, 0.95) == 19.0
    assert conformal_quantile(scores[:-1], 0.95) == math.inf
    assert conformal_quantile(scores[:9], 0.9) == 9.0
    assert conformal_quantile(np.array([]), 0.5) == math.inf
    for level, fewest in ((0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19)):
        assert math.isfinite(conformal_quantile(np.ones(fewest), level))
        assert conformal_quantile(np.ones(fewest - 1), level) == math.inf


@pytest.mark.parametrize("scaled", [False, True])
def test_coverage_on_exchangeable_subjects_is_within_binomial_bounds(scaled):
    """Averaged over many calibrations coverage is exactly ceil((n + 1) level) / (n + 1)."""
    n, tests, repeats = 25, 40, 150
    covered = dict.fromkeys(CONFIG.levels, 0)
    for repeat in range(repeats):
        data = subjects(n + tests, repeat, sd=scaled, vois=1)
        calibration = calibrate(data[:n], CONFIG)
        assert calibration.scaled is scaled
        for level in CONFIG.levels:
            test = add_intervals(calibration, data[n:], level)
            covered[level] += int(test["real_suvr"].between(test["low"], test["high"]).sum())
    for level in CONFIG.levels:
        rank = math.ceil((n + 1) * level)
        # Test subjects that share a calibration are beta-binomial, not binomial.
        spread = stats.betabinom(tests, rank, n + 1 - rank).std() * math.sqrt(repeats)
        assert abs(covered[level] - repeats * tests * rank / (n + 1)) < 4 * spread


def test_scaling_by_the_sd_makes_intervals_sharper():
    plain = calibrate(subjects(400, 0), CONFIG)
    scaled = calibrate(subjects(400, 0, sd=True), CONFIG)
    test = subjects(400, 1, sd=True)
    tables = {name: at_every_level(c, test) for name, c in (("plain", plain), ("scaled", scaled))}
    at = {name: t[(t["voi"] == "all") & (t["level"] == 0.9)].iloc[0] for name, t in tables.items()}
    for row in at.values():
        assert abs(row["coverage"] - 0.9) < 0.04
    assert at["scaled"]["width"] < 0.9 * at["plain"]["width"]


def test_too_few_subjects_have_unbounded_intervals(tmp_path):
    calibration = calibrate(subjects(10, 0), CONFIG)
    assert calibration.best_level() == 0.9
    table = add_intervals(calibration, subjects(5, 1), 0.95)
    assert np.isneginf(table["low"]).all()
    assert np.isposinf(table["high"]).all()
    assert np.isfinite(add_intervals(calibration, subjects(5, 1), 0.9)[["low", "high"]]).all(axis=None)
    save_calibration(calibration, tmp_path / "c.json")
    assert json.loads((tmp_path / "c.json").read_text())["vois"]["tau"]["voi0"]["half_width"]["0.95"] is None
    assert load_calibration(tmp_path / "c.json") == calibration


def test_a_second_visit_does_not_count_twice():
    data = subjects(12, 0)
    twice = pd.concat([data.assign(session="a"), data.assign(session="b", real_suvr=9.0)])
    assert calibrate(twice, CONFIG) == calibrate(data, CONFIG)


def test_missing_levels_tracers_vois_and_sds():
    calibration = calibrate(subjects(30, 0, sd=True), CONFIG)
    test = subjects(3, 1, sd=True)
    with pytest.raises(InputError, match=r"no level 0\.7; it has 0\.5, 0\.8, 0\.9, 0\.95"):
        add_intervals(calibration, test, 0.7)
    with pytest.raises(InputError, match="no tracer pib"):
        add_intervals(calibration, test.assign(tracer="pib"), 0.9)
    with pytest.raises(InputError, match="--samples 2 or more"):
        add_intervals(calibration, test.assign(sd=np.nan), 0.9)
    other = add_intervals(calibration, test.assign(voi="elsewhere"), 0.9)
    assert other[["low", "high"]].isna().all(axis=None)


def test_calibration_files_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "c.json"
    save_calibration(calibrate(subjects(30, 0), CONFIG, weights_sha256="aa"), path)
    assert load_calibration(path, "aa").weights_sha256 == "aa"
    with pytest.raises(InputError, match="other weights"):
        load_calibration(path, "bb")
    path.write_text('{"scaled": true}')
    with pytest.raises(InputError, match="key levels"):
        load_calibration(path)


def test_predictions_are_read_from_the_voi_tables_that_synthesis_writes(tmp_path):
    folder = tmp_path / "sub-01" / "ses-x" / "pet"
    folder.mkdir(parents=True)
    with pytest.raises(InputError, match="desc-synth_suvr"):
        read_predictions(tmp_path)
    name = "sub-01_ses-x_trc-PIB_space-MNI152NLin2009aSym_meas-SUVR_seg-DK_desc-synth_suvr.tsv"
    (folder / name).write_text("index\tname\tmean\tsd\tvolume\n8\tvoi0\t1.25\tn/a\t64\n")
    row = read_predictions(tmp_path).iloc[0]
    assert (row["subject"], row["session"], row["tracer"], row["voi"], row["mean"]) == (
        "01",
        "x",
        "pib",
        "voi0",
        1.25,
    )
    assert math.isnan(row["sd"])
    (folder / name).write_text("index\tname\n8\tvoi0\n")
    with pytest.raises(InputError, match="column mean"):
        read_predictions(tmp_path)
