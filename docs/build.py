"""Write docs/cli.md from the commands' own help, and check every relative link and picture of the documentation."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from relapet.cli import app

ROOT = Path(__file__).resolve().parents[1]
CLI = ROOT / "docs" / "cli.md"
_HEAD = """# Command line

Written by `make docs` from the commands' own `--help`; change the text there.

Every command also takes `--quiet` (`-q`), `--debug`, `--version` and `--help` (`-h`). Option names take hyphens
or underscores. An option shown with dots takes several values, `--tracer tau pib`, or is given several times.

Threads: as many as the cores that a process may use, by its affinity, its control group's quota and
`SLURM_CPUS_PER_TASK`; `OMP_NUM_THREADS` or `--threads` sets another number. Waiting threads sleep
(`OMP_WAIT_POLICY=PASSIVE`, `KMP_BLOCKTIME=0`), so that a core that others use too costs little; set one of these
variables to have it otherwise.
"""
_EVERYWHERE = {"quiet", "debug", "version", "help"}
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|<img[^>]*\ssrc=\"([^\"]+)\"")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def render_cli() -> str:
    """The text of docs/cli.md."""
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return "\n".join([_HEAD, *(_command(name, command) for name, command in commands.items())])


def _command(name: str, command: Any) -> str:
    parameters = [p for p in command.params if p.name not in _EVERYWHERE]
    arguments = [p for p in parameters if p.param_type_name == "argument"]
    options = [p for p in parameters if p.param_type_name == "option"]
    usage = " ".join([f"relapet {name}", *map(_placeholder, arguments), "[OPTIONS]" if options else ""])
    lines = [f"## {name}", "", command.help, "", "```", usage.strip(), "```", ""]
    if parameters:
        lines += ["| argument or option | default | meaning |", "|---|---|---|"]
        lines += [_row(p) for p in parameters] + [""]
    if command.epilog:
        lines += [command.epilog, ""]
    return "\n".join(lines)


def _placeholder(argument: Any) -> str:
    shown = argument.metavar or argument.name.upper()
    return shown if argument.required else f"[{shown}]"


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        shown = _placeholder(parameter)
    else:
        value = "" if parameter.is_flag else " " + (parameter.metavar or parameter.name.rstrip("_").upper())
        shown = ", ".join(parameter.opts) + value + (" ..." if parameter.multiple else "")
    given = parameter.default is not None and parameter.default is not False
    default = "required" if parameter.required else f"`{parameter.default}`" if given else ""
    return f"| `{shown}` | {default} | {(parameter.help or '').replace('|', '/')} |"


def documents() -> list[Path]:
    """Every Markdown file that the project shows."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def broken_links() -> Iterator[str]:
    """A line for each relative link or picture whose file or heading does not exist."""
    for document in documents():
        text = _FENCE.sub("", document.read_text(encoding="utf-8"))
        for match in _LINK.finditer(text):
            target = match[1] or match[2]
            if re.match(r"[a-z]+:", target):
                continue
            path, _, heading = target.partition("#")
            goal = (document.parent / path).resolve() if path else document
            if not goal.exists():
                yield f"{document.relative_to(ROOT)}: {target} does not exist"
            elif heading and heading not in _headings(goal):
                yield f"{document.relative_to(ROOT)}: {target} has no such heading"


def _headings(document: Path) -> set[str]:
    """Anchors of a Markdown file's headings, as GitHub forms them."""
    text = _FENCE.sub("", document.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def main() -> int:
    """Write the page and check the links; 1 where any is broken."""
    CLI.write_text(render_cli(), encoding="utf-8")
    print(f"{CLI.relative_to(ROOT)} written")
    broken = list(broken_links())
    for line in broken:
        print(line, file=sys.stderr)
    if not broken:
        print(f"every relative link in {len(documents())} documents leads somewhere")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
