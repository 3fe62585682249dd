from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage, stats

from relapet.errors import InputError
from relapet.evaluation.config import EvaluationConfig
from relapet.evaluation.evaluate import evaluate
from relapet.evaluation.scores.image_metrics import METRICS
from relapet.imaging.grid import GRIDS
from relapet.imaging.nifti import load_volume, save_volume
from relapet.imaging.resample import resample_to_grid
from relapet.imaging.template import load_atlas, load_template
from relapet.report.summary import write_summary
from relapet.tracers import get_tracer

FAST = EvaluationConfig(bootstrap=200)


TABLES = ("image_metrics", "voi", "agreement", "tests", "positivity", "centiloid")


def blurred(cohort):
    return lambda visit, tracer: ndimage.gaussian_filter(cohort.halfway(visit, tracer), 0.8)


@pytest.fixture(scope="module")
def done(cohort, trees, tmp_path_factory):
    """Two methods with training means and ceilings."""
    root = tmp_path_factory.mktemp("synthetic")
    rela = trees.synthetic(root / "a", cohort, cohort.halfway, "rela", [])
    trees.training_means(rela, cohort)
    regression = trees.synthetic(root / "b", cohort, blurred(cohort), "regression", [])
    result = evaluate(cohort.root, [rela, regression], root / "out", FAST)
    write_summary(result)
    return result


def read(result, name):
    return pd.read_csv(result.out / f"{name}.tsv", sep="\t")


def test_all_methods_and_ceilings_are_scored_on_every_scan(done):
    table = read(done, "image_metrics")
    assert list(table.columns) == ["subject", "session", "tracer", "method", *METRICS]
    counts = table.groupby(["tracer", "method"]).size()
    methods = ["rela", "regression", "tracer_mean", "noise_ceiling", "visible_ceiling"]
    assert counts.to_dict() == {(t, m): 12 for t in ("tau", "pib") for m in methods}
    assert done.problems == []
    assert table["subject"].iloc[0] == "sub-01"


def test_written_tables_have_the_fixed_columns_first(done):
    fixed = {
        "image_metrics": "subject session tracer method",
        "voi": "subject tracer method voi real_suvr synth_suvr",
        "agreement": "tracer method voi n r ci_low ci_high icc bias loa_low loa_high",
        "tests": "tracer metric method_a method_b n p p_holm effect",
    }
    for name, columns in fixed.items():
        assert " ".join(read(done, name).columns).startswith(columns)


def test_a_row_equals_scoring_the_two_files_by_hand(done, cohort, trees):
    table = read(done, "image_metrics")
    row = table.query("subject == 'sub-03' and tracer == 'tau' and method == 'visible_ceiling'").iloc[0]
    visit = cohort.visits[2]
    brain = load_template(GRIDS["4mm"]).brain
    real = load_volume(visit.pet(cohort.root, get_tracer("tau"))).get_fdata()[brain]
    seen = load_volume(visit.pet(cohort.root / "truth", get_tracer("tau"), "visible")).get_fdata()[brain]
    assert row["mae"] == pytest.approx(np.abs(real - seen).mean(), rel=1e-5)
    low, high = get_tracer("tau").suvr_window
    assert row["psnr"] == pytest.approx(
        10 * math.log10((high - low) ** 2 / np.mean((real - seen) ** 2)), rel=1e-5
    )


def test_agreement_correlates_subjects_not_voxels(done, cohort):
    table = read(done, "agreement").set_index(["tracer", "method", "voi"])
    labels = load_atlas(GRIDS["4mm"])
    chosen = labels.mask(("ctx-lh-precuneus",))
    tau = get_tracer("tau")
    real = [load_volume(v.pet(cohort.root, tau)).get_fdata()[chosen].mean() for v in cohort.visits]
    seen = [cohort.visible(v, "tau")[chosen].mean() for v in cohort.visits]
    row = table.loc[("tau", "visible_ceiling", "ctx-lh-precuneus")]
    assert row["r"] == pytest.approx(stats.pearsonr(real, seen).statistic, abs=1e-5)
    assert row["bias"] == pytest.approx(np.mean(seen) - np.mean(real), abs=1e-5)
    mean_row = table.loc[("tau", "tracer_mean", "ctx-lh-precuneus")]
    assert math.isnan(mean_row["r"])
    assert "no variation" in mean_row["reason"]


