"""Commands as processes of their own that are stopped and killed: one sentence, nothing half-written, a rerun works."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from relapet.cli import main
from relapet.files import prepare_output_folder
from relapet.imaging.grid import GRIDS
from relapet.imaging.template import load_template
from relapet.locks import LOCK
from support import TINY, recipe_weights

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
ANSWER_SECONDS = 5.0
"""How soon every command must have ended after Ctrl-C."""


def begin(*arguments: object, start_new_session: bool = False) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-m", "relapet", *map(str, arguments)]
    return subprocess.Popen(
        command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, start_new_session=start_new_session
    )


def wait_for(process: subprocess.Popen[str], begun: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not begun() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()[1]


def end_when(process: subprocess.Popen[str], begun: Callable[[], bool], number: signal.Signals) -> str:
    """Send a signal as soon as the work has begun; standard error."""
    try:
        wait_for(process, begun)
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


def interrupt(begun: Callable[[], bool], *call: object) -> str:
    """Ctrl-C, which reaches all processes of a terminal, as soon as the work has begun; what was said last."""
    with begin(*call, start_new_session=True) as process:
        try:
            wait_for(process, begun)
            start = time.monotonic()
            os.killpg(process.pid, signal.SIGINT)
            said = process.communicate(timeout=120)[1]
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert time.monotonic() - start < ANSWER_SECONDS, said
    assert process.returncode == 128 + signal.SIGINT, said
    told = [line for line in said.splitlines() if line.startswith("relapet: ")]
    assert len(told) == 1, said
    assert "Traceback" not in said
    assert "KeyboardInterrupt" not in said
    return told[0]


def again(*call: object) -> int:
    return main([*map(str, call), "--quiet"])


STOPPED = "relapet: stopped by Ctrl-C; files are written whole or not at all."


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("as_scanned", [False, True])
def test_simulate_answers_ctrl_c(as_scanned: bool, processes: int, tmp_path: Path) -> None:
    out = tmp_path / "cohort"
    call = ["simulate", out, "--subjects", 2, "--n-procs", processes]
    call += ["--as-scanned"] if as_scanned else ["--grid", "4mm"]
    assert interrupt(lambda: any(out.glob("sub-*")), *call) == STOPPED
    assert not hidden(out)
    if not as_scanned:
        assert again(*call) == 0


@pytest.mark.slow
def test_processes_that_are_starting_leave_ctrl_c_to_the_parent(tmp_path: Path) -> None:
    out = tmp_path / "cohort"
    call = ["simulate", out, "--subjects", 4, "--grid", "4mm", "--n-procs", 4]
    assert interrupt((out / LOCK).exists, *call) == STOPPED
    assert not hidden(out)


def raw_heads(root: Path, subjects: int) -> Path:
    """The template's brain at 3 mm as raw T1w, which takes a while to register."""
    grid = GRIDS["3mm"]
    template = load_template(grid)
    for number in range(1, subjects + 1):
        path = root / f"sub-{number:02d}" / "anat" / f"sub-{number:02d}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        nib.save(
            nib.Nifti1Image(np.where(template.brain, template.t1, 0).astype(np.float32), grid.affine), path
        )
    (root / "dataset_description.json").write_text(json.dumps({"Name": "heads", "BIDSVersion": "1.10.0"}))
    return root


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_preprocess_answers_ctrl_c_in_the_middle_of_a_registration(processes: int, tmp_path: Path) -> None:
    pytest.importorskip("ants")
    raw, out, scratch = raw_heads(tmp_path / "raw", 2), tmp_path / "out", tmp_path / "scratch"
    scratch.mkdir()
    call = ["preprocess", raw, out, "participant", "--grid", "8mm", "--n-procs", processes]

    def registers() -> bool:
        return any("brain mask" in path.read_text() for path in out.glob("logs/*.log"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENVIRONMENT, "TMPDIR", str(scratch))
        assert interrupt(registers, *call) == STOPPED
    assert not list(scratch.iterdir())
    assert not hidden(out)
    assert again(*call, "--participant-label", "01") == 0


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["demo", "linear"])
def test_train_answers_ctrl_c_and_goes_on(preset: str, toy_source: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    call = ["train", toy_source, run, "--preset", preset, "--set", "data.test_fraction=0.2"]
    begun = (run / "log.tsv").exists if preset == "demo" else (run / "cache").exists
    more = ["train.steps=100000", "train.seconds=null", "train.log_every=1"] if preset == "demo" else []
    said = interrupt(begun, *call, *more)
    resume = ["train", toy_source, run, "--resume"]
    if preset == "demo":
        assert "Training was stopped by SIGINT after step" in said
        assert "is saved; add --resume to go on" in said
        assert again(*resume, "--set", "train.steps=1") == 0
    else:
        assert said == STOPPED
        assert again(*call) == 0


@pytest.mark.slow
def test_synthesize_answers_ctrl_c_and_goes_on(toy_source: Path, tiny_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    call = ["synthesize", toy_source, out, "participant", "--model", tiny_run, "--samples", 50]
    assert interrupt((out / "dataset_description.json").exists, *call) == STOPPED
    assert not hidden(out)
    assert again(*call[:6], "--samples", 1) == 0


@pytest.mark.slow
def test_evaluate_answers_ctrl_c_and_goes_on(toy_source: Path, tiny_run: Path, tmp_path: Path) -> None:
    synthetic, out = tmp_path / "synthetic", tmp_path / "out"
    make = ["synthesize", toy_source, synthetic, "participant", "--model", tiny_run, "--split", "test"]
    assert again(*make, "--samples", 2) == 0
    call = ["evaluate", toy_source, synthetic, out]
    for begun in ((out / LOCK).exists, (out / "figures").exists):
        assert interrupt(begun, *call) == STOPPED
        assert not hidden(out)
    assert again(*call) == 0


@pytest.mark.slow
def test_import_weights_answers_ctrl_c_and_goes_on(tmp_path: Path) -> None:
    checkpoint, run = tmp_path / "epoch_99.pt", tmp_path / "run"
    torch.save({"model_state_dict": recipe_weights("generator"), "epoch": 99}, checkpoint)
    call = ["import-weights", checkpoint, run]
    assert interrupt(run.exists, *call) == STOPPED
    assert not hidden(run)
    assert again(*call) == 0


@pytest.mark.slow
def test_demo_answers_ctrl_c_and_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    assert interrupt(lambda: any(out.glob("cohort/sub-*")), "demo", out) == STOPPED
    assert not hidden(out)
    assert again("demo", out) == 2
    assert "is not empty; choose another or delete it" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("name", ["evaluate", "import-layout", "import-weights", "train", "preprocess"])
def test_a_command_that_is_ended_can_be_run_again(
    name: str, number: signal.Signals, calls: dict[str, list[str]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    call = [out if word == "OUT" else word for word in calls[name]]
    said = end_when(process := begin(*call), lambda: out.is_dir() and any(hidden(out)), number)
    if number == signal.SIGTERM:
        assert process.returncode == 128 + signal.SIGTERM
        assert "SIGTERM" in said.splitlines()[-1]
        assert "Traceback" not in said
        assert not hidden(out)
    again = [
        *map(str, call),
        *(["--resume"] if name == "train" and (out / "manifest.json").is_file() else []),
    ]
    if name != "preprocess":  # which takes minutes
        assert main([*again, "--quiet"]) == 0
    else:
        limit = time.monotonic() + ANSWER_SECONDS  # its worker may take a moment to end
        while hidden(out) and time.monotonic() < limit:
            prepare_output_folder(out)
            time.sleep(0.1)
    assert not hidden(out)


@pytest.mark.slow
@pytest.mark.parametrize("room", [0, 20_000])
@pytest.mark.parametrize(
    "name", ["simulate", "synthesize", "evaluate", "import-layout", "import-weights", "train", "preprocess"]
)
def test_a_full_disk_is_told_by_every_command(
    name: str, room: int, calls: dict[str, list[str]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    call = [str(out) if word == "OUT" else word for word in calls[name]]
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))"
    code = f"{limited}; from relapet.cli import main; raise SystemExit(main({call!r}))"
    done = subprocess.run([sys.executable, "-P", "-c", code], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode in (1, 2), done.stderr
    said = [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]
    assert str(out) in said[-1], done.stderr
    assert "File too large" in said[-1] or "written (" in said[-1], done.stderr
    assert "unexpected" not in done.stderr
    assert "Traceback" not in done.stderr
    assert not hidden(out)


def test_a_checkpoint_on_a_full_disk_names_its_file(tmp_path: Path) -> None:
    # The limit is of the process, so it is another one.
    code = (
        "import resource, torch; from pathlib import Path; from relapet.training.checkpoint import save_checkpoint\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    save_checkpoint(folder, 1, {'x': torch.zeros(100000)}, 2)\n"
        "except OSError as error:\n    print(error.filename, error.strerror)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.stdout.strip() == f"{tmp_path / 'step-000000001.pt'} File too large", done.stderr
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="session")
def calls(
    toy_source: Path,
    tiny_run: Path,
    synthetic: Path,
    flat_layout: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, list[str]]:
    """A call of each command that ends with status 0; OUT stands for its output folder."""
    root = tmp_path_factory.mktemp("calls")
    layout = Path(shutil.copytree(flat_layout, root / "flat"))
    shutil.copy(layout / "A1" / "A1_T1.nii", layout / "A2" / "A2_T1.nii")
    checkpoint = root / "epoch_9.pt"
    torch.save({"model_state_dict": recipe_weights("generator"), "epoch": 9}, checkpoint)
    raw = root / "raw"
    (raw / "sub-01" / "anat").mkdir(parents=True)
    shutil.copy(layout / "A1" / "A1_T1.nii", raw / "sub-01" / "anat" / "sub-01_T1w.nii")
    training = ["--config", str(TINY), "--set", "train.steps=3", "train.calibrate=false"]
    return {
        "simulate": ["simulate", "OUT", "--subjects", "2", "--grid", "8mm", "--n-procs", "1"],
        "synthesize": ["synthesize", str(toy_source), "OUT", "participant", "--model", str(tiny_run)],
        "evaluate": ["evaluate", str(toy_source), str(synthetic), "OUT"],
        "import-layout": ["import-layout", str(layout), "OUT", "--units", "SUVR"],
        "import-weights": ["import-weights", str(checkpoint), "OUT"],
        "train": ["train", str(toy_source), "OUT", *training],
        "preprocess": ["preprocess", str(raw), "OUT", "participant", "--grid", "8mm"],
    }


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
