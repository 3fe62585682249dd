"""Messages on a terminal: progress bars there, plain lines in a log."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from relapet.messages import Advance, plain_text, say_nothing

_LOG_INTERVAL_SECONDS = 20.0
_BAR_WIDTH = 16
_NARROWEST = 30
"""Characters that the last column of a table needs to be worth wrapping."""


class Terminal:
    """Fills `relapet.messages.Messages` with rich; progress and warnings go to standard error."""

    def __init__(self, quiet: bool, words: Callable[[str], str] = str) -> None:
        """``words`` turns a stage's text into the user's words."""
        self.quiet, self.words = quiet, words
        self.out = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self.err = Console(file=sys.stderr, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Tell one line, unless quiet."""
        if not self.quiet:
            self.out.print(_shown(self.words(text)), markup=False)

    def warn(self, text: str) -> None:
        """Tell one warning, always."""
        self.err.print(f"warning: {plain_text(self.words(text))}", markup=False)

    def show_table(self, rows: Sequence[Sequence[str]]) -> None:
        """Print a table, header first, unless quiet."""
        for line in table_lines(rows, self.out.width if self.out.is_terminal else None):
            self.say(line)

    def show_markdown(self, text: str) -> None:
        """Print Markdown, unless quiet: laid out on a terminal, as it is in a log."""
        if self.quiet:
            return
        if not self.out.is_terminal:
            self.out.print(text, markup=False)
            return
        from rich.markdown import Markdown  # here, because it takes a fifth of a second

        self.out.print(Markdown(text))

    @contextmanager
    def track(self, description: str, total: float) -> Iterator[Advance]:
        """Show a bar on a terminal, a line now and then in a log, nothing when quiet."""
        if self.quiet:
            yield say_nothing
        elif self.err.is_terminal:
            columns = [
                TextColumn("{task.description}", markup=False),
                BarColumn(_BAR_WIDTH),
                TextColumn("{task.percentage:>3.0f}%", markup=False),
                # Wrapped, for a column of its own kind would cut what does not fit.
                TextColumn("{task.fields[note]}", markup=False, table_column=Column(overflow="fold")),
            ]
            with Progress(*columns, console=self.err) as bar:
                task, pace = bar.add_task(description, total=total, note=""), _Pace(total)

                def move(done: float, note: str, /, seconds_left: float | None = None) -> None:
                    shown = f"{pace.left(done, seconds_left)} {note}".strip()
                    bar.update(task, completed=done, note=shown)

                yield move
        else:
            lines = _Lines(description, total, self.err)
            yield lines.advance
            lines.finish()


def _shown(text: str) -> str:
    """A line that keeps its columns, without what would steer a terminal."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


class _Pace:
    """How long work will take, by its pace so far."""

    def __init__(self, total: float) -> None:
        self.total, self.started = total, time.monotonic()
        self.first: float | None = None
        """Work that a resumed run had done before: it says nothing of today's pace."""

    def left(self, done: float, seconds_left: float | None) -> str:
        """``40 s left``, or nothing where that is not known."""
        self.first = done if self.first is None else self.first
        if seconds_left is None and done > self.first:
            seconds_left = (self.total - done) * (time.monotonic() - self.started) / (done - self.first)
        return f"{seconds_left:.0f} s left" if seconds_left and seconds_left > 0 else ""


class _Lines:
    """A plain line of progress now and then."""

    def __init__(self, description: str, total: float, console: Console) -> None:
        self.description, self.total, self.console = description, total, console
        self.pace = _Pace(total)
        self.last = self.pace.started
        self.waiting: str | None = None
        """The newest line, as long as it is not printed."""

    def advance(self, done: float, note: str, /, seconds_left: float | None = None) -> None:
        now = time.monotonic()
        left = self.pace.left(done, seconds_left)
        # Never rounded up to 100 %, which would say that all is done.
        share = 1.0 if done >= self.total else min(done / self.total, 0.994)
        parts = (f"{self.description} {share:.0%} after {now - self.pace.started:.0f} s", left)
        self.waiting = f"{', '.join(part for part in parts if part)} {note}".rstrip()
        if done >= self.total or now - self.last >= _LOG_INTERVAL_SECONDS:
            self.last = now
            self.finish()

    def finish(self) -> None:
        """Print what is not printed yet: where work that ended early stands."""
        if self.waiting is not None:
            self.console.print(self.waiting, markup=False)
            self.waiting = None


def table_lines(rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """Rows of text as aligned columns; nothing is ever cut.

    On a terminal of ``width`` characters the last column is wrapped under itself; in a log (None) it is not.
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    indent = sum(widths) + 2 * len(widths)
    room = width - indent if width is not None and width - indent >= _NARROWEST else None
    lines = []
    for row in rows:
        head = "".join(f"{cell:<{wide}}  " for cell, wide in zip(row, widths, strict=False))
        tail = textwrap.wrap(row[-1], room, break_on_hyphens=False) if room else [row[-1]]
        lines.append((head + (tail[0] if tail else "")).rstrip())
        lines += [" " * indent + part for part in tail[1:]]
    return lines
