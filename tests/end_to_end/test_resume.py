"""Training as a process of its own: killed, stopped, gone on with, and on two devices."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from relapet.runs import RunFolder
from relapet.training.checkpoint import checkpoints, load_latest_checkpoint
from support import TINY, TINY_SETTINGS, assert_equal_runs

ENVIRONMENT = {key: value for key, value in os.environ.items() if key not in ("RANK", "LOCAL_RANK")}


def command(source: Path, run: Path, *more: str) -> list[str]:
    single = [*TINY_SETTINGS, "train.steps=12", "train.checkpoint_every=3", "train.validate_every=100"]
    begun = [sys.executable, "-m", "relapet", "train", str(source), str(run), "--config", str(TINY)]
    return [*begun, "--set", *single, *more]


def finish(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(arguments, env=ENVIRONMENT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return done


def begin_and_send(arguments: list[str], run: RunFolder, number: signal.Signals) -> tuple[int, str]:
    """Start training, send a signal after the first checkpoint; exit status and standard error."""
    process = subprocess.Popen(arguments, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 900
        while not checkpoints(run.checkpoints) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        said = process.communicate(timeout=900)[1]
    finally:
        process.kill()
    return process.returncode, said


@pytest.fixture(scope="module")
def whole(toy_source: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = RunFolder(tmp_path_factory.mktemp("whole"))
    finish(command(toy_source, run.path))
    assert load_latest_checkpoint(run.checkpoints, pytest.fail)["step"] == 12
    return run


@pytest.mark.slow
def test_after_kill_9_a_resumed_run_ends_bitwise_equal(
    whole: RunFolder, toy_source: Path, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path)
    arguments = command(toy_source, run.path)
    assert begin_and_send(arguments, run, signal.SIGKILL)[0] == -signal.SIGKILL
    assert load_latest_checkpoint(run.checkpoints, pytest.fail)["step"] < 12
    done = finish([*arguments, "--resume"])
    assert "Going on after step" in done.stdout
    assert_equal_runs(whole, run)


@pytest.mark.slow
def test_after_sigterm_the_checkpoint_is_clean_and_the_run_ends_bitwise_equal(
    whole: RunFolder, toy_source: Path, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path)
    arguments = command(toy_source, run.path)
    status, said = begin_and_send(arguments, run, signal.SIGTERM)
    assert status == 128 + signal.SIGTERM
    assert "stopped by SIGTERM after step" in said
    assert "Traceback" not in said
    finish([*arguments, "--resume", "--quiet"])
    assert_equal_runs(whole, run)


@pytest.mark.slow
def test_two_devices_write_one_run(toy_source: Path, tmp_path: Path) -> None:
    done = finish(command(toy_source, tmp_path, "train.steps=2", "train.validate_every=2", "--devices", "2"))
    assert done.stdout.count("Run folder written") == 1
    run = RunFolder(tmp_path)
    assert run.read_settings()["train"]["devices"] == 2
    assert run.log.read_text().count("generator/total") == 2
    assert len(list(run.figures.glob("*.png"))) == 3
    assert len(run.read_weights("generator")) > 0
    assert load_latest_checkpoint(run.checkpoints, pytest.fail)["step"] == 2