def test_the_summary_orders_methods_between_floor_and_ceilings(done):
    summary = json.loads((done.out / "summary.json").read_text())
    for tracer in ("tau", "pib"):
        content = summary["tracers"][tracer]
        mae = {method: values["mae"]["estimate"] for method, values in content["methods"].items()}
        assert mae["noise_ceiling"] < mae["visible_ceiling"] < mae["rela"]
        assert content["suvr_window"] == list(get_tracer(tracer).suvr_window)
        assert content["methods"]["tracer_mean"]["voi_r"]["estimate"] is None
        assert content["methods"]["rela"]["voi_r"]["n"] == 12
        assert len(content["leak_checks"]) == 3 * 4
        assert not any(check["leak"] for check in content["leak_checks"])


def test_differences_to_the_tracer_mean_are_paired_means_with_intervals(done):
    metrics = done.tables["image_metrics"].pivot_table(
        index=["tracer", "subject"], columns="method", values="psnr"
    )
    for tracer in ("tau", "pib"):
        rows = done.summary["tracers"][tracer]["difference_to_tracer_mean"]
        assert rows.keys() == {"rela", "regression", "noise_ceiling", "visible_ceiling"}
        for method, row in rows.items():
            expected = (metrics.loc[tracer][method] - metrics.loc[tracer]["tracer_mean"]).mean()
            assert row["psnr"]["estimate"] == pytest.approx(expected)
            assert row["psnr"]["low"] <= expected <= row["psnr"]["high"]


def test_tests_compare_every_pair_once_and_correct_within_the_family(done):
    tests = done.tables["tests"].query("tracer == 'tau' and metric == 'psnr'")
    contest = tests[tests["family"] == "method"]
    assert set(zip(contest["method_a"], contest["method_b"], strict=True)) == {
        ("rela", "regression"), ("rela", "tracer_mean"), ("regression", "tracer_mean"),
    }  # fmt: skip
    assert (contest["p_holm"] >= contest["p"]).all()
    assert contest["p_holm"].min() == pytest.approx(min(3 * contest["p"].min(), 1))
    assert (tests["n"] == 12).all()
    psnr = (
        done.tables["image_metrics"]
        .query("tracer == 'tau'")
        .pivot(index="subject", columns="method", values="psnr")
    )
    row = contest.iloc[0]
    assert row["p"] == pytest.approx(stats.wilcoxon(psnr["rela"], psnr["regression"]).pvalue)


def test_positivity_and_centiloids_are_reported(done):
    table = read(done, "positivity").set_index(["tracer", "method"])
    assert table.loc[("tau", "noise_ceiling"), "auc"] == 1
    assert table.loc[("tau", "tracer_mean"), "auc"] == 0.5
    assert table.loc[("pib", "rela"), "n"] == 12
    centiloid = done.summary["tracers"]["pib"]["methods"]["noise_ceiling"]["centiloid"]
    assert centiloid["r"] > 0.99
    assert centiloid["n"] == 12
    assert "centiloid" not in set(done.tables["voi"]["voi"])


def test_the_report_for_readers_states_windows_n_and_intervals(done):
    text = (done.out / "summary.md").read_text()
    assert "SUVr window 0 to 3.5" in text
    assert "| rela | 12 |" in text
    assert "visible_ceiling" in text
    assert "Paired difference to tracer_mean" in text
    assert "nan" not in text


