"""Writing files so that nothing half-written stays: temporary name first, then rename."""

from __future__ import annotations

import hashlib
import json
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from relapet.errors import InputError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it to ``path`` on success, delete it on any failure.

    The temporary name keeps the suffixes of ``path``, because writers choose the format by them.
    Parent folders are made. The file gets the permissions that any new file gets.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{secrets.token_hex(4)}-{path.name}")
    temporary.touch()
    mode = stat.S_IMODE(
        temporary.stat().st_mode
    )  # as the user's umask has it; some writers make private files
    temporary.unlink()  # so that a writer that writes nothing is found out
    try:
        yield temporary
        temporary.chmod(mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Delete what a killed process left of `atomic_path` under a folder that no other process writes to."""
    for path in Path(folder).rglob(".tmp-*"):
        path.unlink(missing_ok=True)


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
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a readable JSON file ({error}); write it anew.") from error
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


def require_empty(path: Path, what: str = "folder") -> Path:
    """The folder itself, which may not exist yet; raises InputError where it holds anything or is a file."""
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise InputError(f"The {what} {path} is a file; choose another name.")
    if path.is_dir() and any(path.iterdir()):
        raise InputError(f"The {what} {path} is not empty; choose another or delete it.")
    return path


def prepare_output_folder(path: Path) -> Path:
    """Make an output folder and prove that it can be written; raise InputError where it cannot."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".tmp-{secrets.token_hex(4)}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"The output folder {path} cannot be written ({reason}); choose another.") from error
    return path
