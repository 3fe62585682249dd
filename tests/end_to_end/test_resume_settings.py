"""A run goes on with its own settings; what may be given anew is recorded, anything else refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from relapet.cli import main
from relapet.locks import LOCK, temporary_name
from relapet.runs import RunFolder
from relapet.training.checkpoint import checkpoints
from support import TINY, TINY_SETTINGS


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> RunFolder:
    """A copy of a run after two steps, that a test may damage."""
    return RunFolder(Path(shutil.copytree(tiny_run, tmp_path / "run")))


def go_on(source: Path, run: RunFolder, *more: str) -> int:
    return main(["train", str(source), str(run.path), "--resume", "--quiet", *more])


def test_a_run_goes_on_by_its_folder_alone(toy_source: Path, run: RunFolder) -> None:
    before = run.read_settings()
    assert go_on(toy_source, run, "--set", "train.steps=3", "train.calibrate=true") == 0
    assert checkpoints(run.checkpoints)[0].name == "step-000000003.pt"
    before["train"]["steps"] = 3
    assert run.read_settings() == before
    (change,) = json.loads(run.manifest.read_text())["changes"]
    assert (change["setting"], change["before"], change["after"]) == ("train.steps", 2, 3)
    assert go_on(toy_source, run, "--set", "train.log_every=2", "train.steps=4") == 0
    changed = [change.setting for change in run.read_manifest().changes]
    assert changed == ["train.steps", "train.steps", "train.log_every"]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["--set", "train.seed=3"], "train.seed is 0 in"),
        (["--set", "train.lr=0.1"], "train.lr is"),
        (["--set", "sample.count=8"], "sample.count is"),
        (
            ["--config", str(TINY), "--set", "method.generator.channels=[8,16]"],
            "method.generator.channels is [8, 8] in",
        ),
        (["--config", str(TINY), "--set", *TINY_SETTINGS, "data.split_seed=9"], "data.split_seed is"),
        (["--preset", "linear"], "method.name is 'rela' in"),
        (["--set", "train.stepz=4"], "train.stepz"),
    ],
)
def test_what_made_its_steps_stays(
    given: list[str], named: str, toy_source: Path, run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    assert go_on(toy_source, run, *given) == 2
    said = capsys.readouterr().err
    assert named in said
    assert len(said.strip().splitlines()) == 1
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_the_same_command_again_with_resume_goes_on(toy_source: Path, run: RunFolder) -> None:
    assert go_on(toy_source, run, "--config", str(TINY), "--set", *TINY_SETTINGS, "train.steps=3") == 0
    assert checkpoints(run.checkpoints)[0].name == "step-000000003.pt"


@pytest.mark.parametrize("content", [None, "train: [", "method: 3"])
def test_a_folder_without_settings_has_nothing_to_go_on_with(
    content: str | None, toy_source: Path, run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    run.config.unlink()
    if content is not None:
        run.config.write_text(content)
    assert go_on(toy_source, run) == 2
    said = capsys.readouterr().err
    assert "config.yaml" in said
    assert len(said.strip().splitlines()) == 1


def foreign(step: object) -> dict[str, object]:
    state = {"format": 3, "networks": {}, "averages": {}, "players": {}, "method": {}, "seconds": 0.0}
    return {**state, "step": step}


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ([1, 2], "no readable checkpoint"),
        (torch.zeros(3), "no readable checkpoint"),
        (foreign("2"), "no readable checkpoint"),
        (foreign(-1), "no readable checkpoint"),
        (foreign(2), "is broken or does not fit"),
        ({**foreign(2), "networks": [1]}, "is broken or does not fit"),
        ({"format": 3, "step": 2}, "is broken or does not fit"),
    ],
)
def test_a_checkpoint_of_another_structure_is_one_sentence(
    content: object, named: str, toy_source: Path, run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in checkpoints(run.checkpoints):
        torch.save(content, path)
    assert go_on(toy_source, run, "--set", "train.steps=3") == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("relapet: error")]
    assert len(error) == 1
    assert named in error[0]
    assert "checkpoint" in error[0]


def test_a_broken_cache_is_made_anew_and_a_binary_log_refused(
    toy_source: Path, run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, path in enumerate(sorted(run.cache.glob("*.npy"))):
        if number % 2:
            np.save(path, np.array([{"an": "object"}], dtype=object), allow_pickle=True)
        else:
            path.write_bytes(path.read_bytes()[:90])
    run.log.write_bytes(b"\xff\xfe\x00binary")
    assert go_on(toy_source, run, "--set", "train.steps=3") == 2
    assert "log.tsv is not the log of a training" in capsys.readouterr().err
    run.log.unlink()
    assert go_on(toy_source, run, "--set", "train.steps=3") == 0


def test_a_kill_during_calibration_is_gone_on_from(toy_source: Path, run: RunFolder) -> None:
    for name in (".tmp-calibration-abc", temporary_name("calibration")):
        (run.path / name / "sub-01").mkdir(parents=True)
        (run.path / name / "sub-01" / "map").touch()
    run.calibration.unlink()
    (run.path / LOCK).write_text('{"host": "x"}')
    assert go_on(toy_source, run) == 0
    assert run.calibration.is_file()
    assert not [path for path in run.path.iterdir() if path.name.startswith(".")]


def test_two_trainings_into_one_folder_are_told(
    toy_source: Path, run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    from relapet.locks import locked

    with locked(run.path):
        assert go_on(toy_source, run) == 2
    assert "is being written by process" in capsys.readouterr().err


def test_settings_stay_as_they_were_written(run: RunFolder) -> None:
    assert yaml.safe_load(run.config.read_text()) == run.read_settings()
