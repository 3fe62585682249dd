"""Commands as processes of their own that are stopped and killed: one sentence, nothing half-written, a rerun works."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from relapet.cli import main
from relapet.locks import LOCK

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def begin(*arguments: object, cwd: Path | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-m", "relapet", *map(str, arguments)]
    return subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, cwd=cwd)


def end_when(process: subprocess.Popen[str], begun: Callable[[], bool], number: signal.Signals) -> str:
    """Send a signal as soon as the work has begun; standard error."""
    try:
        deadline = time.monotonic() + 300
        while not begun() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert process.poll() is None, process.communicate()[1]
        process.send_signal(number)
        return process.communicate(timeout=120)[1]
    finally:
        process.kill()


def hidden(root: Path) -> list[Path]:
    return [path for path in root.rglob(".*") if path.name != ".bidsignore"]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_simulate_answers_sigterm_and_goes_on(processes: int, tmp_path: Path) -> None:
    out = tmp_path / "cohort"
    call = ["simulate", out, "--subjects", 3, "--grid", "4mm", "--n-procs", processes]
    said = end_when(process := begin(*call), lambda: any(out.glob("sub-*/pet/*.nii.gz")), signal.SIGTERM)
    assert process.returncode == 128 + signal.SIGTERM
    assert said.splitlines()[-1].startswith("relapet: stopped by SIGTERM")
    assert "Traceback" not in said
    assert not hidden(out)
    other = [*map(str, call[:2]), "--subjects", "3", "--grid", "4mm", "--seed", "3", "--quiet"]
    assert main(other) == 2
    assert main([*map(str, call), "--quiet"]) == 0
    assert len(list(out.glob("sub-*"))) == 3
    assert main([*map(str, call), "--quiet"]) == 2


@pytest.mark.slow
def test_simulate_goes_on_after_a_kill_and_two_at_once_are_told(tmp_path: Path) -> None:
    out = tmp_path / "cohort"
    call = ["simulate", out, "--subjects", 3, "--grid", "4mm", "--n-procs", 1]
    process = begin(*call)

    def second_is_refused() -> bool:
        if not any(out.glob("sub-*")):
            return False
        assert main([*map(str, call), "--seed", "4", "--quiet"]) == 2
        return True

    end_when(process, second_is_refused, signal.SIGKILL)
    assert (out / LOCK).exists()
    assert main([*map(str, call), "--quiet"]) == 0
    assert len(list(out.glob("sub-*"))) == 3
    assert not hidden(out)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_synthesize_ends_and_its_leavings_go_with_the_next_call(
    number: signal.Signals, toy_source: Path, tiny_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    call = ["synthesize", toy_source, out, "participant", "--model", tiny_run, "--samples", 4]
    said = end_when(process := begin(*call), lambda: any(out.glob("sub-*/pet/*.nii.gz")), number)
    if number == signal.SIGTERM:
        assert process.returncode == 128 + signal.SIGTERM
        assert "relapet: stopped by SIGTERM" in said
        assert not hidden(out)
    assert (out / "dataset_description.json").is_file()
    assert main([*map(str, call), "--participant-label", "01", "--quiet"]) == 0
    assert not hidden(out)


def test_a_full_disk_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*given: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "participants.tsv"))

    monkeypatch.setattr("relapet.api.simulate", full)
    assert main(["simulate", str(tmp_path / "out"), "--subjects", "1"]) == 1
    said = capsys.readouterr().err
    assert "participants.tsv cannot be written (No space left on device)" in said
    assert len(said.strip().splitlines()) == 1


@pytest.mark.slow
def test_code_of_the_working_folder_is_not_run_by_children(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("selectors", "numpy", "tempfile"):
        (tmp_path / "data" / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    script = shutil.which("relapet", path=str(Path(sys.executable).parent))
    code = "import sys; sys.path[:] = [p for p in sys.path if p]; from relapet.cli import entry_point; entry_point()"
    start = [script] if script else [sys.executable, "-P", "-c", code]
    arguments = ["simulate", str(tmp_path / "out"), "--subjects", "2", "--grid", "4mm", "--n-procs", "2"]
    done = subprocess.run(
        [*start, *arguments], cwd=tmp_path / "data", env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()
