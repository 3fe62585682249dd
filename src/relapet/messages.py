"""How long work tells where it stands: a small protocol that the commands fill with a progress bar."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Advance(Protocol):
    """Called as work goes on."""

    def __call__(self, done: float, note: str, /, seconds_left: float | None = None) -> None:
        """Tell the work done so far, of the total, with a short note.

        ``done`` is what is really done: work that a time limit ends early never reaches the total.
        ``seconds_left`` is given by work that knows it; else it is taken from the pace.
        """
        ...


class Messages(Protocol):
    """Where a stage says what it does."""

    def say(self, text: str) -> None:
        """Tell one line."""
        ...

    def warn(self, text: str) -> None:
        """Tell one line that needs attention."""
        ...

    def track(self, description: str, total: float) -> AbstractContextManager[Advance]:
        """Show progress over ``total`` units within a with-block."""
        ...


def plain_text(text: str) -> str:
    """Text that may hold words of other people's files: on one line, what would steer a terminal shown as U+FFFD."""
    return "".join(character if character.isprintable() else "\ufffd" for character in " ".join(text.split()))


class Silent:
    """Says nothing: the default of every Python call."""

    def say(self, text: str) -> None:
        """Drop the line."""

    def warn(self, text: str) -> None:
        """Drop the line."""

    @contextmanager
    def track(self, description: str, total: float) -> Iterator[Advance]:
        """Show nothing."""
        yield say_nothing


def say_nothing(done: float, note: str, /, seconds_left: float | None = None) -> None:
    """An `Advance` that shows nothing."""


def counted(number: int, thing: str) -> str:
    """A number with its noun: ``1 visit``, ``2 visits``."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
