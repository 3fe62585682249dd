"""Messages on a terminal: progress bars there, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from relapet.messages import Advance

_LOG_INTERVAL_SECONDS = 20.0


class Terminal:
    """Fills `relapet.messages.Messages` with rich; progress and warnings go to standard error."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.out = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self.err = Console(file=sys.stderr, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Tell one line, unless quiet."""
        if not self.quiet:
            self.out.print(text, markup=False)

    def warn(self, text: str) -> None:
        """Tell one warning, always."""
        self.err.print(f"warning: {text}", markup=False)

    @contextmanager
    def track(self, description: str, total: float) -> Iterator[Advance]:
        """Show a bar on a terminal, a line now and then in a log, nothing when quiet."""
        if self.quiet:
            yield lambda done, note: None
        elif self.err.is_terminal:
            columns = (
                TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
                TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
            )  # fmt: skip
            with Progress(*columns, console=self.err) as bar:
                task = bar.add_task(description, total=total, note="")
                yield lambda done, note: bar.update(task, completed=done, note=note)
        else:
            yield self._lines(description, total)

    def _lines(self, description: str, total: float) -> Advance:
        started = last = time.monotonic()
        first: float | None = None  # work that a resumed run had done before: it says nothing of today's pace

        def advance(done: float, note: str) -> None:
            nonlocal last, first
            now = time.monotonic()
            first = done if first is None else first
            if done >= total or now - last >= _LOG_INTERVAL_SECONDS:
                last = now
                share = f"{done / total:.0%}" if total else "100%"
                left = (total - done) * (now - started) / (done - first) if done > first else 0.0
                remaining = f", {left:.0f} s left" if left else ""
                text = f"{description} {share} after {now - started:.0f} s{remaining} {note}"
                self.err.print(text.rstrip(), markup=False)

        return advance
