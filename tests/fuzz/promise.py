"""The promise of every command, whatever it is given: what a call did, and how it differs from the promise."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from safetensors.numpy import load_file

from relapet.cli import main

_NEVER = ("Traceback", "error: unexpected ", "Errno", "pydantic", "\x1b", "object at 0x")
"""What no message holds."""
_BROKEN_OFF = re.compile(r"relapet: error: .*(is|are) not finite (at|after) step")
_NAN = re.compile(r"(^|\t)-?nan(\t|$)", re.MULTILINE)


@dataclass(frozen=True)
class Call:
    """One command as it was called, and what may be expected of it."""

    arguments: list[str]
    out: Path
    """Where it writes."""
    names: tuple[str, ...]
    """Words of which a refusal holds at least one: file names, options."""
    others: tuple[Path, ...]
    """What is there after the call, unless it was refused as a whole."""
    may_hold_nan: bool = False
    """Whether a table of the output may lawfully hold a missing number; never an image."""


@dataclass(frozen=True)
class Result:
    """What a call did."""

    status: int
    said: str
    """Standard error."""


def contents(root: Path) -> dict[str, str]:
    """Checksums of all files below a folder; links by where they lead."""
    found = {}
    for path in sorted(Path(root).rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"link to {path.readlink()}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def run(arguments: Sequence[str]) -> Result:
    """Call a command within this process."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        status = main(list(arguments))
    return Result(status, said.getvalue())


def breaches(call: Call, result: Result, root: Path, before: dict[str, str]) -> list[str]:
    """How a result differs from the promise; ``before``: `contents` of the workspace ``root`` before the call."""
    after = contents(root)
    own = str(call.out.relative_to(root)) if call.out.is_relative_to(root) else str(call.out)
    foreign = {
        name: digest for name, digest in after.items() if name != own and not name.startswith(f"{own}/")
    }
    kept = {name: digest for name, digest in before.items() if name != own and not name.startswith(f"{own}/")}
    found = [*_of_words(call, result)]
    if foreign != kept:
        changed = {name for name in kept.keys() | foreign.keys() if kept.get(name) != foreign.get(name)}
        found.append(f"files outside the output changed: {sorted(changed)[:5]}")
    if left := [
        name
        for name in after.keys() - before.keys()
        if "/.tmp-" in f"/{name}" or name.endswith(".relapet-lock")
    ]:
        found.append(f"left behind: {left[:3]}")
    if result.status == 2:
        if after != before:
            found.append(f"status 2, and written: {sorted(set(after) ^ set(before))[:5] or 'changed files'}")
        return found
    found += [f"not done: {path.name}" for path in call.others if not path.exists()]
    if call.out.is_dir():
        found += [fault for path in sorted(call.out.rglob("*")) if (fault := _fault(path, call.may_hold_nan))]
    return found


def _of_words(call: Call, result: Result) -> list[str]:
    found = [f"says {word!r}" for word in _NEVER if word in result.said]
    if result.status not in (0, 1, 2):
        return [*found, f"status {result.status}"]
    lines = [line for line in result.said.splitlines() if not line.startswith("warning: ")]
    if result.status == 0:
        return [*found, f"status 0 and said: {lines[0]}"] if lines else found
    if result.status == 2:
        if len(lines) != 1 or not lines[0].startswith("relapet: error: "):
            return [*found, f"{len(lines)} lines for status 2"]
        sentences = lines
    elif lines and (match := re.fullmatch(r"relapet: (\d+) failed:", lines[0])):
        sentences = lines[1:]
        if len(sentences) != int(match[1]):
            found.append("another number of failures than lines")
    elif (
        len(lines) == 1
        and lines[0].startswith("relapet: error: ")
        and re.search("(is|are) not finite (at|after) step", lines[0])
    ):
        sentences = lines  # a training that broke off, whose weights up to then are kept
    else:
        return [*found, "status 1 without a list of what failed"]
    found += [f"no sentence: {line[-60:]!r}" for line in sentences if not line.endswith((".", "?"))]
    if not any(name in line for name in call.names for line in sentences):
        found.append(f"names none of {call.names}")
    return found


def _fault(path: Path, may_hold_nan: bool) -> str | None:
    """What is wrong with a file of the output."""
    try:
        if path.name.endswith(".nii.gz") and not np.isfinite(nib.load(path).get_fdata()).all():
            return f"NaN in {path.name}"
        if path.suffix == ".safetensors" and any(not np.isfinite(a).all() for a in load_file(path).values()):
            return f"NaN in {path.name}"
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
        if (
            path.suffix == ".tsv"
            and not may_hold_nan
            and re.search(r"(^|\t)-?nan(\t|$)", path.read_text(), re.MULTILINE)
        ):
            return f"NaN in {path.name}"
    except Exception as error:  # whatever a reader makes of it, the file is broken
        return f"{path.name} cannot be read: {error}"
    return None


def _refuse(name: str) -> None:
    raise ValueError(f"holds {name}")
