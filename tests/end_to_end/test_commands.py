"""The commands from simulation to evaluation, as a user runs them."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml

import relapet
from relapet import api
from relapet.api import demo
from relapet.cli import main
from relapet.config import load_config
from relapet.errors import Stopped
from relapet.imaging.bids import Visit, index_derivative, sidecar_path, training_mean_path
from relapet.imaging.grid import GRIDS
from relapet.tracers import get_tracer, simulated_tracers
from support import TINY, TINY_SETTINGS, write_toy_derivative

TAU = get_tracer("tau")


def test_synthesize_writes_what_the_interface_says(toy_source: Path, tiny_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["synthesize", str(toy_source), str(out), "participant", "--model", str(tiny_run)]
    assert (
        main([*arguments, "--participant-label", "01", "02", "--samples", "3", "--steps", "2", "--quiet"])
        == 0
    )
    assert sorted(path.name for path in out.glob("sub-*")) == ["sub-01", "sub-02"]
    visit = Visit("01")
    for tracer in simulated_tracers().values():
        for desc in ("synth", "synthstd"):
            image = nib.load(visit.pet(out, tracer, desc))
            assert GRIDS["8mm"].matches(image.shape, image.affine)
            assert image.get_data_dtype() == np.float32
            assert image.header.get_xyzt_units()[0] == "mm"
            assert image.header["sform_code"] == image.header["qform_code"] == 4
        sidecar = json.loads(visit.pet(out, tracer, "synth").with_suffix("").with_suffix(".json").read_text())
        assert sidecar["Synthetic"] is True
        assert (sidecar["Sampler"], sidecar["Steps"], sidecar["NetworkCalls"]) == ("ddim", 2, 2)
        assert len(sidecar["Seeds"]) == 3
        assert len(sidecar["WeightsSHA256"]) == 64
        assert sidecar["ReferenceRegion"] == tracer.reference_region.name
        assert all(source.startswith("bids:source:sub-01/anat/") for source in sidecar["Sources"])
        assert "Not for clinical use" in sidecar["Description"]
        table = pd.read_csv(visit.voi_table(out, tracer, "synth"), sep="\t")
        assert list(table.columns) == ["index", "name", "mean", "sd", "volume"]
        assert len(table) > 80
        assert training_mean_path(out, tracer).is_file()
    assert not list(out.rglob("*_pet.nii*"))
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "relapet"
    assert description["RelapetModel"]["TrainingParticipants"]


def sidecar_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(sidecar_path(Visit("01").pet(out, TAU, "synth")).read_text())
    return found


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--sampler", "heun"], {"Sampler": "heun", "Steps": 3, "NetworkCalls": 5}),
        (["--sampler", "dpmpp", "--steps", "4"], {"Sampler": "dpmpp", "Steps": 4, "NetworkCalls": 4}),
        (["--eta", "0.5"], {"Sampler": "ddim", "Eta": 0.5, "NetworkCalls": 3}),
    ],
)
def test_the_sampler_is_chosen_at_synthesis(
    more: list[str], told: dict[str, Any], toy_source: Path, tiny_run: Path, tmp_path: Path
) -> None:
    call = ["synthesize", str(toy_source), "participant", "--model", str(tiny_run), "--quiet"]
    only = [
        "--participant-label",
        "01",
        "--tracer",
        "tau",
        "--samples",
        "1",
        "--device",
        "cpu",
        "--threads",
        "1",
    ]
    maps = []
    for out, options in ((tmp_path / "as_trained", []), (tmp_path / "chosen", more)):
        assert main([*call[:2], str(out), *call[2:], *only, *options]) == 0
        maps.append(np.asarray(nib.load(Visit("01").pet(out, TAU, "synth")).dataobj))
    assert not np.array_equal(*maps)
    found = sidecar_of(tmp_path / "chosen")
    assert {key: found.get(key) for key in told} == told
    assert "Eta" not in sidecar_of(tmp_path / "as_trained")


def test_a_run_s_own_eta_does_not_follow_to_another_sampler(
    toy_source: Path, tiny_run: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["sample"]["eta"] = 0.5
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    (run / "calibration.json").unlink()
    for sampler, eta in (("ddim", 0.5), ("flow", None)):
        api.synthesize(toy_source, tmp_path / sampler, run, ["tau"], ["01"], {"sampler": sampler, "count": 1})
        assert sidecar_of(tmp_path / sampler).get("Eta") == eta


def test_a_method_without_steps_says_that_it_takes_no_sampler(
    toy_source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load_config("tracer_mean", settings=("train.calibrate=false", "data.test_fraction=0.2"))
    run = api.train(config, toy_source, tmp_path / "run").path
    call = ["synthesize", str(toy_source), str(tmp_path / "out"), "participant", "--model", str(run)]
    only = ["--participant-label", "01", "--tracer", "tau", "--quiet"]
    assert main([*call, *only, "--sampler", "heun", "--steps", "2"]) == 0
    said = capsys.readouterr().err
    assert "The method tracer_mean draws nothing by steps; --sampler and --steps change nothing." in said
    assert not {"Sampler", "Steps", "NetworkCalls", "Seeds"} & set(sidecar_of(tmp_path / "out"))
    assert main([*call, *only]) == 0
    assert "by steps" not in capsys.readouterr().err


def test_a_gpu_that_is_not_here_is_refused(
    toy_source: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    call = ["synthesize", str(toy_source), str(out), "participant", "--model", str(tiny_run)]
    assert main([*call, "--device", "cuda:43"]) == 2
    assert "--device is cuda:43, but torch finds" in capsys.readouterr().err
    assert not out.exists()


def test_a_user_takes_the_held_out_without_copying_labels(
    toy_source: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = json.loads((tiny_run / "manifest.json").read_text())["split"]
    seen = len(split["train"]) + len(split["validation"])
    assert seen < 8
    call = ["synthesize", str(toy_source), str(tmp_path / "all"), "participant", "--model", str(tiny_run)]
    once = ["--tracer", "tau", "--samples", "1", "--steps", "1", "--quiet"]
    assert main([*call, *once]) == 0
    warned = f"trained or validated on {seen} of the 8 participants"
    said = capsys.readouterr().err
    assert warned in said
    assert "--split test takes" in said
    evaluation = ["evaluate", str(toy_source), str(tmp_path / "all"), str(tmp_path / "evaluation")]
    assert main([*evaluation, "--quiet"]) == 2
    said = capsys.readouterr().err
    assert (
        "--split test takes those that were held out, " + ", ".join(f"sub-{s}" for s in split["test"]) in said
    )
    assert main([*evaluation, "--split", "test", "--name", "tiny", "--quiet"]) == 0
    metrics = pd.read_csv(tmp_path / "evaluation" / "image_metrics.tsv", sep="\t")
    assert set(metrics["subject"]) == {f"sub-{subject}" for subject in split["test"]}
    assert set(metrics["method"]) == {"tiny", "tracer_mean"}
    for part, people in split.items():
        out = tmp_path / part
        assert main([*call[:2], str(out), *call[3:], *once, "--split", part]) == 0
        assert {path.name for path in out.glob("sub-*")} == {f"sub-{subject}" for subject in people}
    assert warned not in capsys.readouterr().err
    assert main([*call[:2], str(tmp_path / "none"), *call[3:], "--split", "tests"]) == 2
    assert "--split is 'tests'; give one of test, validation, train" in capsys.readouterr().err
    assert (
        main([*call[:2], str(tmp_path / "none"), *call[3:], "--split", "test", "--participant-label", "01"])
        == 2
    )
    assert "--split and --participant-label both say" in capsys.readouterr().err


def test_the_voi_table_holds_the_means_of_the_written_map(
    toy_source: Path, tiny_run: Path, tmp_path: Path
) -> None:
    from relapet.imaging.template import load_atlas

    arguments = ["synthesize", str(toy_source), str(tmp_path), "participant", "--model", str(tiny_run)]
    main([*arguments, "--participant-label", "01", "--tracer", "tau", "--samples", "2", "--quiet"])
    visit = Visit("01")
    table = pd.read_csv(visit.voi_table(tmp_path, TAU, "synth"), sep="\t").set_index("name")
    suvr = np.asarray(nib.load(visit.pet(tmp_path, TAU, "synth")).dataobj)
    thalamus = load_atlas(GRIDS["8mm"]).mask(("Left-Thalamus-Proper",))
    assert table.loc["Left-Thalamus-Proper", "mean"] == pytest.approx(suvr[thalamus].mean(), rel=1e-4)
    assert table.loc["Left-Thalamus-Proper", "volume"] == thalamus.sum() * 512


def test_the_same_seed_gives_the_same_map(toy_source: Path, tiny_run: Path) -> None:
    synthesizer = relapet.Synthesizer.from_run(tiny_run)
    visit = Visit("01")
    images = [nib.load(path) for path in (visit.t1w(toy_source), visit.flair(toy_source))]
    one = synthesizer(*images, tracer="pib", samples=2, seed=5)
    two = synthesizer(*images, tracer="trc-PIB", samples=2, seed=5)
    other = synthesizer(*images, tracer="pib", samples=2, seed=6)
    np.testing.assert_array_equal(one.mean.dataobj, two.mean.dataobj)
    assert not np.array_equal(one.samples[0], other.samples[0])
    np.testing.assert_array_equal(one.samples[1], other.samples[0])  # seeds 5, 6 and 6, 7
    assert one.sd is not None
    assert synthesizer(*images, tracer="pib", samples=1).sd is None


def test_other_mni_spaces_are_taken_with_a_warning(
    toy: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """1 mm, another desc-, another MNI space, another voxel order, no mask: as other pipelines write it."""
    visit = Visit("01")
    for path in (visit.t1w(toy), visit.flair(toy)):
        image = nib.load(path)
        fine = np.kron(np.asarray(image.dataobj), np.ones((2, 2, 2)))
        mirror = np.diag([-1.0, 1, 1, 1])
        mirror[0, 3] = fine.shape[0] - 1
        flipped = nib.Nifti1Image(fine[::-1], _halved(image.affine) @ mirror)
        name = path.name.replace("MNI152NLin2009aSym_desc-preproc", "MNI152NLin6Asym_desc-brain")
        nib.save(flipped, path.with_name(name))
        path.unlink()
    visit.mask(toy).unlink()
    out = tmp_path / "out"
    arguments = ["synthesize", str(toy), str(out), "participant", "--model", str(tiny_run), "--tracer", "tau"]
    assert main([*arguments, "--participant-label", "01", "02", "--steps", "1", "--samples", "1"]) == 0
    assert "MNI152NLin6Asym" in capsys.readouterr().err
    maps = [np.asarray(nib.load(Visit(s).pet(out, TAU, "synth")).dataobj) for s in ("01", "02")]
    assert np.corrcoef(maps[0].ravel(), maps[1].ravel())[0, 1] > 0.9


def _halved(affine: np.ndarray) -> np.ndarray:
    halved = affine @ np.diag([0.5, 0.5, 0.5, 1])
    halved[:3, 3] = affine[:3, 3] - (affine[:3, :3] @ [0.25, 0.25, 0.25])
    return halved


def test_simulate_train_synthesize_evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The demo's own path with a tiny cohort and a few steps."""
    from relapet.simulation.cohort import SimulationConfig

    config = load_config(file=TINY, settings=(*TINY_SETTINGS, "train.steps=3", "data.test_fraction=0.4"))
    cohort = SimulationConfig(subjects=8, grid=GRIDS["4mm"], seed=1)
    result = demo(tmp_path / "demo", config=config, cohort=cohort)
    metrics = result.tables["image_metrics"]
    methods = set(metrics["method"])
    assert methods == {"rela", "tracer_mean", "noise_ceiling", "visible_ceiling"}
    assert (metrics.groupby(["tracer", "method"]).size() == 3).all()
    figures = list((tmp_path / "demo" / "figures").glob("*.png"))
    assert len(figures) == 3
    psnr = metrics.pivot_table(index="tracer", columns="method", values="psnr")
    assert (psnr["noise_ceiling"] > psnr["visible_ceiling"]).all()
    assert (psnr["visible_ceiling"] > psnr["tracer_mean"]).all()
    assert (psnr["tracer_mean"] > psnr["rela"]).all()  # three steps have taught it nothing
    assert main(["demo", str(tmp_path / "demo")]) == 2
    assert "not empty" in capsys.readouterr().err


