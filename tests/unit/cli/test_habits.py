"""What users of other BIDS Apps type: labels, sessions, other names of options, calls that go on, settings fed back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer.main

from relapet import api
from relapet.cli import app, main
from relapet.config import load_config, settings_yaml
from relapet.imaging.bids import Visit, sidecar_path
from relapet.setting_files import presets
from relapet.synthesis.finished import REQUEST_KEY
from relapet.tracers import get_tracer

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
TAU = get_tracer("tau")


def parsed(name: str, *arguments: str) -> dict[str, Any]:
    return dict(COMMANDS[name].make_context(name, list(arguments)).params)


@pytest.mark.parametrize("option", ["--n_cpus", "--n-cpus", "--nthreads", "--nprocs", "--n-procs"])
def test_the_field_s_names_of_processes_are_understood(option: str) -> None:
    assert parsed("preprocess", "a", "b", "participant", option, "3")["n_procs"] == 3
    assert parsed("simulate", "a", option, "3")["n_procs"] == 3


@pytest.mark.parametrize("option", ["--n_cpus", "--nthreads", "--omp-nthreads", "--threads"])
def test_the_field_s_names_of_threads_are_understood(option: str) -> None:
    assert parsed("synthesize", "a", "b", "participant", "--model", "c", option, "3")["threads"] == 3
    assert parsed("train", "a", "b", option, "3")["threads"] == 3
    assert parsed("demo", "a", option, "3")["threads"] == 3


def test_every_participant_command_takes_labels_and_sessions() -> None:
    for name, *more in (
        ("preprocess", "participant"),
        ("synthesize", "participant", "--model", "m"),
        ("evaluate", "c"),
    ):
        given = parsed(
            name, "a", "b", *more, "--participant_label", "sub-01", "02", "--session-label", "ses-a"
        )
        assert (given["participant_label"], given["session_label"]) == (["sub-01", "02"], ["ses-a"])


def test_temporary_files_go_where_w_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", "/tmp")
    seen: list[str] = []
    monkeypatch.setattr(
        api, "preprocess", lambda *given: seen.append(tempfile.gettempdir()) or pytest.fail("stop")
    )
    work = tmp_path / "work"
    with pytest.raises(pytest.fail.Exception):
        main(["preprocess", str(tmp_path), str(tmp_path / "out"), "participant", "-w", str(work)])
    assert seen == [str(work)]
    assert os.environ["TMPDIR"] == str(work)
    assert work.is_dir()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (["train", "a", "b", "--prest", "demo"], "No such option: --prest (did you mean '--preset'?)"),
        (["preprocess", ".", "b", "participant", "--participant-lable", "1"], "mean '--participant-label'?)"),
        (["synthesize", ".", "b", "participant", "--model", ".", "--tracer", "tua"], "(did you mean 'tau'?)"),
        (
            ["synthesize", ".", "b", "participant", "--model", ".", "--tracer", "flortausipir"],
            "(did you mean 'flor",
        ),
        (["train", ".", "b", "--preset", "dmo"], "(did you mean 'demo'?)"),
        (["simulate", "out", "--grid", "4m"], "(did you mean '4mm'?)"),
        (["simulate", "out", "--site", "resarch"], "(did you mean 'research'?)"),
        (["info", "preset"], "(did you mean 'presets'?)"),
        (["evalute"], "Did you mean 'evaluate'?"),
    ],
)
def test_a_slip_is_told_what_was_meant(
    call: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(call) == 2
    assert words in capsys.readouterr().err


def test_a_slip_in_a_label_or_a_space_is_told_what_was_meant(
    toy_source: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["synthesize", str(toy_source), str(tmp_path / "out"), "participant", "--model", str(tiny_run)]
    for more, words in (
        (["--participant-label", "sub-1"], "has no participant 1; it has 01, 02"),
        (["--participant-label", "001"], "(did you mean '01'?)"),
        (["--split", "tets"], "(did you mean 'test'?)"),
        (["--output-space", "Native"], "(did you mean 'native'?)"),
    ):
        assert main([*call, *more]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize("preset", sorted(presets()))
def test_a_dry_run_can_be_fed_back(preset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    single = ["train.steps=7", "data.tracers=[tau]", "train.seconds=null"]
    single += ["method.autoencoder_steps=3"] * (
        preset == "latent"
    )  # its first phase alone takes more than seven
    call = ["train", "none", "run"]
    assert main([*call, "--preset", preset, "--set", *single, "--dry-run"]) == 0
    said = capsys.readouterr().out
    given = tmp_path / "settings.yaml"
    given.write_text(said)
    assert load_config(file=given) == load_config(preset, settings=single)
    assert said.startswith(f"# Settings of relapet train none run --preset {preset} ")
    assert "steps: 7  # " in said
    assert main([*call, "--config", str(given), "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == said.splitlines()[1:]


def test_settings_of_any_kind_are_written_as_they_are_read(tmp_path: Path) -> None:
    config = load_config(
        "fast", settings=["data.grid=8mm", "train.lr=1.0e-5", "method.discriminator.layers=2"]
    )
    path = tmp_path / "settings.yaml"
    path.write_text(settings_yaml(config))
    assert load_config(file=path) == config


@pytest.mark.parametrize(
    ("words", "place", "found"),
    [("relapet synth", "1", "synthesize"), ("relapet train a b --preset li", "5", "linear")],
)
def test_a_shell_completes_commands_and_values(words: str, place: str, found: str) -> None:
    asked = {"_RELAPET_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": place}
    code = "from relapet.cli import entry_point; entry_point()"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == [found], done.stderr


@pytest.fixture
def sessions(toy_source: Path, tmp_path: Path) -> Path:
    """Two participants at two sessions."""
    root = tmp_path / "sessions"
    root.mkdir()
    shutil.copy(toy_source / "dataset_description.json", root)
    for subject in ("01", "02"):
        for session in ("a", "b"):
            for path in (toy_source / f"sub-{subject}").rglob("*.nii.gz"):
                name = path.name.replace(f"sub-{subject}_", f"sub-{subject}_ses-{session}_")
                target = Visit(subject, session).folder(root, path.parent.name) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
    return root


def synthesize(source: Path, out: Path, run: Path, *more: str) -> int:
    call = ["synthesize", str(source), str(out), "participant", "--model", str(run), "--tracer", "tau"]
    return main([*call, "--samples", "1", "--steps", "1", *more])


def test_sessions_are_chosen_in_synthesis_and_evaluation(
    sessions: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert (
        synthesize(sessions, out, tiny_run, "--session-label", "ses-b", "--participant-label", "sub-01", "02")
        == 0
    )
    assert sorted(str(path.relative_to(out)) for path in out.glob("sub-*/ses-*")) == [
        "sub-01/ses-b",
        "sub-02/ses-b",
    ]
    assert synthesize(sessions, tmp_path / "none", tiny_run, "--session-label", "c") == 2
    assert "has no session c; it has a, b" in capsys.readouterr().err
    assert synthesize(sessions, out, tiny_run) == 0
    evaluation = tmp_path / "evaluation"
    describe = json.loads((out / "dataset_description.json").read_text())
    describe["RelapetModel"]["TrainingChecksums"] = []  # one of the two may have been trained on
    (out / "dataset_description.json").write_text(json.dumps(describe))
    call = ["evaluate", str(sessions), str(out), str(evaluation), "--quiet", "--no-report"]
    assert main([*call, "--session-label", "a"]) == 0
    scored = pd.read_csv(evaluation / "image_metrics.tsv", sep="\t")
    assert set(scored["session"]) == {"ses-a"}
    assert main([*call, "--session-label", "x"]) == 2
    assert "has no session x; it has a, b" in capsys.readouterr().err


def test_what_is_done_is_skipped_until_something_that_decides_it_changes(
    toy: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, visit = tmp_path / "out", Visit("02")
    only = ("--participant-label", "01", "02")

    def call(*more: str) -> str:
        assert synthesize(toy, out, tiny_run, *only, *more) == 0
        return capsys.readouterr().out

    def stamps() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in out.glob("sub-*/pet/*")}

    assert f"2 of 2 visits written to {out}." in call()
    first = stamps()
    assert f"0 of 2 visits written to {out}, 2 were done and unchanged." in call()
    assert stamps() == first
    visit.pet(out, TAU, "synth").unlink()
    assert f"1 of 2 visits written to {out}, 1 was done and unchanged." in call()
    again = stamps()
    assert {name for name in first if again[name] == first[name]} == {
        n for n in first if n.startswith("sub-01")
    }
    assert "2 of 2 visits written" in call("--seed", "5")
    assert "0 of 2 visits written" in call("--seed", "5")
    assert "2 of 2 visits written" in call("--seed", "5", "--force")
    image = visit.flair(toy)
    shutil.copy(Visit("03").flair(toy), image)
    assert f"1 of 2 visits written to {out}, 1 was done and unchanged." in call("--seed", "5")
    sidecar = sidecar_path(visit.pet(out, TAU, "synth"))
    assert len(json.loads(sidecar.read_text())[REQUEST_KEY]) == 64
    sidecar.write_text("{")
    assert "1 of 2 visits written" in call("--seed", "5")
    assert np.isfinite(np.asarray(json.loads(sidecar.read_text())["Seeds"])).all()


def test_a_tracer_that_is_asked_for_later_is_added(
    toy_source: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, visit = tmp_path / "out", Visit("01")
    assert synthesize(toy_source, out, tiny_run, "--participant-label", "01") == 0
    before = visit.pet(out, TAU, "synth").stat().st_mtime_ns
    assert synthesize(toy_source, out, tiny_run, "--participant-label", "01", "--tracer", "pib") == 0
    assert "1 of 1 visit written" in capsys.readouterr().out
    assert visit.pet(out, get_tracer("pib"), "synth").is_file()
    assert visit.pet(out, TAU, "synth").stat().st_mtime_ns == before
