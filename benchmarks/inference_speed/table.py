"""The rows as a table: Markdown for reading, tab-separated for computing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from inference_speed.rows import ROWS

COLUMNS = (
    "grid", "row", "maps", "precision", "calls", "seconds_call", "calls_timed", "seconds_volume", "volumes_timed",
    "tflop_call", "share_of_matmul", "peak_gib", "release_over_this", "failed",
)  # fmt: skip
NOTES = (
    "Random weights and MRI: time does not depend on their values. Volume: from the scaled MRI in memory, the prior "
    "included, to finished maps; those in italics are calls x median call. Rate: share of the matrix product's rate in "
    "the row's precision that a call reaches. Last column: the release's seconds a volume (one tracer) over the row's."
)


def completed(results: Sequence[Mapping[str, Any]], rates: Mapping[str, float]) -> list[dict[str, Any]]:
    """Rows with what follows from others: the rate reached, and how much longer the release takes on that grid."""
    release = {r["grid"]: r.get("seconds_volume") for r in results if r["row"] == "release"}
    rows = []
    for result in results:
        row = dict(result)
        if row.get("tflop_call") and row.get("seconds_call"):
            rate = rates["float32" if row["precision"] == "float32" else "bfloat16"]
            row["share_of_matmul"] = row["tflop_call"] * 1e12 / row["seconds_call"] / rate
        if row.get("seconds_volume") and release.get(row["grid"]):
            row["release_over_this"] = release[row["grid"]] / row["seconds_volume"]
        rows.append(row)
    return rows


def tsv(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a row, ``n/a`` for what there is not."""
    cells = [["n/a" if row.get(name) is None else str(row[name]) for name in COLUMNS] for row in rows]
    return "".join("\t".join(line) + "\n" for line in [list(COLUMNS), *cells])


def markdown(rows: Sequence[Mapping[str, Any]], machine: str) -> str:
    """The machine, then one table of all grids, then what each row is."""
    heading = "| grid | row | gives | calls | s a call | s a volume | TFLOP a call | rate | peak GiB | release / this |"
    lines = [machine, "", heading, "|" + "---|" * (heading.count("|") - 1)]
    for row in rows:
        start = f"| {row['grid']} | `{row['row']}` |"
        if row.get("failed"):
            lines.append(f"{start} failed: {row['failed'].replace('|', '/')} | | | | | | | |")
            continue
        volume = _seconds(row["seconds_volume"])
        cells = [
            row["maps"],
            str(row["calls"]),
            _seconds(row["seconds_call"]) + (" (once)" if row["calls_timed"] == 1 else ""),
            volume if row["volumes_timed"] else f"*{volume}*",
            _rounded(row["tflop_call"]),
            "" if row.get("share_of_matmul") is None else f"{100 * row['share_of_matmul']:.0f} %",
            _rounded(row["peak_gib"]),
            "" if row.get("release_over_this") is None else f"{row['release_over_this']:,.3g}",
        ]
        lines.append(f"{start} {' | '.join(cells)} |")
    shown = dict.fromkeys(row["row"] for row in rows)
    return "\n".join([*lines, "", NOTES, "", *(f"- `{name}`: {ROWS[name].what}." for name in shown), ""])


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _rounded(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