def test_a_demo_stopped_in_training_says_how_it_goes_on(
    toy_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*given: object, **named: object) -> None:
        raise Stopped("Training was stopped; add --resume to go on.", signal.SIGINT)

    monkeypatch.setattr("relapet.api.simulate", lambda *given: None)
    monkeypatch.setattr("relapet.api.train", stop)
    with pytest.raises(Stopped, match=r"relapet train .*cohort .*run --resume goes on") as stopped:
        demo(tmp_path / "demo")
    assert stopped.value.signal_number == signal.SIGINT


def test_a_model_is_trained_on_tracers_that_are_not_simulated(tmp_path: Path) -> None:
    tracers = [get_tracer(label) for label in ("18FAV45", "18FFBB", "18FFDG", "18FMK6240")]
    source = write_toy_derivative(tmp_path / "derivatives", 4, tracers=tracers)
    names = ",".join(tracer.name for tracer in tracers)
    settings = (*TINY_SETTINGS, f"data.tracers=[{names}]", "train.steps=2")
    run = relapet.train(load_config("fast", settings=settings), source, tmp_path / "run").path
    out = tmp_path / "out"
    arguments = ["synthesize", str(source), str(out), "participant", "--model", str(run), "--steps", "1"]
    assert main([*arguments, "--participant-label", "01", "--quiet"]) == 0
    for tracer in tracers:
        assert Visit("01").pet(out, tracer, "synth").is_file()
    assert len(list(out.glob("sub-01/pet/*_desc-synth_mimap.nii.gz"))) == len(tracers)


