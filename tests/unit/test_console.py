"""What the terminal shows: nothing cut, nothing eaten, and no 100 % before all is done."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from relapet import console
from relapet.console import Terminal, table_lines
from relapet.messages import counted

ROWS = [
    ("setting", "value", "meaning"),
    ("method.generator.condition_channels", "('a', 'b')", "a meaning of many words " * 6),
    ("train.seconds", "None", "[bold] is no markup, [T1w] neither"),
]


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    terminal = Terminal(quiet=False)
    for name in ("out", "err"):
        setattr(
            terminal,
            name,
            Console(file=io.StringIO(), force_terminal=True, width=80, highlight=False, soft_wrap=True),
        )
    return terminal


def test_a_table_in_a_log_has_one_line_a_row() -> None:
    lines = table_lines(ROWS)
    assert len(lines) == 3
    for line, row in zip(lines, ROWS, strict=True):
        assert all(cell.strip() in line for cell in row)
    assert len({line.index(cell) for line, cell in zip(lines, ("val", "('a", "None"), strict=True)}) == 1


def test_a_table_on_a_terminal_wraps_its_last_column_only(on_terminal: Terminal) -> None:
    on_terminal.show_table(ROWS)
    said = on_terminal.out.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in said
    assert "method.generator.condition_channels" in said
    assert "[bold] is no markup," in said
    assert all(len(line) <= 80 for line in said.splitlines())
    assert said.split().count("words") == 6


def test_columns_wider_than_the_terminal_are_whole() -> None:
    (_, line) = table_lines([("a", "b"), ("x" * 100, "y" * 50)], width=80)
    assert line == f"{'x' * 100}  {'y' * 50}"


def test_brackets_in_a_bar_are_no_markup(on_terminal: Terminal) -> None:
    with on_terminal.track("read [red] volumes", 2) as advance:
        advance(2, "sub-01 [pib]")
    said = on_terminal.err.file.getvalue()  # type: ignore[attr-defined]
    assert "read [red] volumes" in said
    assert "sub-01 [pib]" in said


def test_a_long_note_beside_a_bar_is_wrapped_and_never_cut(on_terminal: Terminal) -> None:
    visit = "sub-averylongparticipantlabel0001_ses-followupafterfortyeightmonths"
    with on_terminal.track("preprocess", 2) as advance:
        advance(0.5, f"{visit}: registering the T1w to the template (3 of 6)")
    said = on_terminal.err.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in said
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said).replace("\r", "\n").splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert visit in "".join(line[31:].strip() for line in lines)


def test_work_that_ends_early_never_shows_100_percent(capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal(quiet=False).track("train", 1.0) as advance:
        advance(0.2, "step 20", seconds_left=7.0)
        advance(0.4, "step 40", seconds_left=0.0)
    said = capsys.readouterr().err
    assert said.splitlines() == ["train 40% after 0 s step 40"]
    with Terminal(quiet=False).track("train", 1.0) as advance:
        advance(0.9999, "step 9999")
    assert "train 99% after" in capsys.readouterr().err


def test_the_time_left_is_the_work_s_own_where_it_knows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_LOG_INTERVAL_SECONDS", 0.0)
    with Terminal(quiet=False).track("train", 1.0) as advance:
        advance(0.1, "a", seconds_left=12.0)
        advance(1.0, "b")
    assert [line.split(" after ")[0] for line in capsys.readouterr().err.splitlines()] == [
        "train 10%",
        "train 100%",
    ]


def test_quiet_says_warnings_only(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(quiet=True, words=str.upper)
    terminal.say("said")
    terminal.show_table(ROWS)
    terminal.show_markdown("# said")
    with terminal.track("work", 1) as advance:
        advance(1, "")
    terminal.warn("mind [this]")
    assert capsys.readouterr() == ("", "warning: MIND [THIS]\n")


def test_one_thing_and_two_things() -> None:
    assert [counted(n, "visit") for n in (0, 1, 2)] == ["0 visits", "1 visit", "2 visits"]
