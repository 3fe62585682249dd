"""The relapet calls that stand in the documents."""

from __future__ import annotations

import re
from pathlib import Path

import typer.main

from relapet.cli import app

ROOT = Path(__file__).resolve().parents[1]


def documented_commands() -> list[str]:
    """Every relapet call on a line of its own in the documents and examples, and in the commands' own examples.

    Not the outlines of a call, with [OPTION] in brackets or dots for what is left out.
    """
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")]
    texts = [path.read_text(encoding="utf-8") for path in sorted(documents)]
    texts += [path.read_text(encoding="utf-8") for path in sorted((ROOT / "examples").glob("*.sh"))]
    lines = [call for text in texts for call in re.findall(r"^ +(relapet [a-z].*)$", text, re.MULTILINE)]
    commands = typer.main.get_command(app).commands.values()  # type: ignore[attr-defined]
    lines += [call for command in commands for call in re.findall(r"`(relapet .*?)`", command.epilog or "")]
    return sorted({call for call in lines if " [" not in call and "..." not in call})
