"""What a comparison says beside its scores: composites, the samples' doubt, and who is positive; a row a case."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from relapet.evaluation.tables import rows_of
from relapet.evaluation.uncertainty.coverage import ALL_VOIS
from relapet.evaluation.uncertainty.samples import SAMPLES
from relapet.report.text import number, table, with_interval

_LEVELS = (0.5, 0.8, 0.9)
_SHORT = 0.05
"""Eight samples span at most 78 % of what a further one does: near enough to 80 %, not to 90."""
Row = Mapping[str, Any]
Column = tuple[str, Callable[[Row], str]]
"""Its title, and what stands in it of a row."""


def further_lines(
    further: Mapping[str, pd.DataFrame], agreement: pd.DataFrame, tracer: str, methods: Sequence[str]
) -> list[str]:
    """The sections of one tracer for a reader, its rows in the order of ``methods``; a table that nobody has is not."""
    composites = agreement[agreement["kind"] == "composite"]
    parts = (
        ("Composites over participants", composites, _COMPOSITES),
        ("Doubt of the samples over VOIs", _doubt(further), _DOUBT),
        ("Who is positive, by the map", further.get("positivity"), _POSITIVE),
        ("The stated probability of being positive", further.get("positivity_probability"), _PROBABILITY),
    )
    lines = []
    for title, found, columns in parts:
        rows = [] if found is None else rows_of(found[found["tracer"] == tracer])
        rows.sort(key=lambda row: methods.index(row["method"]))
        lines += _section(title, rows, columns)
    return lines


def _section(title: str, rows: Sequence[Row], columns: tuple[Column, ...]) -> list[str]:
    if not rows:
        return []
    several = len({row["seed"] for row in rows}) > 1
    body = [
        [row["method"], *([str(row["seed"])] if several else []), *(cell(row) for _, cell in columns)]
        for row in rows
    ]
    head = ["method", *(["seed"] if several else []), *(name for name, _ in columns)]
    return [f"{title}:", "", *table(head, body)]


def _doubt(further: Mapping[str, pd.DataFrame]) -> pd.DataFrame | None:
    """A row a case: coverage at each level that its samples can reach, mean SD and error."""
    if "uncertainty_coverage" not in further or "uncertainty_crps" not in further:
        return None
    keys = ["tracer", "method", "seed"]
    coverage, scores = further["uncertainty_coverage"], further["uncertainty_crps"]
    found = scores[scores["voi"] == ALL_VOIS].set_index(keys)
    held = coverage[(coverage["voi"] == ALL_VOIS) & (coverage["interval"] == SAMPLES)]
    for level in _LEVELS:
        rows = held[held["level"] == level].set_index(keys)
        for name in ("coverage", "ci_low", "ci_high", "attainable"):
            found[f"{name}_{level:g}"] = rows[name]
    return found.reset_index()


def _interval(estimate: str, low: str, high: str) -> Callable[[Row], str]:
    return lambda row: with_interval(float(row[estimate]), float(row[low]), float(row[high]))


def _number(name: str) -> Callable[[Row], str]:
    return lambda row: number(float(row[name]))


def _text(name: str) -> Callable[[Row], str]:
    return lambda row: str(row[name])


def _covered(level: float) -> Callable[[Row], str]:
    """Coverage, where so few samples can come near to it."""
    shown = _interval(*(f"{name}_{level:g}" for name in ("coverage", "ci_low", "ci_high")))
    return lambda row: shown(row) if row[f"attainable_{level:g}"] > level - _SHORT else "n/a"


_COMPOSITES: tuple[Column, ...] = (
    ("composite", _text("voi")),
    ("r", _interval("r", "ci_low", "ci_high")),
    ("ICC", _number("icc")),
    ("bias, SUVr", _number("bias")),
)
_DOUBT: tuple[Column, ...] = (
    ("samples", _text("n_samples")),
    *((f"coverage of {level:.0%} intervals", _covered(level)) for level in _LEVELS),
    ("SD of samples, SUVr", _number("sd")),
    ("error of their mean, SUVr", _number("mae")),
)
_POSITIVE: tuple[Column, ...] = (
    ("composite", _text("composite")),
    ("positive of n", lambda row: f"{row['n_positive']} of {row['n']}"),
    ("AUC", _interval("auc", "auc_low", "auc_high")),
    ("sensitivity", _number("sensitivity")),
    ("specificity", _number("specificity")),
)
_PROBABILITY: tuple[Column, ...] = (
    ("Brier score", _interval("brier", "brier_low", "brier_high")),
    ("minus the base rate's", _interval("to_base_rate", "to_base_rate_low", "to_base_rate_high")),
)
