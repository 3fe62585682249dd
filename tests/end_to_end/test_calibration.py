"""A run is calibrated where it was trained, and synthesis gives intervals with the same sampler settings alone."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from relapet import api
from relapet.calibration import settings_of
from relapet.cli import main
from relapet.config import load_config
from relapet.evaluation.uncertainty.conformal import load_calibration
from relapet.evaluation.uncertainty.positivity import PositivityCalibration
from relapet.evaluation.uncertainty.voi_tables import measure_vois
from relapet.imaging.bids import Visit, index_derivative
from relapet.imaging.grid import GRIDS
from relapet.runs import RunFolder
from relapet.synthesis.synthesizer import Synthesizer
from relapet.tracers import get_tracer
from support import TINY, TINY_SETTINGS

TAU = get_tracer("tau")


def synthesize(source: Path, out: Path, run: Path, *more: str) -> int:
    arguments = ["synthesize", str(source), str(out), "participant", "--model", str(run), "--tracer", "tau"]
    return main([*arguments, "--quiet", *more])


def table_of(out: Path, subject: str) -> pd.DataFrame:
    return pd.read_csv(Visit(subject).voi_table(out, TAU, "synth"), sep="\t").set_index("name")


def test_training_leaves_the_residuals_of_its_validation_subjects(
    toy_source: Path, tiny_run: Path, tmp_path: Path
) -> None:
    run = RunFolder(tiny_run)
    calibration = load_calibration(run.calibration, run.weights_sha256())
    assert calibration.sampling == settings_of(Synthesizer.from_run(tiny_run).sample)
    assert set(calibration.vois) == {"pbr28", "pib", "tau"}
    (subject,) = run.read_manifest().split["validation"]
    assert synthesize(toy_source, tmp_path, tiny_run, "--participant-label", subject) == 0
    made = table_of(tmp_path, subject)
    measured = measure_vois(index_derivative(toy_source), GRIDS["8mm"], pytest.fail)
    measured = measured.query("subject == @subject and tracer == 'tau'").set_index("voi")["real_suvr"]
    # One calibration subject: the half-width of the 50 % interval is its own residual, so an end is its value.
    error = (measured - made["mean"]).loc[made.index]
    reach = np.where(error > 0, made["high"] - measured, measured - made["low"])
    np.testing.assert_allclose(reach, 0, atol=2e-5)
    sidecar = json.loads(Visit(subject).voi_table(tmp_path, TAU, "synth").with_suffix(".json").read_text())
    assert sidecar["IntervalLevel"] == 0.5
    assert sidecar["CalibrationSubjects"] == 1
    assert not list(tiny_run.glob(".tmp-*"))


@pytest.mark.parametrize("more", [("--samples", "1"), ("--samples", "3"), ("--samples", "2", "--steps", "3")])
def test_intervals_hold_for_any_number_of_samples_from_the_calibrated_one_on(
    more: tuple[str, ...], toy_source: Path, tiny_run: Path, tmp_path: Path
) -> None:
    assert synthesize(toy_source, tmp_path, tiny_run, "--participant-label", "01", *more) == 0
    table = table_of(tmp_path, "01")
    assert (table["low"] <= table["mean"]).all()
    assert (table["mean"] <= table["high"]).all()


def test_a_mean_over_samples_has_no_intervals_of_other_noise_or_fewer_samples(
    toy_source: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(
        shutil.copytree(tiny_run, tmp_path / "run", ignore=shutil.ignore_patterns("cache", "checkpoint"))
    )
    path = run / "calibration.json"
    drawn = {"sampler": "ddim", "steps": 3, "count": 2, "seed": 0}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sampling": drawn, "single": {}}))
    only = ("--participant-label", "01")
    assert synthesize(toy_source, tmp_path / "a", run, *only, "--steps", "1", "--samples", "1") == 0
    said = capsys.readouterr().err
    assert "no intervals" in said
    assert "steps 3 (not 1)" in said
    assert "count 2 or more (not 1)" in said
    assert not {"low", "high"} & set(table_of(tmp_path / "a", "01").columns)
    about = json.loads(Visit("01").voi_table(tmp_path / "a", TAU, "synth").with_suffix(".json").read_text())
    assert not {"IntervalLevel", "low", "high"} & set(about)
    assert synthesize(toy_source, tmp_path / "c", run, *only, "--eta", "0.5") == 0
    assert "made with sampler ddim (not ddim with eta 0.5)" in capsys.readouterr().err
    assert synthesize(toy_source, tmp_path / "b", run, *only, "--steps", "3", "--samples", "3") == 0
    assert {"low", "high"} <= set(table_of(tmp_path / "b", "01").columns)


def test_a_map_from_one_call_depends_on_no_sampler(toy_source: Path, tmp_path: Path) -> None:
    config = load_config("linear", settings=("train.seconds=null", "data.test_fraction=0.2"))
    run = api.train(config, toy_source, tmp_path / "run")
    assert load_calibration(run.calibration).sampling == {}


def test_the_table_tells_how_probable_positivity_is(
    toy_source: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert synthesize(toy_source, tmp_path, tiny_run, "--participant-label", "01", "--samples", "3") == 0
    assert "no probability" not in capsys.readouterr().out
    assert TAU.positivity is not None
    table, name = table_of(tmp_path, "01"), TAU.positivity.composite
    assert list(table.index)[-1] == name
    assert math.isnan(table.loc[name, "index"])
    assert table["probability_positive"].drop(name).isna().all()
    row = table.loc[name]
    labels = [label for label in TAU.composites[name] if label in table.index]
    parts = table.loc[labels]
    assert row["volume"] == pytest.approx(parts["volume"].sum())
    assert row["mean"] == pytest.approx(np.average(parts["mean"], weights=parts["volume"]), rel=1e-5)
    found = load_calibration(RunFolder(tiny_run).calibration).positivity["tau"]
    assert found.scale is not None
    width = found.width(row["sd"], 3, averaged=True)
    assert row["probability_positive"] == pytest.approx(_of_one(found, row["mean"], width), rel=1e-3)
    assert row["low"] < row["mean"] < row["high"]
    sidecar = json.loads(Visit("01").voi_table(tmp_path, TAU, "synth").with_suffix(".json").read_text())
    assert (sidecar["PositivityComposite"], sidecar["PositivityThreshold"]) == (name, 1.23)
    assert sidecar["probability_positive"]["Description"] == (
        "Probability that the measured temporal_meta_roi is above 1.23 SUVr, calibrated on 1 validation participant"
    )


def test_one_sample_has_a_probability_too(toy_source: Path, tiny_run: Path, tmp_path: Path) -> None:
    assert synthesize(toy_source, tmp_path, tiny_run, "--participant-label", "01", "--samples", "1") == 0
    row = table_of(tmp_path, "01").loc["temporal_meta_roi"]
    assert math.isnan(row["sd"])
    assert 0 < row["probability_positive"] < 1


def test_a_method_without_samples_goes_by_its_residuals(toy_source: Path, tmp_path: Path) -> None:
    config = load_config("linear", settings=("train.seconds=null", "data.test_fraction=0.2"))
    run = api.train(config, toy_source, tmp_path / "run")
    found = load_calibration(run.calibration).positivity
    assert set(found) == {"pib", "tau"}
    assert found["tau"].scale is None
    assert synthesize(toy_source, tmp_path / "out", run.path, "--participant-label", "01") == 0
    row = table_of(tmp_path / "out", "01").loc["temporal_meta_roi"]
    expected = _of_one(found["tau"], row["mean"], found["tau"].residual_sd)
    assert row["probability_positive"] == pytest.approx(expected, rel=1e-3)


def _of_one(found: PositivityCalibration, mean: float, width: float) -> float:
    """What one validation participant is worth: even odds at their error, in widths, and heavy tails."""
    (error,) = found.errors
    beyond = (1.23 - mean) / width - error
    tail = 0.5 / (1 + abs(beyond))
    return tail if beyond > 0 else 1 - tail


def test_a_tracer_without_threshold_has_no_composite(
    toy_source: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["synthesize", str(toy_source), str(tmp_path), "participant", "--model", str(tiny_run)]
    assert main([*call, "--tracer", "pbr28", "--participant-label", "01"]) == 0
    assert "probability" not in capsys.readouterr().out
    path = Visit("01").voi_table(tmp_path, get_tracer("pbr28"), "synth")
    table = pd.read_csv(path, sep="\t")
    assert table["index"].notna().all()
    assert list(table.columns) == ["index", "name", "mean", "sd", "volume", "low", "high"]
    assert not {"PositivityThreshold", "probability_positive"} & set(
        json.loads(path.with_suffix(".json").read_text())
    )


def test_calibrating_is_a_setting(toy_source: Path, tmp_path: Path) -> None:
    config = load_config(file=TINY, settings=(*TINY_SETTINGS, "train.steps=1", "train.calibrate=false"))
    assert not api.train(config, toy_source, tmp_path / "run").calibration.exists()


def test_a_run_that_was_never_calibrated_synthesizes_as_before(
    toy_source: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    (run / "calibration.json").unlink()
    assert synthesize(toy_source, tmp_path / "out", run, "--participant-label", "01") == 0
    assert "intervals" not in capsys.readouterr().err
    assert not {"low", "probability_positive"} & set(table_of(tmp_path / "out", "01").columns)
    call = ["synthesize", str(toy_source), str(tmp_path / "all"), "participant", "--model", str(run)]
    assert main([*call, "--participant-label", "01"]) == 0
    told = [line for line in _words(capsys) if "no probability" in line]
    assert told == [
        f"The VOI tables of pib, tau give no probability of positivity, for which {run} was not calibrated on "
        "validation participants."
    ]


def test_a_calibration_from_before_there_were_probabilities_still_gives_intervals(
    toy_source: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    path = run / "calibration.json"
    content = json.loads(path.read_text())
    del content["positivity"]
    for vois in (content["vois"]["tau"], content["single"]["tau"]):
        del vois["temporal_meta_roi"]
    path.write_text(json.dumps(content))
    call = ["synthesize", str(toy_source), str(tmp_path / "out"), "participant", "--model", str(run)]
    assert main([*call, "--tracer", "tau", "--participant-label", "01"]) == 0
    assert any("The VOI tables of tau give no probability" in line for line in _words(capsys))
    table = table_of(tmp_path / "out", "01")
    assert "probability_positive" not in table
    assert table[["low", "high"]].drop("temporal_meta_roi").notna().all(axis=None)
    assert table.loc["temporal_meta_roi", ["low", "high"]].isna().all()


def _words(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    return (captured.out + captured.err).splitlines()


def test_a_calibration_of_other_weights_or_broken_is_refused(
    toy_source: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    path = run / "calibration.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"weights_sha256": "0" * 64}))
    assert synthesize(toy_source, tmp_path / "out", run) == 2
    assert "other weights" in capsys.readouterr().err
    path.write_text("{}")
    assert synthesize(toy_source, tmp_path / "out", run) == 2
    assert "calibrate anew" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
