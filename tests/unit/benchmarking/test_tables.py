"""Tables of a comparison, from evaluations whose scores are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from relapet.benchmarking.further import further_lines
from relapet.benchmarking.summary import _best, _main_table, _matrix
from relapet.benchmarking.tables import Comparison, Scored, compare
from relapet.evaluation.scores.image_metrics import METRICS
from relapet.evaluation.statistics import Sampling

VOIS = ("ctx-lh-precuneus", "ctx-rh-precuneus")
PEOPLE = 14
SAMPLING = Sampling(200, 0)


def write_evaluation(folder: Path, scores: dict[str, tuple[float, float]], seed: int = 0) -> Path:
    """Of each method: its PSNR, and how much of what differs between people its regional values follow."""
    rng = np.random.default_rng(0)
    level, person = rng.normal(0, 0.2, PEOPLE), rng.normal(0, 1, PEOPLE)
    image, voi = [], []
    for number, (name, (psnr, follows)) in enumerate(scores.items()):
        own = np.random.default_rng((seed, number)).normal(0, 0.05, PEOPLE)
        for i in range(PEOPLE):
            row = {"subject": f"sub-{i:02d}", "session": None, "tracer": "tau", "method": name}
            image.append(row | dict.fromkeys(METRICS, 0.5) | {"psnr": psnr + person[i] + own[i]})
            for region in VOIS:
                values = {"real_suvr": 1 + level[i], "synth_suvr": 1 + follows * level[i]}
                voi.append(
                    {"subject": f"sub-{i:02d}", "tracer": "tau", "method": name, "voi": region, **values,
                     "kind": "voi", "target": True, "sessions": 1}
                )  # fmt: skip
    folder.mkdir(parents=True)
    pd.DataFrame(image).to_csv(folder / "image_metrics.tsv", sep="\t", index=False, na_rep="n/a")
    pd.DataFrame(voi).to_csv(folder / "voi.tsv", sep="\t", index=False)
    return folder


@pytest.fixture
def found(tmp_path: Path) -> Comparison:
    """Two seeds of a good and a worse method, beside the training mean."""
    scored = []
    for seed in (0, 1):
        for name, score in {"good": (30.0 + 2 * seed, 0.8), "worse": (25.0, 0.4)}.items():
            tables = {name: score, "tracer_mean": (24.0, 0.0)}
            scored.append(Scored(name, seed, write_evaluation(tmp_path / f"{name}-{seed}", tables, seed)))
    return compare(scored, SAMPLING)


def mean_of(found: Comparison, method: str, metric: str) -> pd.Series:
    rows = found.means[(found.means["method"] == method) & (found.means["metric"] == metric)]
    assert len(rows) == 1
    return rows.iloc[0]


def test_means_are_over_people_and_seeds(found: Comparison) -> None:
    good = mean_of(found, "good", "psnr")
    assert good["n"] == PEOPLE
    assert good["seeds"] == 2
    assert good["estimate"] == pytest.approx((good["seed_low"] + good["seed_high"]) / 2)
    assert good["seed_high"] - good["seed_low"] == pytest.approx(2, abs=0.1)
    assert good["low"] < good["estimate"] < good["high"]
    assert mean_of(found, "tracer_mean", "psnr")["seeds"] == 1


def test_slope_and_sd_ratio_tell_a_timid_map(found: Comparison) -> None:
    for method, follows in (("good", 0.8), ("worse", 0.4), ("tracer_mean", 0.0)):
        assert mean_of(found, method, "voi_slope")["estimate"] == pytest.approx(follows)
        assert mean_of(found, method, "voi_sd_ratio")["estimate"] == pytest.approx(follows)
    assert mean_of(found, "worse", "voi_r")["estimate"] == pytest.approx(1)
    assert np.isnan(mean_of(found, "tracer_mean", "voi_r")["estimate"])


def test_seeds_are_rows_of_their_own(found: Comparison) -> None:
    assert len(found.image) == (2 * 2 + 1) * PEOPLE
    assert len(found.voi) == (2 * 2 + 1) * PEOPLE * len(VOIS)
    assert list(found.image.columns[:5]) == ["subject", "session", "tracer", "method", "seed"]
    assert set(found.agreement["seed"]) == {0, 1}


def test_every_pair_is_tested_once_over_people(found: Comparison) -> None:
    tests = found.tests[found.tests["metric"] == "psnr"]
    assert len(tests) == 3
    assert set(tests["n"]) == {PEOPLE}
    assert (tests["p_holm"] < 0.05).all()
    pair = tests[(tests["method_a"] == "good") & (tests["method_b"] == "worse")]
    assert pair["difference"].item() == pytest.approx(6, abs=0.1)


def test_the_best_is_bold_where_the_tests_say_so(found: Comparison) -> None:
    assert _best(found, "tau", "psnr") == "good"
    assert _best(found, "tau", "voi_mae") == "good"
    assert _best(found, "tau", "ssim") is None  # the same for all
    lines = _main_table(found, "tau")
    bold = [line for line in lines if "**" in line]
    assert len(bold) == 1
    assert bold[0].startswith("| good | 14 | **30.9")
    assert any(line.startswith("| good |  | +6") and "\\*" in line for line in _matrix(found, "tau", "psnr"))


def test_the_best_by_a_hair_is_not_bold(tmp_path: Path) -> None:
    tables = {"one": (30.0, 0.5), "tracer_mean": (24.0, 0.0)}
    first = write_evaluation(tmp_path / "one", tables)
    second = write_evaluation(
        tmp_path / "two", {"two" if k == "one" else k: v for k, v in tables.items()}, seed=9
    )
    found = compare([Scored("one", 0, first), Scored("two", 0, second)], SAMPLING)
    assert _best(found, "tau", "psnr") is None
    assert not any("**" in line for line in _main_table(found, "tau"))


def test_a_benchmarked_training_mean_is_not_counted_twice(tmp_path: Path) -> None:
    tables = {"one": (30.0, 0.5), "tracer_mean": (24.0, 0.0)}
    first = write_evaluation(tmp_path / "one", tables)
    mean = write_evaluation(tmp_path / "mean", {"tracer_mean": (24.0, 0.0)})
    found = compare([Scored("one", 0, first), Scored("tracer_mean", 0, mean)], SAMPLING)
    assert found.results.methods == ["one", "tracer_mean"]
    assert len(found.image) == 2 * PEOPLE


def write_doubt(folder: Path, method: str, crps: float) -> None:
    """What an evaluation says of samples, each person's score 0.01 from the next."""
    rows = [
        {"subject": f"sub-{i:02d}", "tracer": "tau", "method": method, "n_samples": 8, "crps": crps + 0.01 * i,
         "mae": 0.2, "sd": 0.1}
        for i in range(PEOPLE)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "uncertainty_subjects.tsv", sep="\t", index=False)
    over = {"tracer": "tau", "method": method, "voi": "all", "n": PEOPLE, "n_samples": 8}
    ends = {"ci_low": 0.7, "ci_high": 0.85}
    pd.DataFrame([over | {"crps": crps, "mae": 0.2, "sd": 0.1} | ends]).to_csv(
        folder / "uncertainty_crps.tsv", sep="\t", index=False
    )
    levels = [
        over
        | ends
        | {"level": level, "coverage": 0.78, "attainable": min(level, 7 / 9), "interval": "samples"}
        for level in (0.5, 0.8, 0.9)
    ]
    pd.DataFrame(levels).to_csv(folder / "uncertainty_coverage.tsv", sep="\t", index=False)