def test_the_same_input_gives_the_same_files(done, cohort, tmp_path):
    roots = list(done.summary["inputs"]["synthetic"].values())
    again = evaluate(cohort.root, roots, tmp_path, FAST)
    write_summary(again)
    for name in (*(f"{table}.tsv" for table in TABLES), "summary.json", "summary.md"):
        assert (again.out / name).read_bytes() == (done.out / name).read_bytes()


def test_measured_against_itself_is_perfect(trees, tmp_path):
    measured = trees.cohort(tmp_path / "real", 4, ("pib",), truth=False)
    result = evaluate(measured.root, [measured.root], tmp_path / "out", FAST)
    method = measured.root.name
    assert (result.tables["image_metrics"]["psnr"] == math.inf).all()
    assert (result.tables["image_metrics"]["ssim"] == 1).all()
    assert (result.tables["image_metrics"]["mae"] == 0).all()
    agreement = result.tables["agreement"].query("method == @method and target")
    assert agreement["r"].to_numpy() == pytest.approx(1)
    summary = json.loads((result.out / "summary.json").read_text(), parse_constant=pytest.fail)
    assert summary["tracers"]["pib"]["methods"][method]["psnr"]["estimate"] == "inf"
    assert any("plain SUVr maps" in note for note in summary["notes"])
    assert sum("ceiling is absent" in note for note in summary["notes"]) == 2
    assert any("tracer_mean is not scored" in note for note in summary["notes"])


def test_sessions_are_averaged_before_statistics(trees, tmp_path):
    measured = trees.cohort(tmp_path / "real", 3, ("tau",), sessions=("a", "b"), truth=False)
    root = trees.synthetic(tmp_path / "s", measured, measured.visible, "rela", [])
    result = evaluate(measured.root, [root], tmp_path / "out", FAST)
    assert len(result.tables["image_metrics"]) == 6
    assert set(result.tables["agreement"]["n"]) == {3}
    assert (result.tables["voi"]["sessions"] == 2).all()
    mean = result.tables["image_metrics"].groupby("subject")["mae"].mean().mean()
    assert result.summary["tracers"]["tau"]["methods"]["rela"]["mae"]["estimate"] == pytest.approx(mean)


def rewrite(path, change):
    image = load_volume(path)
    data, affine = change(np.array(image.dataobj)), image.affine
    save_volume(path, data, affine)


def test_broken_volumes_are_named_and_the_others_go_on(small, tmp_path):
    measured, root = small
    tau, pib = get_tracer("tau"), get_tracer("pib")
    visits = measured.visits
    rewrite(visits[0].pet(root, tau, "synth"), lambda data: np.where(data > 1, np.nan, data))
    broken = visits[1].pet(root, tau, "synth")
    broken.write_bytes(broken.read_bytes()[:1000])
    coarse = resample_to_grid(load_volume(visits[2].pet(root, tau, "synth")), GRIDS["3mm"])
    save_volume(visits[2].pet(root, tau, "synth"), coarse, GRIDS["3mm"].affine)
    rewrite(visits[3].pet(measured.root, pib), lambda data: data * np.nan)
    result = evaluate(measured.root, [root], tmp_path / "out", FAST)
    found = {(p.subject, p.tracer, p.method): p.reason for p in result.problems}
    assert "NaN" in found["sub-01", "tau", "rela"]
    assert "truncated" in found["sub-02", "tau", "rela"]
    assert "another grid" in found["sub-03", "tau", "rela"]
    assert "NaN" in found["sub-04", "pib", "measured"]
    assert len(found) == 4
    assert result.summary["tracers"]["tau"]["methods"]["rela"]["psnr"]["n"] == 1
    assert result.summary["tracers"]["pib"]["methods"]["rela"]["psnr"]["n"] == 3
    assert "sub-03 n/a tau rela" in write_summary(result).read_text()


