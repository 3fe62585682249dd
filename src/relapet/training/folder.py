"""Whether a folder may be trained into: a new one, or a run that goes on with its own settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from relapet.environment import now
from relapet.errors import InputError
from relapet.files import (
    prepare_output_folder,
    refuse_inside,
    remove_unfinished,
    require_empty_or_own,
    unless_refused,
    visible,
)
from relapet.locks import is_locked_by_the_dead, locked
from relapet.run_contents import SettingChange
from relapet.runs import RunFolder
from relapet.settings import shortened
from relapet.training.checkpoint import checkpoints

MAY_CHANGE = tuple(
    f"train.{name}"
    for name in (
        *("steps", "seconds", "devices", "nodes", "loader_threads", "tensorboard"),
        *("checkpoint_every", "keep_checkpoints", "log_every", "validate_every"),
    )
)
"""Settings that a training that goes on may be given anew; any other decides what its steps were made with."""


def require_trainable(run: RunFolder, derivatives: Path, resume: bool) -> None:
    """Raise InputError where training would write into its input, over a trained run or among foreign files."""
    refuse_inside(run.path, derivatives)
    require_empty_or_own(run.path, lambda _: _is_run(run), "relapet train")
    if checkpoints(run.checkpoints):
        if not resume:
            raise InputError(
                f"{run.path} already holds a training; add --resume to go on, or choose another folder."
            )
    elif any(run.weights.glob("*_ema.safetensors")):
        raise InputError(
            f"{run.path} holds trained weights but no checkpoint to go on from; choose another folder, which leaves "
            "them as they are."
        )
    elif run.manifest.is_file() and not resume:
        raise InputError(
            f"{run.path} already holds a training that was begun; add --resume to go on, or choose another folder."
        )


@contextmanager
def held(run: RunFolder, writes: bool) -> Iterator[None]:
    """Make the run folder and hold it against other processes; ``writes``: whether this is the one that writes."""
    if not writes:
        prepare_output_folder(run.path)
        yield
        return
    with unless_refused(run.path, run.manifest):
        prepare_output_folder(run.path)
        with locked(run.path):
            remove_unfinished(run.path, alone=True)
            yield


def setting_changes(run: RunFolder, given: Mapping[str, Any]) -> tuple[SettingChange, ...]:
    """What is changed in a run that goes on with the settings ``given``; nothing for a run without settings yet.

    Raises InputError, naming the first, for a setting that must stay as it was.
    """
    if not run.manifest.is_file():
        return ()
    own, new = _flat(run.read_settings()), _flat(given)
    changes = []
    for name in dict.fromkeys((*new, *own)):
        # A setting that the run does not know is of a later version than the run.
        if name not in own or own[name] == new.get(name, own[name]):
            continue
        if name not in MAY_CHANGE:
            raise InputError(
                f"{name} is {shortened(own[name])} in {run.config} and {shortened(new[name])} was given; a training "
                "goes on with its own settings, so leave it out, or train into a new folder."
            )
        changes.append(SettingChange(setting=name, before=own[name], after=new[name], when=now()))
    return tuple(changes)


def _is_run(run: RunFolder) -> bool:
    """Whether relapet train wrote here: a manifest that can be read, or what precedes it."""
    if run.manifest.is_file():
        try:
            run.read_manifest()
        except InputError:
            return False
        return True
    begun = {path.relative_to(run.path).as_posix() for path in visible(run.path)}
    begun |= {f"weights/{path.name}" for path in visible(run.weights)}
    return begun <= {"cache", "weights", f"weights/{run.prior.name}"} or is_locked_by_the_dead(run.path)


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