def test_samples_are_scored_against_maps_by_their_crps(tmp_path: Path) -> None:
    """A map's is its absolute error; here 0.6 of how far a person is from the mean."""
    scored = []
    for name, crps in (("draws", 0.001), ("map", None)):
        folder = write_evaluation(tmp_path / name, {name: (30.0, 0.4), "tracer_mean": (24.0, 0.0)})
        if crps is not None:
            write_doubt(folder, name, crps)
        scored.append(Scored(name, 0, folder))
    found = compare(scored, SAMPLING)
    assert mean_of(found, "draws", "crps")["estimate"] == pytest.approx(0.001 + 0.01 * (PEOPLE - 1) / 2)
    error = mean_of(found, "map", "voi_mae")["estimate"]
    assert mean_of(found, "map", "crps")["estimate"] == pytest.approx(error)
    pair = found.tests[(found.tests["metric"] == "crps") & (found.tests["method_b"] == "map")]
    assert pair["n"].item() == PEOPLE
    lines = further_lines(found.further, found.agreement, "tau", found.results.methods)
    row = next(line for line in lines if line.startswith("| draws | 8 |"))
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[3:6] == ["0.78 [0.7, 0.85]", "0.78 [0.7, 0.85]", "n/a"]  # 8 samples cannot tell of 90 %
    assert not further_lines({}, found.agreement, "pib", found.results.methods)
