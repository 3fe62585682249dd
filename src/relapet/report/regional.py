"""Figures of regional agreement: each VOI over subjects, from voi.tsv and agreement.tsv."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from relapet.report.style import (
    DOUBLE_COLUMN_INCHES,
    PALETTE,
    house_style,
    method_label,
    method_legend,
    method_looks,
    minus,
    new_figure,
    voi_label,
)
from relapet.tracers import TracerSpec

_COLUMNS = 3
_POINT: dict[str, Any] = {"s": 12, "alpha": 0.75, "linewidths": 0, "color": PALETTE[0], "zorder": 2}


def voi_scatter(
    voi: pd.DataFrame, agreement: pd.DataFrame, tracer: TracerSpec, method: str, names: tuple[str, ...] = ()
) -> Figure:
    """Measured against synthetic SUVr of some VOIs, one point a subject, with identity line, r and n.

    ``names`` are VOIs or composites, by default the tracer's composites. Raises ValueError where the tables
    have none of them.
    """
    agreed = _agreement(agreement, tracer, method, names)
    with house_style():
        title = f"Regional {tracer.name} SUVr: {method_label(method)} against measured"
        figure, axes = _grid(len(agreed), title, 2.6)
        for ax, row in zip(axes, agreed.to_dict("records"), strict=False):
            real, synthetic = _points(voi, tracer, method, row["voi"])
            ends = _limits(np.concatenate([real, synthetic]))
            ax.plot(ends, ends, color="0.55", linewidth=0.8, zorder=1)
            ax.scatter(real, synthetic, **_POINT)
            ax.set(xlim=ends, ylim=ends, aspect="equal", xlabel="Measured SUVr", ylabel="Synthetic SUVr")
            ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
            ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
            interval = f"r = {row['r']:.2f} [{row['ci_low']:.2f}, {row['ci_high']:.2f}]"
            text = minus(interval) if math.isfinite(row["r"]) else f"no r: {row['reason']}"
            ax.set_title(f"{voi_label(row['voi'])}\n{text}, n = {row['n']}", fontsize=7)
        return figure


def bland_altman(
    voi: pd.DataFrame, agreement: pd.DataFrame, tracer: TracerSpec, method: str, names: tuple[str, ...] = ()
) -> Figure:
    """Synthetic minus measured SUVr against their mean, with bias and 95 % limits of agreement.

    ``names`` and errors as in `voi_scatter`; the lines are those of agreement.tsv.
    """
    agreed = _agreement(agreement, tracer, method, names)
    with house_style():
        title = f"Bland-Altman: regional {tracer.name} SUVr, {method_label(method)} minus measured"
        figure, axes = _grid(len(agreed), title, 2.1)
        for ax, row in zip(axes, agreed.to_dict("records"), strict=False):
            real, synthetic = _points(voi, tracer, method, row["voi"])
            ax.axhline(0, color="0.75", linewidth=0.6, zorder=0)
            ax.scatter((real + synthetic) / 2, synthetic - real, **_POINT)
            for key, style in (("loa_high", ":"), ("bias", "-"), ("loa_low", ":")):
                if math.isfinite(row[key]):
                    ax.axhline(row[key], color=PALETTE[1], linestyle=style, linewidth=1, zorder=1)
            ax.set(xlabel="Mean of both (SUVr)", ylabel="Difference (SUVr)")
            ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
            limits = f"bias {row['bias']:+.2f}, limits {row['loa_low']:+.2f} to {row['loa_high']:+.2f}"
            if not math.isfinite(row["loa_low"]):
                limits = f"bias {row['bias']:+.2f}, no limits: {row['reason']}"
            ax.set_title(f"{voi_label(row['voi'])}, n = {row['n']}\n{minus(limits)}", fontsize=7)
        return figure


def composite_correlations(agreement: pd.DataFrame, tracers: list[TracerSpec]) -> Figure:
    """Cross-subject Pearson r of every composite with its 95 % interval, by method; one panel a tracer."""
    # Without variation over subjects (tracer_mean) there is no r, and nothing to draw.
    rows = agreement[agreement["kind"] == "composite"].dropna(subset=["r"])
    looks = method_looks(list(dict.fromkeys(rows["method"])))
    counts = [rows[rows["tracer"] == tracer.name]["voi"].nunique() for tracer in tracers]
    height = 1.0 + (0.1 * len(looks) + 0.1) * max(counts) + 0.14 * math.ceil(len(looks) / 4)
    with house_style():
        title = "Correlation over subjects of synthetic with measured regional SUVr (95 % interval)"
        figure = new_figure(DOUBLE_COLUMN_INCHES, height, title)
        axes = figure.subplots(1, len(tracers), squeeze=False)[0]
        for ax, tracer in zip(axes, tracers, strict=True):
            part = rows[rows["tracer"] == tracer.name]
            names = [name for name in tracer.composites if name in set(part["voi"])]
            _correlations(ax, part, names, looks)
            low = float(np.nanmin([*part["ci_low"], 0.0]))
            ax.set(
                title=f"{tracer.name}, {_count_text(part['n'])}", xlabel="Pearson r", xlim=(low - 0.03, 1.03)
            )
        method_legend(figure, looks)
        return figure


def _correlations(ax: Any, rows: pd.DataFrame, names: list[str], looks: dict[str, dict[str, Any]]) -> None:
    ax.axvline(0, color="0.75", linewidth=0.6, zorder=0)
    for number, (method, look) in enumerate(looks.items()):
        part = rows[rows["method"] == method].set_index("voi").reindex(names)
        y = np.arange(len(names)) + ((number + 0.5) / len(looks) - 0.5) * 0.75
        ax.hlines(y, part["ci_low"], part["ci_high"], color=look["color"], linewidth=0.8)
        ax.plot(part["r"], y, **look)
    for edge in np.arange(len(names) - 1) + 0.5:
        ax.axhline(edge, color="0.9", linewidth=0.5, zorder=0)
    ax.set_yticks(range(len(names)), [voi_label(name) for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)


def _count_text(counts: pd.Series) -> str:
    low, high = int(counts.min()), int(counts.max())
    return f"n = {low}" if low == high else f"n = {low} to {high}"


def _agreement(
    agreement: pd.DataFrame, tracer: TracerSpec, method: str, names: tuple[str, ...]
) -> pd.DataFrame:
    """The rows of some VOIs, in the order asked for."""
    wanted = names or tuple(tracer.composites)
    rows = agreement[(agreement["tracer"] == tracer.name) & (agreement["method"] == method)]
    rows = rows.set_index("voi", drop=False)
    chosen = [name for name in wanted if name in rows.index]
    if not chosen:
        raise ValueError(f"agreement.tsv has no {' or '.join(wanted)} of {tracer.name} by {method}.")
    return rows.loc[chosen]


def _points(voi: pd.DataFrame, tracer: TracerSpec, method: str, name: str) -> tuple[Any, Any]:
    rows = voi[(voi["tracer"] == tracer.name) & (voi["method"] == method) & (voi["voi"] == name)]
    return rows["real_suvr"].to_numpy(), rows["synth_suvr"].to_numpy()


def _grid(count: int, title: str, panel_height: float) -> tuple[Figure, list[Any]]:
    columns = min(count, _COLUMNS)
    rows = math.ceil(count / columns)
    # The title needs two panels' width to fit.
    width = DOUBLE_COLUMN_INCHES * max(columns, 2) / _COLUMNS
    figure = new_figure(width, panel_height * rows + 0.3, title)
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for ax in axes[count:]:
        ax.set_axis_off()
    return figure, axes


def _limits(values: Any) -> tuple[float, float]:
    low, high = float(np.min(values)), float(np.max(values))
    margin = 0.06 * (high - low) or 0.1
    return low - margin, high + margin
