from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage, stats

from relapet.errors import InputError, LeakError
from relapet.evaluation.evaluate import Options, evaluate
from relapet.evaluation.image_metrics import METRICS
from relapet.evaluation.summary import _check_ceiling
from relapet.evaluation.tables import Results, Sampling
from relapet.files import sha256
from relapet.imaging.grid import GRIDS
from relapet.imaging.nifti import load_volume, save_volume
from relapet.imaging.resample import resample_to_grid
from relapet.imaging.template import load_atlas, load_template
from relapet.tracers import get_tracer

FAST = Options(bootstrap=200)
TABLES = ("image_metrics", "voi", "agreement", "tests", "positivity", "centiloid")


def halfway(cohort):
    """Half of what can be seen, half a brain that is the same for everyone: an imperfect method."""

    def make(visit, tracer):
        common = cohort.visible(cohort.visits[0], tracer)
        return (0.5 * cohort.visible(visit, tracer) + 0.5 * common).astype(np.float32)

    return make


def blurred(cohort):
    return lambda visit, tracer: ndimage.gaussian_filter(halfway(cohort)(visit, tracer), 0.8)


@pytest.fixture(scope="module")
def done(cohort, trees, tmp_path_factory):
    """Two methods with training means and ceilings."""
    root = tmp_path_factory.mktemp("synthetic")
    rela = trees.synthetic(root / "a", cohort, halfway(cohort), "rela", [])
    trees.training_means(rela, cohort)
    regression = trees.synthetic(root / "b", cohort, blurred(cohort), "regression", [])
    return evaluate(cohort.root, [rela, regression], root / "out", FAST)


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
    metrics = done.image_metrics.pivot_table(index=["tracer", "subject"], columns="method", values="psnr")
    for tracer in ("tau", "pib"):
        rows = done.summary["tracers"][tracer]["difference_to_tracer_mean"]
        assert rows.keys() == {"rela", "regression", "noise_ceiling", "visible_ceiling"}
        for method, row in rows.items():
            expected = (metrics.loc[tracer][method] - metrics.loc[tracer]["tracer_mean"]).mean()
            assert row["psnr"]["estimate"] == pytest.approx(expected)
            assert row["psnr"]["low"] <= expected <= row["psnr"]["high"]


def test_tests_compare_every_pair_once_and_correct_within_the_family(done):
    tests = done.tests.query("tracer == 'tau' and metric == 'psnr'")
    contest = tests[tests["family"] == "method"]
    assert set(zip(contest["method_a"], contest["method_b"], strict=True)) == {
        ("rela", "regression"), ("rela", "tracer_mean"), ("regression", "tracer_mean"),
    }  # fmt: skip
    assert (contest["p_holm"] >= contest["p"]).all()
    assert contest["p_holm"].min() == pytest.approx(min(3 * contest["p"].min(), 1))
    assert (tests["n"] == 12).all()
    psnr = done.image_metrics.query("tracer == 'tau'").pivot(index="subject", columns="method", values="psnr")
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
    assert "centiloid" not in set(done.voi["voi"])


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
    for name in (*(f"{table}.tsv" for table in TABLES), "summary.json", "summary.md"):
        assert (again.out / name).read_bytes() == (done.out / name).read_bytes()


def test_measured_against_itself_is_perfect(trees, tmp_path):
    measured = trees.cohort(tmp_path / "real", 4, ("pib",), truth=False)
    result = evaluate(measured.root, [measured.root], tmp_path / "out", FAST)
    method = measured.root.name
    assert (result.image_metrics["psnr"] == math.inf).all()
    assert (result.image_metrics["ssim"] == 1).all()
    assert (result.image_metrics["mae"] == 0).all()
    agreement = result.agreement.query("method == @method and target")
    assert agreement["r"].to_numpy() == pytest.approx(1)
    summary = json.loads((result.out / "summary.json").read_text(), parse_constant=pytest.fail)
    assert summary["tracers"]["pib"]["methods"][method]["psnr"]["estimate"] == "inf"
    assert any("plain SUVr maps" in note for note in summary["notes"])
    assert sum("ceiling is absent" in note for note in summary["notes"]) == 2
    assert any("tracer_mean is not scored" in note for note in summary["notes"])


def test_a_method_above_what_mri_can_show_is_an_error_after_the_tables(cohort, trees, tmp_path):
    leaky = trees.synthetic(tmp_path / "leaky", cohort, cohort.noise_free, "clairvoyant", [])
    with pytest.raises(LeakError) as caught:
        evaluate(cohort.root, [leaky], tmp_path / "out", FAST)
    for word in ("tau", "clairvoyant", "psnr", "ssim", "mae", "voi_r"):
        assert word in str(caught.value)
    assert "## Leaks" in (tmp_path / "out" / "summary.md").read_text()
    assert len(pd.read_csv(tmp_path / "out" / "image_metrics.tsv", sep="\t")) == 12 * 2 * 3