def test_a_shifted_affine_is_another_grid(small, tmp_path):
    measured, root = small
    path = measured.visits[0].pet(root, get_tracer("tau"), "synth")
    image = load_volume(path)
    moved = image.affine.copy()
    moved[0, 3] += 4
    save_volume(path, np.asarray(image.dataobj), moved)
    result = evaluate(measured.root, [root], tmp_path / "out", FAST)
    assert [problem.subject for problem in result.problems] == ["sub-01"]


def test_nothing_scorable_is_an_error_with_the_first_reason(trees, tmp_path):
    measured = trees.cohort(tmp_path / "real", 1, ("tau",), truth=False)
    root = trees.synthetic(tmp_path / "s", measured, lambda *_: np.full((8, 8, 8), 1, "f4"), "rela", [])
    with pytest.raises(InputError, match="another grid"):
        evaluate(measured.root, [root], tmp_path / "out", FAST)


def test_images_outside_the_template_are_named(trees, tmp_path):
    measured = trees.cohort(tmp_path / "real", 1, ("tau",), truth=False)
    far = np.diag([4.0, 4, 4, 1])
    far[:3, 3] = 5000
    path = measured.visits[0].pet(measured.root, get_tracer("tau"))
    save_volume(path, np.random.default_rng(0).random((20, 20, 20)), far)
    with pytest.raises(InputError, match="no part of the template"):
        evaluate(measured.root, [measured.root], tmp_path / "out", FAST)


def test_two_subjects_are_scored_but_not_correlated(trees, tmp_path):
    measured = trees.cohort(tmp_path / "real", 2, ("tau",), truth=False)
    root = trees.synthetic(tmp_path / "s", measured, measured.visible, "rela", [])
    result = evaluate(measured.root, [root], tmp_path / "out", FAST)
    assert result.tables["agreement"]["r"].isna().all()
    assert set(result.tables["agreement"]["reason"]) == {"fewer than 3 subjects"}
    assert result.summary["tracers"]["tau"]["methods"]["rela"]["psnr"]["estimate"] > 20


def test_a_users_atlas_replaces_the_regions(small, tmp_path):
    measured, root = small
    labels = np.zeros(measured.grid.shape, np.int16)
    labels[15:20, 20:30, 20:30], labels[20:25, 20:30, 20:30] = 1, 2
    save_volume(tmp_path / "halves.nii.gz", labels, measured.grid.affine, dtype=np.int16)
    table = tmp_path / "names.tsv"
    table.write_text("index\tname\n1\tleft\n2\tright\n")
    options = EvaluationConfig(atlas=tmp_path / "halves.nii.gz", atlas_table=table, bootstrap=50)
    result = evaluate(measured.root, [root], tmp_path / "out", options)
    assert set(result.tables["voi"]["voi"]) == {"left", "right"}
    assert result.tables["positivity"].empty
    assert result.tables["centiloid"].empty
    with pytest.raises(InputError, match="no label table"):
        evaluate(measured.root, [root], tmp_path / "o2", EvaluationConfig(atlas=tmp_path / "halves.nii.gz"))


def test_progress_is_told_scan_by_scan(small, tmp_path):
    measured, root = small
    calls: list[tuple[int, int]] = []
    evaluate(
        measured.root, [root], tmp_path / "out", EvaluationConfig(bootstrap=50), lambda *c: calls.append(c)
    )
    assert calls == [(i, 8) for i in range(1, 9)]


@pytest.mark.parametrize(
    "told", [{"bootstrap": 0}, {"permutations": 0}, {"seed": -1}, {"bootstraps": 100}, {"participants": "01"}]
)
def test_unusable_settings_are_refused(told):
    with pytest.raises(InputError, match=next(iter(told))):
        EvaluationConfig(**told)


def test_an_unknown_participant_is_refused(small, tmp_path):
    measured, root = small
    with pytest.raises(InputError, match="no participant 99"):
        evaluate(measured.root, [root], tmp_path / "out", EvaluationConfig(participants=("99",)))
