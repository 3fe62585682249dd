"""Who writes where: temporary names and lock files that tell a process at work from one that is gone."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from relapet.errors import InputError

DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})
"""What a full or closed disk answers."""
LOCK = ".relapet-lock"
"""Name of the lock file in a folder that one process alone may write to."""
_TEMPORARY = re.compile(r"^\.tmp-([0-9a-f]{6})-(\d+)-")
_SHORT = re.compile(r"\d+ requested and \d+ written")
_COMPILED = re.compile(r"\(os error (\d+)\)")
_SLACK_SECONDS = 2.0
"""By which a file's time may precede the start of the process that wrote it, as clocks are read."""


def temporary_name(name: str) -> str:
    """A new hidden name that ends like ``name`` and tells this host and process."""
    return f".tmp-{_host_mark()}-{os.getpid()}-{secrets.token_hex(4)}-{name}"


def is_left_behind(path: Path) -> bool:
    """Whether the process of this host that made a file under a `temporary_name` is gone."""
    match = _TEMPORARY.match(path.name)
    if match is None or match[1] != _host_mark():
        return False
    pid = int(match[2])
    if not _is_alive(pid):
        return True
    started = _start_time(pid)  # numbers of processes are used again
    try:
        return started is not None and path.stat().st_mtime < started - _SLACK_SECONDS
    except OSError:
        return False


@contextmanager
def disk_errors_named(path: Path) -> Iterator[None]:
    """Have a full or closed disk name the file that was to be written, whoever wrote and whatever that raised."""
    try:
        yield
    except Exception as error:
        number, reason = _system_error(error)
        if number in DISK:
            raise OSError(number, reason, str(path)) from error
        raise


def _system_error(error: Exception) -> tuple[int, str]:
    """The system's number and words for what went wrong; 0 where nothing says so."""
    if isinstance(error.__context__, OSError) and not isinstance(error, OSError):
        return _system_error(error.__context__)  # as torch's writer raises its own over it
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno, error.strerror or ""
    if isinstance(error, OSError) and _SHORT.fullmatch(str(error)):
        return errno.ENOSPC, str(error)  # NumPy's words for a disk that took a part
    told = _COMPILED.search(str(error))
    return (int(told[1]), os.strerror(int(told[1]))) if told else (0, "")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, which must exist, as the only process that writes to it.

    The lock file names host and process. One whose process on this host is gone is taken over. Raises InputError
    where another process holds the folder, or one on another host may do so.
    """
    path = Path(folder) / LOCK
    try:
        with disk_errors_named(path):
            _take(path)
    except OSError:
        path.unlink(missing_ok=True)  # written in part, if at all
        raise
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def is_locked_by_the_dead(folder: Path) -> bool:
    """Whether a folder has the lock file of a process of this host that is gone: it was killed at work there."""
    record = _read(Path(folder) / LOCK)
    return record is not None and record.get("host") == socket.gethostname() and _is_gone(record)


def _take(path: Path) -> None:
    own = {"host": socket.gethostname(), "pid": os.getpid(), "start": _start_ticks(os.getpid())}
    while True:
        with path.open("a+", encoding="utf-8") as stream:
            with suppress(
                OSError
            ):  # a file system without locks: then two at once within a moment are not told
                fcntl.flock(stream, fcntl.LOCK_EX)
            try:
                current = path.stat().st_ino == os.fstat(stream.fileno()).st_ino
            except FileNotFoundError:
                current = False
            if not current:
                continue  # its holder has just let it go
            _refuse_held(path, own["host"])
            stream.seek(0)
            stream.truncate()
            json.dump(own, stream)
            return


def _refuse_held(path: Path, host: Any) -> None:
    record = _read(path)
    if record is None or (record.get("host") == host and _is_gone(record)):
        return
    who = f"process {record.get('pid')} on {record.get('host')}"
    mend = "wait for it" if record.get("host") == host else f"wait for it, or delete {path} if it is gone"
    raise InputError(f"{path.parent} is being written by {who}; {mend}, or choose another folder.")


def _read(path: Path) -> dict[str, Any] | None:
    """What a lock file says; None where there is none or where it says nothing, as after a crash."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("pid"), int) else None


def _is_gone(record: dict[str, Any]) -> bool:
    pid = record["pid"]
    return not _is_alive(pid) or record.get("start") != _start_ticks(pid)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _start_ticks(pid: int) -> str | None:
    """When a process began, in the kernel's ticks since boot (proc(5)); None where there is no /proc."""
    try:
        return (
            Path(f"/proc/{pid}/stat")
            .read_text(encoding="ascii", errors="replace")
            .rpartition(")")[2]
            .split()[19]
        )
    except (OSError, IndexError):
        return None


def _start_time(pid: int) -> float | None:
    """When a process began, seconds since 1970."""
    ticks = _start_ticks(pid)
    try:
        lines = Path("/proc/stat").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    boot = [line.split()[1] for line in lines if line.startswith("btime ")]
    return float(boot[0]) + int(ticks) / os.sysconf("SC_CLK_TCK") if ticks and boot else None


def _host_mark() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]