def test_the_visible_ceiling_itself_is_no_leak(cohort, trees, tmp_path):
    perfect = trees.synthetic(tmp_path / "perfect", cohort, cohort.visible, "perfect", [])
    assert evaluate(cohort.root, [perfect], tmp_path / "out", FAST).problems == []


def skewed_results(n: int = 40) -> Results:
    """One subject in five is high, which MRI cannot show: the mean is the ceiling, `median` predicts the rest."""
    real = np.where(np.arange(n) % 5 == 0, 2.0, 1.0) + np.random.default_rng(0).normal(0, 0.02, n)
    rows, voi = [], []
    for method, value in {"median": 1.0, "visible_ceiling": 1.2}.items():
        for i in range(n):
            error = abs(real[i] - value)
            key = {"tracer": "tau", "method": method, "subject": f"sub-{i}"}
            rows.append(key | {"psnr": -20 * np.log10(error), "ssim": -error, "mae": error, "rmse": error})
            voi.append(
                key | {"voi": "a", "target": True, "kind": "voi", "real_suvr": real[i], "synth_suvr": value}
            )
    metrics = pd.DataFrame(rows).set_index(["tracer", "method", "subject"])
    return Results(
        metrics, pd.DataFrame(voi), pd.DataFrame(), ["median", "visible_ceiling"], Sampling(500, 0)
    )


def test_predicting_the_median_of_a_skewed_uptake_is_no_leak():
    checks = {
        check["metric"]: check for check in _check_ceiling(skewed_results(), get_tracer("tau"), "median")
    }
    for metric in ("psnr", "mae"):  # it does beat the conditional mean here ...
        assert checks[metric]["above_ceiling_low"] > 0
    assert not any(check["leak"] for check in checks.values())  # ... but not on squared error


def test_a_subject_whose_pet_was_trained_on_is_an_error_before_anything_is_written(cohort, trees, tmp_path):
    seen = [sha256(cohort.visits[i].pet(cohort.root, get_tracer("tau"))) for i in (1, 4)]
    root = trees.synthetic(tmp_path / "s", cohort, halfway(cohort), "rela", seen)
    with pytest.raises(InputError, match="trained on measured PET of sub-02, sub-05"):
        evaluate(cohort.root, [root], tmp_path / "out", FAST)
    assert not (tmp_path / "out").exists()
    held_out = Options(bootstrap=50, participants=("sub-01", "03", "04"))
    result = evaluate(cohort.root, [root], tmp_path / "out", held_out)
    assert set(result.image_metrics["subject"]) == {"sub-01", "sub-03", "sub-04"}


def test_another_session_of_a_trained_on_subject_is_a_leak_too(trees, tmp_path):
    measured = trees.cohort(tmp_path / "real", 3, ("tau",), sessions=("a", "b"), truth=False)
    first = [sha256(v.pet(measured.root, get_tracer("tau"))) for v in measured.visits if v.session == "a"][:1]
    later = lambda visit, tracer: measured.visible(visit, tracer) if visit.session == "b" else None  # noqa: E731
    root = trees.synthetic(tmp_path / "s", measured, later, "rela", first)
    with pytest.raises(InputError, match="sub-01"):
        evaluate(measured.root, [root], tmp_path / "out", FAST)


def test_sessions_are_averaged_before_statistics(trees, tmp_path):
    measured = trees.cohort(tmp_path / "real", 3, ("tau",), sessions=("a", "b"), truth=False)
    root = trees.synthetic(tmp_path / "s", measured, measured.visible, "rela", [])
    result = evaluate(measured.root, [root], tmp_path / "out", FAST)
    assert len(result.image_metrics) == 6
    assert set(result.agreement["n"]) == {3}
    assert (result.voi["sessions"] == 2).all()
    mean = result.image_metrics.groupby("subject")["mae"].mean().mean()
    assert result.summary["tracers"]["tau"]["methods"]["rela"]["mae"]["estimate"] == pytest.approx(mean)


@pytest.fixture
def small(trees, tmp_path):
    measured = trees.cohort(tmp_path / "real", 4, ("tau", "pib"), truth=False)
    return measured, trees.synthetic(tmp_path / "s", measured, measured.visible, "rela", [])


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
    assert "sub-03 n/a tau rela" in (tmp_path / "out" / "summary.md").read_text()


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
    assert result.agreement["r"].isna().all()
    assert set(result.agreement["reason"]) == {"fewer than 3 subjects"}
    assert result.summary["tracers"]["tau"]["methods"]["rela"]["psnr"]["estimate"] > 20


def test_no_subject_in_common_names_some_of_each_side(small, trees, tmp_path):
    measured, _ = small
    others = trees.cohort(tmp_path / "others", 7, ("tau",), truth=False)
    keep = lambda visit, tracer: None if visit.subject < "05" else others.visible(visit, tracer)  # noqa: E731
    root = trees.synthetic(tmp_path / "o", others, keep, "rela", [])
    with pytest.raises(InputError, match=r"No subject in common.*sub-01.*sub-05") as caught:
        evaluate(measured.root, [root], tmp_path / "out", FAST)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_sessions_named_differently_are_explained(trees, tmp_path):
    measured = trees.cohort(tmp_path / "real", 2, ("tau",), truth=False)
    other = trees.cohort(tmp_path / "other", 2, ("tau",), sessions=("a",), truth=False)
    with pytest.raises(InputError, match=r"No session and tracer in common.*sub-01_ses-a_trc-tau"):
        evaluate(measured.root, [other.root], tmp_path / "out", FAST)


