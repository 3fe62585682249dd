"""Training curves from a run's log: losses and validation errors over steps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from relapet.evaluation.tables import as_numbers, read_table, require_columns
from relapet.report.style import DOUBLE_COLUMN_INCHES, MARKERS, PALETTE, house_style, new_figure

_VALIDATION = "mae/"
_TIMES = ("seconds", "loader_seconds")
_COLUMNS = 3
_FEW = 40


def read_log(path: Path) -> pd.DataFrame:
    """A run's log.tsv: step, name, value; raises InputError for what is none."""
    mend = "copy the run folder again"
    table = read_table(path, mend=mend)
    require_columns(path, table, ["step", "name", "value"])
    numbers = {column: as_numbers(path, table[column], mend) for column in ("step", "value")}
    return table.assign(**numbers, name=table["name"].astype(str))


def training_curves(log: pd.DataFrame) -> Iterator[Figure]:
    """The losses, a panel each, and the validation error of every tracer (SUVr), as far as they were logged."""
    names = list(dict.fromkeys(log["name"]))
    losses = [name for name in names if not name.startswith(_VALIDATION) and name not in _TIMES]
    tracers = [name for name in names if name.startswith(_VALIDATION)]
    if losses:
        yield _losses(log, losses)
    if tracers:
        yield _validation(log, tracers)


def _losses(log: pd.DataFrame, names: list[str]) -> Figure:
    rows = math.ceil(len(names) / _COLUMNS)
    columns = min(len(names), _COLUMNS)
    with house_style():
        figure = new_figure(DOUBLE_COLUMN_INCHES, 0.4 + 1.7 * rows, "Losses by step of the training")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax, name in zip(panels, names, strict=False):
            part = log[log["name"] == name]
            dots = "." if len(part) < _FEW else None  # a line of one point would not be seen
            ax.plot(part["step"], part["value"], color=PALETTE[0], linewidth=0.9, marker=dots)
            ax.set(title=name, xlabel="step")
        for ax in panels[len(names) :]:
            ax.set_axis_off()
        return figure


def _validation(log: pd.DataFrame, names: list[str]) -> Figure:
    title = "Mean absolute error of the validation participants by step, few steps a sample"
    with house_style():
        figure = new_figure(DOUBLE_COLUMN_INCHES, 2.6, title)
        ax = figure.subplots()
        for number, name in enumerate(names):
            part = log[log["name"] == name]
            colour, marker = PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)]
            label = name.removeprefix(_VALIDATION)
            ax.plot(part["step"], part["value"], color=colour, marker=marker, markersize=3, label=label)
        ax.set(xlabel="step", ylabel="Mean absolute error (SUVr)")
        ax.set_ylim(bottom=0)
        ax.legend()
        return figure
