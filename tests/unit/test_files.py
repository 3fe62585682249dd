"""Files are whole or not there, with the permissions that any new file gets; folders are checked."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from relapet.errors import InputError
from relapet.files import (
    atomic_path,
    refuse_inside,
    require_empty,
    require_empty_or_own,
    require_file,
    require_folder,
    unless_refused,
    write_text,
)


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_files_obey_the_umask_whoever_writes_them(umask: int, tmp_path: Path) -> None:
    write_text(tmp_path / "text", "x")
    with atomic_path(tmp_path / "w.safetensors") as temporary:
        save_file({"a": np.zeros(3)}, temporary)
    with atomic_path(tmp_path / "private") as temporary:
        handle, name = tempfile.mkstemp(dir=tmp_path)  # 0600, as libraries make their temporary files
        os.close(handle)
        Path(name).replace(temporary)
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask, path


def test_a_writer_that_writes_nothing_or_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), atomic_path(path):
        pass
    with pytest.raises(UnicodeEncodeError), atomic_path(path) as temporary:
        temporary.write_text("half\udc00", encoding="utf-8")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_must_be_there_and_what_must_not(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert require_folder(tmp_path) == tmp_path
    assert require_file(file) == file
    assert require_empty(tmp_path / "new") == tmp_path / "new"
    with pytest.raises(InputError, match=r"The run folder .*file does not exist"):
        require_folder(file, "run folder")
    with pytest.raises(InputError, match=r"The atlas .* does not exist"):
        require_file(tmp_path, "atlas")
    with pytest.raises(InputError, match="is not empty"):
        require_empty(tmp_path)
    with pytest.raises(InputError, match="is a file"):
        require_empty(file)


def test_an_output_in_its_input_is_refused_under_any_name(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (tmp_path / "link").symlink_to(source)
    for out, how in (
        (source, "is"),
        (source / "a" / "b", "lies inside"),
        (tmp_path / "link" / "c", "lies inside"),
    ):
        with pytest.raises(InputError, match=rf"{how} the input .*choose one outside"):
            refuse_inside(out, tmp_path / "missing", source)
    refuse_inside(tmp_path / "source2", source)
    refuse_inside(source / "derivatives" / "relapet", source)  # where BIDS has them
    with pytest.raises(InputError, match="lies inside"):
        refuse_inside(source / "derivatives", source)
    refuse_inside(tmp_path, source)


def test_only_an_empty_or_own_folder_is_written_to(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert require_empty_or_own(out, lambda folder: False, "relapet x") == out
    (out / ".git").mkdir(parents=True)
    require_empty_or_own(out, lambda folder: False, "relapet x")
    (out / "notes.txt").touch()
    with pytest.raises(InputError, match=r"not empty .*relapet x; choose an empty folder"):
        require_empty_or_own(out, lambda folder: False, "relapet x")
    require_empty_or_own(out, lambda folder: True, "relapet x")


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError("27648 requested and 9936 written"), "27648 requested and 9936 written"),
        (ValueError("I/O error: File too large (os error 27)"), "File too large"),
    ],
)
def test_a_full_disk_names_the_file_whoever_wrote(raised: Exception, reason: str, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=reason) as told, atomic_path(tmp_path / "map.nii"):
        raise raised
    assert told.value.filename == str(tmp_path / "map.nii")
    assert not list(tmp_path.iterdir())


def test_other_errors_of_writers_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no image"), atomic_path(tmp_path / "map.nii"):
        raise ValueError("this is no image (error 28)")


@pytest.mark.parametrize("before", ["nothing", "empty", "used", "begun"])
def test_a_refusal_takes_back_a_new_folder_alone(before: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    if before != "nothing":
        out.mkdir()
    if before == "used":
        (out / "notes.txt").touch()

    def work() -> None:
        out.mkdir(exist_ok=True)
        (out / "table.tsv").touch()
        if before == "begun":
            (out / "begun").touch()
        raise InputError("no.")

    with pytest.raises(InputError), unless_refused(out, out / "begun"):
        work()
    left = {path.name for path in out.iterdir()} if out.exists() else None
    expected = {
        "nothing": None,
        "empty": set(),
        "used": {"notes.txt", "table.tsv"},
        "begun": {"table.tsv", "begun"},
    }
    assert left == expected[before]
