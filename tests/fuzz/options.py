"""Damage to a command line: values of options, names, missing and extra words."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from images import pick

from relapet.cli.command import app
from relapet.cli.words import option_words  # noqa: F401  # has the commands registered
from relapet.config import RunConfig
from relapet.settings import dotted_names

WORDS = (
    *("", " ", "-1", "0", "-0", "nan", "inf", "-inf", "1e400", "x", "1.5", "0x10", "9" * 25, "none", "true"),
    *(
        "é",
        "\x1b[31m",
        "--",
        "-",
        "[",
        "{}",
        "a\nb",
        "../..",
        "/dev/null",
        "/proc/self/mem",
        "nowhere",
        "x" * 300,
    ),
    *("\u202e", "*", "~", "$HOME"),
)
"""What an option may be given; none of them is fit for any but by chance."""
VALUES = (
    *(
        "",
        "null",
        "true",
        "-1",
        "0",
        "1.5",
        ".nan",
        ".inf",
        "-.inf",
        "9" * 25,
        "9" * 5000,
        "1e308",
        "x",
        "[]",
        "{}",
    ),
    *(
        "[1, 2]",
        "[tau, tau]",
        "{a: 1}",
        "[[1]]",
        "!!python/name:os.system",
        "&a [*a]",
        "*a",
        "{",
        "[" * 3000,
        "'",
    ),
    *(
        "2001-02-30",
        "é",
        "\t",
        "0x" + "f" * 90,
        "2147483648",
        "9223372036854775808",
        "!!binary x",
        "? x",
        "- 1",
    ),
    *("a: b: c", "@x", "%x", "[x, x]", "1e-320"),
)
"""What a setting may be given."""


@cache
def _options(command: str) -> tuple[Any, ...]:
    import typer.main

    import relapet.cli  # noqa: F401

    parameters = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]
    return tuple(
        p for p in parameters if p.param_type_name == "option" and p.name not in ("help", "version", "debug")
    )


def bad_option(arguments: list[str], rng: np.random.Generator) -> list[str]:
    """The command line with a word replaced, removed or added, or an option with a word that is unfit."""
    kind = pick(rng, ("option", "option", "option", "option", "replace", "remove", "add", "unknown"))
    changed = list(arguments)
    place = int(rng.integers(1, len(changed)))
    if kind == "option":
        option = pick(rng, _options(arguments[0]))
        changed.append(str(pick(rng, option.opts)))
        if not option.is_flag:
            changed.append(str(pick(rng, WORDS)))
    elif kind == "replace":
        changed[place] = str(pick(rng, WORDS))
    elif kind == "remove":
        del changed[place]
    elif kind == "add":
        changed.insert(place, str(pick(rng, WORDS)))
    else:
        changed.insert(
            place, str(pick(rng, ("--no-such", "-z", "--sample", "--tracer=", "---", "--set=", "-q=1")))
        )
    return changed


def bad_setting(rng: np.random.Generator) -> str:
    """One setting of a run with a value that is hardly fit for it, or of a name that is none."""
    name = str(pick(rng, list(dotted_names(RunConfig))))
    if rng.random() < 0.15:
        name = str(
            pick(
                rng,
                (name + "x", name.upper(), "", ".", f".{name}", f"{name}.", name.replace(".", "..", 1), "é"),
            )
        )
    return f"{name}={pick(rng, VALUES)}"
