"""From Python's words to the command line's: a message's `n_procs` is --n-procs to who typed it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

_QUOTED = re.compile(r"`([A-Za-z_][\w.]*)`")
_OTHER_NAMES = {
    "participants": "--participant-label",
    "sessions": "--session-label",
    "fwhm_mm": "--fwhm",
    "scanner_fwhm_mm": "--scanner-fwhm",
    "count": "--samples",
    "settings": "--set",
    "file": "--config",
    "tracers": "--tracer",
    "outcomes": "--outcome",
    "names": "--name",
    "output_spaces": "--output-space",
    "spaces": "--output-space",
}
"""Parameters of relapet's functions and settings whose option has another name."""


@cache
def _options() -> Mapping[str, str]:
    import typer.main

    from relapet.cli.command import app

    commands = typer.main.get_command(app).commands.values()  # type: ignore[attr-defined]
    options = (p for command in commands for p in command.params if p.param_type_name == "option")
    return {p.name.rstrip("_"): p.opts[0] for p in options} | _OTHER_NAMES


def option_words(text: str) -> str:
    """The text with each parameter in backquotes as its option; what is no option loses its backquotes."""
    return _QUOTED.sub(lambda found: _options().get(found[1], found[1]), text)
