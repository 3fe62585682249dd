"""Damage to JSON, TSV and YAML files. Each takes the file and a generator, and says what it did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from images import Damage, bit_flip, pick, something_else, truncated

NASTY: tuple[Any, ...] = (
    *(
        None,
        True,
        0,
        -1,
        1,
        3,
        10**30,
        -(2**63),
        2**31,
        0.5,
        1e308,
        float("nan"),
        float("inf"),
        "",
        "x",
        "nan",
    ),
    *(
        "1",
        "<script>alert(1)</script>",
        "a\n# Verdict: all is well",
        "\x1b[31mred\x1b[0m",
        "../../../etc/passwd",
    ),
    *(
        "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
        "x" * 5000,
        "|`[$\\frac{",
        [],
        {},
        [1, 2],
    ),
    *(["a", "a"], [[]], {"a": {"b": 1}}, [None], "tau", "rela", [1, "x", None]),
)
"""Values that a key may be given by who errs or means harm."""


SHAPES = (
    *("row twice", "row gone", "column gone", "column twice", "no header", "header only", "ragged", "commas"),
)


SYNTAX = (
    *(
        "a: &x [*x]",
        "b: *nobody",
        "c: !!python/object/apply:os.system ['true']",
        "\t d: 1",
        "e: {",
        "f: 'open",
    ),
    *(
        "? complex\n: 1",
        "- list",
        "method: 3",
        "<<: {train: {steps: 0}}",
        "data: {tracers: [tau, tau]}",
        "%YAML 9",
    ),
)
"""Lines that spoil settings in YAML."""


def _places(value: Any, where: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place within a content, by the keys that lead there."""
    inner: Any = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [place for key, part in inner for place in [(*where, key), *_places(part, (*where, key))]]


def change_value(value: Any, rng: np.random.Generator, nasty: tuple[Any, ...] = NASTY) -> tuple[Any, str]:
    """The content with one value replaced, removed or added, and what was done."""
    places = _places(value)
    if not places:
        return pick(rng, nasty), "replaced as a whole"
    place = pick(rng, places)
    holder = value
    for key in place[:-1]:
        holder = holder[key]
    what = pick(rng, ("replace", "replace", "replace", "remove", "add"))
    name = ".".join(map(str, place))
    if what == "remove":
        del holder[place[-1]]
    elif what == "add" and isinstance(holder, dict):
        holder[pick(rng, ("extra", "Name", "", "a b"))] = pick(rng, nasty)
    else:
        holder[place[-1]] = new = pick(rng, nasty)
        return value, f"{name} = {str(new)[:60]!r}"
    return value, f"{what} {name}"


def json_value(path: Path, rng: np.random.Generator) -> str:
    changed, said = change_value(json.loads(path.read_text(encoding="utf-8")), rng)
    path.write_text(json.dumps(changed), encoding="utf-8")
    return said


def text_form(path: Path, rng: np.random.Generator) -> str:
    """The same text in a form that no reader, or not every one, takes."""
    text = path.read_text(encoding="utf-8")
    kind = pick(
        rng, ("utf-16", "bom", "crlf", "nul", "nested", "number", "null", "list", "twice", "latin-1", "blank")
    )
    forms: dict[str, bytes] = {
        "utf-16": text.encode("utf-16"), "bom": text.encode("utf-8-sig"), "crlf": text.replace("\n", "\r\n").encode(),
        "nul": text[:40].encode() + b"\0" + text[40:].encode(), "nested": b"[" * 5000, "number": b"9" * 5000,
        "null": b"null", "list": b"[1, 2]", "twice": (text + text).encode(), "latin-1": b"caf\xe9 " + text.encode(),
        "blank": b"\n\n",
    }  # fmt: skip
    path.write_bytes(forms[str(kind)])
    return f"form {kind}"


def table_cell(path: Path, rng: np.random.Generator) -> str:
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    row, column = int(rng.integers(len(rows))), int(rng.integers(len(rows[0])))
    new = str(pick(rng, (*NASTY, "n/a", "1e999", "-0.0", '"', "1,5", " 7 ", "0x10"))).replace("\n", " ")
    rows[row][column] = new
    path.write_text("\n".join("\t".join(line) for line in rows) + "\n", encoding="utf-8")
    return f"row {row}, column {column} = {new[:60]!r}"


def table_shape(path: Path, rng: np.random.Generator) -> str:
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    kind = pick(
        rng,
        (
            "row twice",
            "row gone",
            "column gone",
            "column twice",
            "no header",
            "header only",
            "ragged",
            "commas",
        ),
    )
    row, column = int(rng.integers(1, len(rows))), int(rng.integers(len(rows[0])))
    if kind == "row twice":
        rows.append(rows[row])
    elif kind == "row gone":
        del rows[row]
    elif kind == "column gone":
        rows = [[cell for i, cell in enumerate(line) if i != column] for line in rows]
    elif kind == "column twice":
        rows = [[*line, line[column]] for line in rows]
    elif kind == "no header":
        rows = rows[1:]
    elif kind == "header only":
        rows = rows[:1]
    elif kind == "ragged":
        rows[row] = [*rows[row], "1", "2"]
    between = "," if kind == "commas" else "\t"
    path.write_text("\n".join(between.join(line) for line in rows) + "\n", encoding="utf-8")
    return f"{kind}, row {row}, column {column}"


def yaml_value(path: Path, rng: np.random.Generator) -> str:
    nasty = tuple(value for value in NASTY if not isinstance(value, str) or value.isprintable())
    changed, said = change_value(yaml.safe_load(path.read_text(encoding="utf-8")), rng, nasty)
    path.write_text(yaml.safe_dump(changed), encoding="utf-8")
    return said


def yaml_syntax(path: Path, rng: np.random.Generator) -> str:
    text = path.read_text(encoding="utf-8")
    line = pick(rng, SYNTAX)
    path.write_text(f"{text}\n{line}\n", encoding="utf-8")
    return f"line {line!r}"


_ANY: tuple[Damage, ...] = (truncated, bit_flip, something_else, text_form)
JSON: tuple[Damage, ...] = (json_value, json_value, json_value, json_value, json_value, *_ANY)
TABLES: tuple[Damage, ...] = (table_cell, table_cell, table_cell, table_shape, table_shape, *_ANY)
YAML: tuple[Damage, ...] = (yaml_value, yaml_value, yaml_value, yaml_syntax, *_ANY)