def test_help_version_and_info(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (
        "demo",
        "simulate",
        "preprocess",
        "import-layout",
        "train",
        "synthesize",
        "evaluate",
        "info",
    ):
        assert main([command, "--help"]) == 0
        said = capsys.readouterr().out
        assert "Example" in said
        assert "--quiet" in said
        assert main([command, "--version"]) == 0
        assert capsys.readouterr().out.strip() == f"relapet {relapet.__version__}"
    for topic in ("methods", "tracers", "presets", "samplers"):
        assert main(["info", topic]) == 0
    said = capsys.readouterr().out
    for word in ("rela", "PBR28", "MK6240", "demo", "ddim"):
        assert word in said
    assert main(["info", "presets", "demo"]) == 0
    assert "train.steps" in capsys.readouterr().out


def test_a_dry_run_prints_every_setting_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    arguments = ["train", str(tmp_path), str(run), "--preset", "paper", "--set", "train.steps=7", "--dry-run"]
    assert main(arguments) == 0
    assert "\n  steps: 7  # training steps at most\n" in capsys.readouterr().out
    assert not run.exists()


@pytest.mark.slow
def test_simulate_as_scanned_writes_raw_bids(as_scanned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Raw images in native spaces, PET as frames with units and times; the truth lies apart from them."""
    anat, pet = as_scanned / "sub-001" / "anat", as_scanned / "sub-001" / "pet"
    assert not list(as_scanned.glob("sub-*/**/*space-*"))
    frames = nib.load(pet / "sub-001_trc-AV1451_pet.nii.gz")
    sidecar = json.loads((pet / "sub-001_trc-AV1451_pet.json").read_text())
    assert sidecar["Units"] == "Bq/mL"
    assert len(sidecar["FrameTimesStart"]) == frames.shape[3]
    assert nib.load(anat / "sub-001_T1w.nii.gz").header.get_zooms() == pytest.approx((1, 1, 1))
    assert nib.load(anat / "sub-001_FLAIR.nii.gz").header.get_zooms() == pytest.approx((1, 1, 3))
    assert list(pd.read_csv(as_scanned / "participants.tsv", sep="\t")["participant_id"]) == ["sub-001"]
    assert (
        as_scanned / "derivatives" / "truth" / "sub-001" / "anat" / "sub-001_desc-dk_dseg.nii.gz"
    ).is_file()
    assert main(["simulate", str(as_scanned), "--subjects", "1", "--as-scanned"]) == 2
    assert "already holds subjects" in capsys.readouterr().err


def test_as_scanned_takes_no_other_grid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", str(tmp_path / "raw"), "--as-scanned", "--grid", "3mm"]) == 2
    assert "--grid" in capsys.readouterr().err
    assert not (tmp_path / "raw").exists()


def test_import_layout_makes_the_release_model_ready(
    flat_layout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["import-layout", str(flat_layout), str(out), "--grid", "4mm", "--quiet"]
    assert main([*arguments, "--units", "counts"]) == 2
    assert "--units" in capsys.readouterr().err
    assert not out.exists()
    assert main([*arguments, "--units", "SUVR"]) == 1
    assert "A2_T1.nii" in capsys.readouterr().err
    (files,) = index_derivative(out)
    assert files.visit == Visit("A1")
    assert files.t1w is not None
    assert files.flair is not None
    assert list(files.pet) == ["tau"]


def test_simulate_from_a_plain_script_needs_no_guard(tmp_path: Path) -> None:
    """Spawned processes run a script without a guard again, so one process is the default."""
    script = tmp_path / "script.py"
    script.write_text(
        "import relapet\n"
        "from relapet.imaging.grid import get_grid\n"
        "from relapet.simulation.cohort import SimulationConfig\n"
        "relapet.simulate('cohort', SimulationConfig(subjects=2, grid=get_grid('4mm')))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "cohort").glob("sub-*"))) == 2
