"""One process writes to a folder: who holds it is told, and what the dead left is taken over."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from relapet.errors import InputError
from relapet.files import atomic_path, remove_unfinished, temporary_folder, write_text
from relapet.locks import LOCK, is_left_behind, is_locked_by_the_dead, locked, temporary_name


@pytest.fixture
def dead() -> int:
    """The number of a process that is gone."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def record(folder: Path, **values: object) -> None:
    (folder / LOCK).write_text(json.dumps({"host": socket.gethostname(), "start": None, **values}))


def test_a_held_folder_is_refused_and_let_go(tmp_path: Path) -> None:
    with locked(tmp_path):
        with pytest.raises(InputError, match=rf"written by process {os.getpid()} on"), locked(tmp_path):
            pass
        assert not is_locked_by_the_dead(tmp_path)
    with locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path, dead: int) -> None:
    record(tmp_path, pid=dead)
    assert is_locked_by_the_dead(tmp_path)
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()


def test_a_number_that_another_process_has_by_now_is_no_holder(tmp_path: Path) -> None:
    record(tmp_path, pid=os.getpid(), start="1")
    with locked(tmp_path):
        pass


def test_another_host_may_be_at_work(tmp_path: Path, dead: int) -> None:
    record(tmp_path, pid=dead, host="elsewhere")
    with pytest.raises(InputError, match=r"on elsewhere; .*delete .*relapet-lock"), locked(tmp_path):
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}'])
def test_a_broken_lock_holds_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text(text)
    with locked(tmp_path):
        pass


def test_of_many_at_once_one_gets_the_folder(tmp_path: Path, dead: int) -> None:
    record(tmp_path, pid=dead)
    code = (
        "import sys, time, pathlib\n"
        "from relapet.locks import locked\n"
        "while time.time() < float(sys.argv[2]): pass\n"
        "with locked(pathlib.Path(sys.argv[1])):\n    time.sleep(2)\n"
    )
    begin = str(time.time() + 3)
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), begin], stderr=subprocess.DEVNULL)
        for _ in range(4)
    ]
    assert sorted(process.wait() for process in processes) == [0, 1, 1, 1]


def test_only_what_a_dead_process_left_is_removed(tmp_path: Path, dead: int) -> None:
    own = tmp_path / "a" / temporary_name("map.nii.gz")
    gone = own.with_name(own.name.replace(f"-{os.getpid()}-", f"-{dead}-", 1))
    old = tmp_path / ".tmp-0123abcd-table.tsv"  # as earlier versions wrote
    own.parent.mkdir()
    for path in (own, gone, old):
        path.write_text("half")
    folder = tmp_path / gone.name.replace("map.nii.gz", "")
    folder.mkdir()
    (folder / "inside").touch()
    assert is_left_behind(gone)
    remove_unfinished(tmp_path)
    assert not gone.exists()
    assert not folder.exists()
    assert own.exists()
    assert old.exists()
    remove_unfinished(tmp_path, alone=True)
    assert not own.exists()
    assert not old.exists()


def test_temporary_names_tell_their_process(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.txt") as temporary:
        assert f"-{os.getpid()}-" in temporary.name
        temporary.write_text("x")
    with temporary_folder(tmp_path / "new") as folder:
        assert folder.parent == tmp_path / "new"
        assert f"-{os.getpid()}-" in folder.name
        write_text(folder / "b", "x")
    assert not list((tmp_path / "new").iterdir())
