"""The steps of one visit: told in its log as they begin, and read from there by who shows how far the work is."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from relapet.files import write_text
from relapet.messages import Advance
from relapet.preprocessing.raw import RawVisit

_STEP = re.compile(r"step (\d+) of (\d+): (.+)")
_LOOK_SECONDS = 0.5
_MRI_STEPS = 4
"""Brain, bias field, template, and writing what is model-ready."""
_LENGTHS = (10, 11, 220)
"""Seconds of the first three of these on one real T1w and one core: what a step is worth of a visit."""
_LENGTH = 25
"""Of each step after them: writing, the FLAIR's registration and a PET's."""


def count_steps(raw: RawVisit) -> int:
    """Steps that a visit takes: those of the T1w, one for the FLAIR and one for each PET."""
    return _MRI_STEPS + (raw.flair is not None) + len(raw.pet)


@dataclass
class VisitLog:
    """The log of one visit, a line each with the seconds since its start; written anew with every line."""

    path: Path
    steps: int
    """How many there will be."""
    begun: int = 0
    lines: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """Tell one line."""
        self.lines.append(f"{time.monotonic() - self.started:8.1f} s  {text}")
        write_text(self.path, "\n".join(self.lines) + "\n")

    def begin(self, step: str) -> None:
        """Tell that a step begins."""
        self.begun += 1
        self.say(f"step {self.begun} of {self.steps}: {step}")


@dataclass(frozen=True)
class Step:
    """The step that a visit is at."""

    number: int
    of: int
    text: str

    @property
    def share(self) -> float:
        """What of a visit lies before this step, by the time that steps take."""
        lengths = [*_LENGTHS, *[_LENGTH] * max(self.of - len(_LENGTHS), 0)]
        return sum(lengths[: self.number - 1]) / sum(lengths)


def current_step(log: Path, since: float) -> Step | None:
    """The last step that a log tells of; None for one that was not written since a time (seconds since 1970)."""
    try:
        if log.stat().st_mtime < since:
            return None
        found = _STEP.findall(log.read_text(encoding="utf-8", errors="replace"))
    except OSError:  # none yet, or just being replaced
        return None
    return Step(int(found[-1][0]), int(found[-1][1]), found[-1][2]) if found else None


@contextmanager
def watched(logs: Mapping[str, Path], advance: Advance) -> Iterator[Callable[[str, str], None]]:
    """Show the steps of visits under way, by their logs; gives what is to be called as a visit is done, with a note.

    ``logs``: by visit. The work itself may be in other processes, which tell of it by their logs alone.
    """
    since, done = time.time() - 1, set[str]()  # file systems keep time coarsely
    lock, stop = threading.Lock(), threading.Event()

    def under_way() -> dict[str, Step]:
        steps = {visit: current_step(log, since) for visit, log in logs.items() if visit not in done}
        return {visit: step for visit, step in steps.items() if step is not None}

    def finish(visit: str, note: str) -> None:
        with lock:
            done.add(visit)
            advance(len(done) + _share(under_way()), note)

    def look() -> None:
        shown = ""
        while not stop.wait(_LOOK_SECONDS):
            with lock:
                steps = under_way()
                note = "; ".join(
                    f"{v}: {step.text} ({step.number} of {step.of})" for v, step in steps.items()
                )
                if note and note != shown:
                    advance(len(done) + _share(steps), note)
                shown = note

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield finish
    finally:
        stop.set()
        thread.join()


def _share(steps: Mapping[str, Step]) -> float:
    """What is done of visits under way, in visits."""
    return sum(step.share for step in steps.values())
