"""One pool for all: results by index, one thread a process, and no process that outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from relapet.errors import InputError, RelapetError
from relapet.processes import each_index

SECONDS = 5.0
"""How soon all processes must be gone."""


def square(index: int) -> tuple[int, str | None]:
    return index**2, os.environ.get("OMP_NUM_THREADS")


def die(index: int) -> int:
    if index == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.3)
    return index


def fail(index: int) -> int:
    raise InputError(f"subject {index} is bad.")


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_with_their_index(processes: int) -> None:
    before = dict(os.environ)
    found = dict(each_index(square, 5, processes))
    assert {index: result[0] for index, result in found.items()} == {i: i**2 for i in range(5)}
    if processes > 1:
        assert {threads for _, threads in found.values()} == {"1"}
    assert dict(os.environ) == before


def test_fewer_than_one_process_is_refused() -> None:
    with pytest.raises(InputError, match="n_procs"):
        list(each_index(square, 5, 0))


def test_what_the_work_raises_is_raised() -> None:
    with pytest.raises(InputError, match="is bad"):
        list(each_index(fail, 3, 2))


def test_a_killed_process_is_told_of() -> None:
    with pytest.raises(RelapetError, match="memory"):
        list(each_index(die, 4, 2))
    found = dict(each_index(die, 4, 2, on_killed=lambda index: -index))
    assert found[1] == -1
    assert set(found) == {0, 1, 2, 3}


# The second kind of work keeps the interpreter's lock, as registrations do: no thread of Python runs meanwhile.
SCRIPT = """
import ctypes, os, sys, time
from pathlib import Path
from relapet.processes import each_index

def work(index):
    Path(sys.argv[1], f"{os.getpid()}.started").touch()
    if sys.argv[2] == "sleeping":
        time.sleep(600)
    ctypes.PyDLL(None).sleep(600)

if __name__ == "__main__":
    list(each_index(work, 4, 2))
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.is_file() or state.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a locked interpreter is ended by Linux alone")
@pytest.mark.parametrize("kind", ["sleeping", "locked"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_its_parent(kind: str, number: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    parent = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path), kind], stderr=subprocess.DEVNULL, start_new_session=True
    )
    limit = time.monotonic() + 60
    while len(list(tmp_path.glob("*.started"))) < 2:
        assert time.monotonic() < limit
        assert parent.poll() is None
        time.sleep(0.05)
    workers = [int(path.stem) for path in tmp_path.glob("*.started")]
    start = time.monotonic()
    os.killpg(parent.pid, number) if number == signal.SIGINT else parent.send_signal(number)
    assert parent.wait(SECONDS) != 0
    while any(alive(pid) for pid in workers) and time.monotonic() < start + SECONDS:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in workers)
