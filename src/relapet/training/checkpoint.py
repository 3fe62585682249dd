"""Checkpoints: the state of networks, optimisers and counters after a step, in one file, written atomically.

The last few are kept. An exact resume also needs the data set and, of the run folder, config.yaml, manifest.json,
weights/fitted.safetensors, weights/prior.safetensors and the cache, which is made anew from the data set where it is
gone.

Random numbers need no state: each step's are drawn from (seed, step), see `relapet.training.engine`.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import torch

from relapet.errors import InputError
from relapet.files import atomic_path

FORMAT = 3
"""Version of the checkpoint's content; a reader refuses any other."""

_NAME = re.compile(r"^step-(\d+)\.pt$")


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, newest first."""
    found = [(int(match[1]), path) for path in Path(folder).glob("*.pt") if (match := _NAME.match(path.name))]
    return [path for _, path in sorted(found, reverse=True)]


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write ``state`` after ``step`` steps and delete all but the newest ``keep``."""
    path = Path(folder) / f"step-{step:09d}.pt"
    # Through a stream of Python's, which tells what a full disk answers; torch's own writer does not.
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        torch.save({"format": FORMAT, "step": step, **state}, stream)
    for old in checkpoints(folder)[keep:]:
        old.unlink()
    return path


def load_latest_checkpoint(folder: Path, on_warning: Any) -> dict[str, Any]:
    """The newest checkpoint that can be read; each one that cannot is named to ``on_warning``.

    Raises InputError where there is none, or where it is of another version.
    """
    for path in checkpoints(folder):
        try:
            state = _checked(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:  # torch raises whatever the broken bytes lead it to
            on_warning(
                f"{path} cannot be read ({type(error).__name__}); falling back to the checkpoint before it."
            )
            continue
        if state.get("format") != FORMAT:
            raise InputError(
                f"{path} is of checkpoint format {state.get('format')}, this relapet reads {FORMAT}; "
                "resume with the version that wrote it."
            )
        return state
    raise InputError(f"{folder} holds no readable checkpoint; train into a new folder.")


def _is_finite(part: Any) -> bool:
    """Whether every number within a state is finite: from one that is not, no step leads back."""
    if isinstance(part, torch.Tensor):
        return bool(part.isfinite().all())
    if isinstance(part, float):
        return math.isfinite(part)
    inner = part.values() if isinstance(part, dict) else part if isinstance(part, list | tuple) else ()
    return all(_is_finite(value) for value in inner)


def _checked(content: Any) -> dict[str, Any]:
    """The content, if it is a checkpoint of any format; raises TypeError or ValueError."""
    if not isinstance(content, dict):
        raise TypeError("no mapping")
    step = content.get("step")
    if content.get("format") == FORMAT and (not isinstance(step, int) or step < 0):
        raise ValueError("no step")
    if not _is_finite(content):
        raise ValueError("NaN or infinity")
    return content
