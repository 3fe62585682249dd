"""How long work tells where it stands: a small protocol that the commands fill with a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[float, str], None]
"""Called with the work done so far (of the total) and a short note."""


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


class Silent:
    """Says nothing: the default of every Python call."""

    def say(self, text: str) -> None:
        """Drop the line."""

    def warn(self, text: str) -> None:
        """Drop the line."""

    @contextmanager
    def track(self, description: str, total: float) -> Iterator[Advance]:
        """Show nothing."""
        yield lambda done, note: None