def test_a_tracer_on_one_side_only_is_named_as_skipped(small, trees, tmp_path):
    measured, _ = small
    only_tau = lambda visit, tracer: measured.visible(visit, tracer) if tracer == "tau" else None  # noqa: E731
    root = trees.synthetic(tmp_path / "t", measured, only_tau, "rela", [])
    path = measured.visits[0].pet(root, get_tracer("pbr28"), "synth")
    save_volume(path, measured.visible(measured.visits[0], "tau"), measured.grid.affine)
    result = evaluate(measured.root, [root], tmp_path / "out", FAST)
    assert result.summary["skipped_tracers"] == {"pib": "no synthetic map", "pbr28": "no measured map"}
    assert "pib: no synthetic map" in (tmp_path / "out" / "summary.md").read_text()


def test_trees_of_one_method_go_by_their_folders(small, trees, tmp_path):
    measured, root = small
    second = trees.synthetic(tmp_path / "s2", measured, halfway(measured), "rela", [])
    third = trees.synthetic(tmp_path / "other" / "s2", measured, halfway(measured), "rela", [])
    result = evaluate(measured.root, [root, second, third], tmp_path / "out", FAST)
    first = root.name
    assert result.summary["inputs"]["synthetic"] == {first: str(root), "s2": str(second), "s2-2": str(third)}
    mae = result.image_metrics.groupby("method")["mae"].mean()
    assert mae[first] < mae["s2"] == mae["s2-2"]


def test_a_tree_without_model_entry_goes_by_its_folder_and_says_what_is_unchecked(small, trees, tmp_path):
    measured, _ = small
    root = trees.synthetic(tmp_path / "their_method", measured, measured.visible)
    result = evaluate(measured.root, [root], tmp_path / "out", FAST)
    assert set(result.image_metrics["method"]) == {"their_method"}
    assert any("leaks by file were not checked" in note for note in result.summary["notes"])


def test_a_users_atlas_replaces_the_regions(small, tmp_path):
    measured, root = small
    labels = np.zeros(measured.grid.shape, np.int16)
    labels[15:20, 20:30, 20:30], labels[20:25, 20:30, 20:30] = 1, 2
    save_volume(tmp_path / "halves.nii.gz", labels, measured.grid.affine, dtype=np.int16)
    table = tmp_path / "names.tsv"
    table.write_text("index\tname\n1\tleft\n2\tright\n")
    options = Options(atlas=tmp_path / "halves.nii.gz", atlas_table=table, bootstrap=50)
    result = evaluate(measured.root, [root], tmp_path / "out", options)
    assert set(result.voi["voi"]) == {"left", "right"}
    assert result.positivity.empty
    assert result.centiloid.empty
    with pytest.raises(InputError, match="no label table"):
        evaluate(measured.root, [root], tmp_path / "o2", Options(atlas=tmp_path / "halves.nii.gz"))


@pytest.mark.parametrize(
    ("options", "message"),
    [(Options(bootstrap=0), "bootstrap is 0"), (Options(participants=("99",)), "no participant 99")],
)
def test_unusable_options_are_refused(small, tmp_path, options, message):
    measured, root = small
    with pytest.raises(InputError, match=message):
        evaluate(measured.root, [root], tmp_path / "out", options)


def test_unusable_trees_are_refused(small, trees, tmp_path):
    measured, root = small
    with pytest.raises(InputError, match="No synthetic tree"):
        evaluate(measured.root, [], tmp_path / "out", FAST)
    with pytest.raises(InputError, match="does not exist"):
        evaluate(measured.root, [tmp_path / "none"], tmp_path / "out", FAST)
    (tmp_path / "empty" / "sub-01").mkdir(parents=True)
    with pytest.raises(InputError, match="no SUVr map"):
        evaluate(measured.root, [tmp_path / "empty"], tmp_path / "out", FAST)
    with pytest.raises(InputError, match="no measured SUVr map"):
        evaluate(root, [root], tmp_path / "out", FAST)
    named = trees.synthetic(tmp_path / "n", measured, measured.visible, "visible_ceiling", [])
    with pytest.raises(InputError, match="reserved name"):
        evaluate(measured.root, [named], tmp_path / "out", FAST)


def test_progress_is_told_scan_by_scan(small, tmp_path):
    measured, root = small
    calls: list[tuple[int, int]] = []
    evaluate(measured.root, [root], tmp_path, Options(bootstrap=50, on_progress=lambda *c: calls.append(c)))
    assert calls == [(i, 8) for i in range(1, 9)]
