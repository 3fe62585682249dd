"""The example scripts run as they stand, one after another, and the array script does what it says."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from page_checks import check_page

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("0*.py"))


@pytest.mark.slow
def test_the_examples_run_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [path.name[:2] for path in SCRIPTS] == ["01", "02", "03", "04", "05", "06"]
    monkeypatch.setattr(
        "relapet.report.gallery.draw_evaluation", lambda *given: []
    )  # tests/unit/report draws them
    folder = tmp_path / "example-output"
    said = {}
    for script in SCRIPTS:
        monkeypatch.setattr(sys, "argv", [str(script), str(folder)])
        runpy.run_path(str(script), run_name="__main__")
        said[script.name] = capsys.readouterr().out
        assert said[script.name]
    assert "0 were done before" in said["03_synthesize.py"]
    assert "visible_ceiling" in said["04_evaluate.py"]
    assert "intervals hold the measured" in said["05_regions.py"]
    for page in (folder / "pages").glob("*.html"):
        assert "simulated people" in check_page(page).said
    assert len(list((folder / "pages").glob("*.html"))) == 3
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"python examples/{script.name} example-output" in page for script in SCRIPTS)


def run_task(
    tmp_path: Path, number: str, *arguments: str, preprocess: int = 0
) -> subprocess.CompletedProcess[str]:
    """A task of the array, with a relapet that writes down how it was called, and a status of its preprocess."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir(exist_ok=True)
    fake = bin_folder / "relapet"
    fake.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path / "calls.txt"}\n[ "$1" != preprocess ] || exit {preprocess}\n'
    )
    fake.chmod(0o755)
    environment = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": number}
    return subprocess.run(
        ["bash", str(EXAMPLES / "slurm_array.sh"), *arguments],
        cwd=tmp_path, env=environment | {"TMPDIR": "/scratch"}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_each_task_of_the_array_takes_its_own_participant(tmp_path: Path) -> None:
    for label in ("01", "02", "10"):
        (tmp_path / "bids" / f"sub-{label}").mkdir(parents=True)
    done = run_task(tmp_path, "3", "bids", "derivatives", "synthetic", "run")
    assert done.returncode == 0, done.stderr
    calls = (tmp_path / "calls.txt").read_text().splitlines()
    assert calls == [
        "preprocess bids derivatives participant --participant-label sub-10 -w /scratch",
        "synthesize derivatives synthetic participant --model run --participant-label sub-10 -w /scratch",
    ]
    beyond = run_task(tmp_path, "4", "bids", "derivatives", "synthetic", "run")
    assert (beyond.returncode, "has 3 participants" in beyond.stderr) == (0, True)
    assert len((tmp_path / "calls.txt").read_text().splitlines()) == 2
    assert run_task(tmp_path, "1", "bids").returncode == 2
    nowhere = run_task(tmp_path, "1", "no-such", "derivatives", "synthetic", "run")
    assert (nowhere.returncode, "no-such holds no folder sub-*" in nowhere.stderr) == (2, True)


@pytest.mark.parametrize(("status", "calls"), [(1, ["preprocess", "synthesize"]), (2, ["preprocess"])])
def test_a_task_synthesises_what_preprocessing_could_make(
    tmp_path: Path, status: int, calls: list[str]
) -> None:
    (tmp_path / "bids" / "sub-01").mkdir(parents=True)
    done = run_task(tmp_path, "1", "bids", "derivatives", "synthetic", "run", preprocess=status)
    assert done.returncode == status
    assert [line.split()[0] for line in (tmp_path / "calls.txt").read_text().splitlines()] == calls


def test_a_task_without_relapet_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [shutil.which("bash") or "", str(EXAMPLES / "slurm_array.sh"), "a", "b", "c", "d"],
        env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, "no command relapet" in done.stderr) == (2, True)
