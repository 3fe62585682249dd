"""Writing files so that nothing half-written stays: temporary name first, then rename."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from relapet.errors import InputError
from relapet.locks import disk_errors_named, is_left_behind, temporary_name


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it to ``path`` on success, delete it on any failure.

    The temporary name keeps the suffixes of ``path``, because writers choose the format by them.
    Parent folders are made. The file gets the permissions that any new file gets.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder where a file is to be written; move it away.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(temporary_name(path.name))
    temporary.touch()
    mode = stat.S_IMODE(
        temporary.stat().st_mode
    )  # as the user's umask has it; some writers make private files
    temporary.unlink()  # so that a writer that writes nothing is found out
    try:
        with disk_errors_named(path):
            yield temporary
            temporary.chmod(mode)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A folder within ``parent``, which is made, and so on its file system; it goes with all it holds."""
    Path(parent).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=temporary_name(""), dir=parent) as folder:
        yield Path(folder)


def remove_unfinished(folder: Path, alone: bool = False) -> None:
    """Delete what killed processes left of `atomic_path` and `temporary_folder` under a folder.

    ``alone``: no other process writes there, so that whatever has a temporary name is left behind. Else it is what
    processes of this host left that are gone.
    """
    for path in sorted(Path(folder).rglob(".tmp-*")):
        if not alone and not is_left_behind(path):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def unless_refused(folder: Path, begun: Path | None = None) -> Iterator[None]:
    """Where an InputError ends the work, an output folder that was not there before, or empty, goes again.

    ``begun``: a file within it that says that there is work to keep.
    """
    folder = Path(folder)
    before = folder.exists()
    used = bool(visible(folder))
    try:
        yield
    except InputError:
        if not used and folder.is_dir() and not (begun is not None and begun.is_file()):
            shutil.rmtree(folder)
            if before:
                folder.mkdir()
        raise


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as indented JSON, atomically."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raise InputError with the file's name where it is none."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise InputError(f"{path} is not a readable JSON file ({reason}); write it anew.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object; write it anew.")
    return content


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def require_folder(path: Path, what: str = "folder") -> Path:
    """The folder itself; raises InputError where it does not exist."""
    if not Path(path).is_dir():
        raise InputError(f"The {what} {path} does not exist; check the path.")
    return Path(path)


def require_file(path: Path, what: str = "file") -> Path:
    """The file itself; raises InputError where it does not exist."""
    if not Path(path).is_file():
        raise InputError(f"The {what} {path} does not exist; check the path.")
    return Path(path)


def require_suffix(path: Path, known: Mapping[str, str]) -> Path:
    """The file itself, which may not exist yet; raises InputError where its name ends in none of ``known``.

    ``known``: what each suffix stands for.
    """
    if path.suffix not in known or path.is_dir():
        choices = " or ".join(f"{suffix} ({what})" for suffix, what in known.items())
        raise InputError(f"{path} cannot be the file to write; give a name that ends in {choices}.")
    return path


def require_empty(path: Path, what: str = "folder") -> Path:
    """The folder itself, which may not exist yet; raises InputError where it holds anything or is a file."""
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise InputError(f"The {what} {path} is a file; choose another name.")
    if path.is_dir() and any(path.iterdir()):
        raise InputError(f"The {what} {path} is not empty; choose another or delete it.")
    return path


def visible(folder: Path) -> list[Path]:
    """What a folder holds, which may not exist: but hidden files, as of version control, that relapet never writes."""
    folder = Path(folder)
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name[0] != "." or path.name == ".bidsignore")


def require_empty_or_own(path: Path, is_own: Callable[[Path], bool], what: str) -> Path:
    """The output folder itself; raises InputError where it holds anything but what ``what`` wrote.

    ``is_own`` tells that of a folder that is not empty: nobody's own files are overwritten.
    """
    path = Path(path)
    if visible(path) and not is_own(path):
        raise InputError(
            f"The output folder {path} is not empty and holds no unfinished or earlier output of {what}; choose an "
            "empty folder."
        )
    return path


def refuse_inside(out: Path, *inputs: Path) -> None:
    """Raise InputError where an output folder is one of the folders that are read, or lies in one.

    BIDS gives a data set's derivatives a place inside it, ``derivatives/NAME``, which no reader of the data set takes
    for a part of it: that is allowed.
    """
    place = Path(out).resolve()
    for folder in map(Path, inputs):
        if place.is_relative_to((folder / "derivatives").resolve()) and place.name != "derivatives":
            continue
        for above in (place, *place.parents):
            if folder.exists() and above.exists() and folder.samefile(above):
                how = "is" if above == place else "lies inside"
                raise InputError(
                    f"The output folder {out} {how} the input {folder}; choose one outside of it."
                )


def prepare_output_folder(path: Path) -> Path:
    """Make an output folder and prove that it can be written; raise InputError where it cannot.

    What killed processes left under temporary names goes.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / temporary_name("probe")
        probe.touch()
        probe.unlink()
        remove_unfinished(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"The output folder {path} cannot be written ({reason}); choose another.") from error
    return path
