"""What the cases score, as figures: validation error in training, and differences from the reference."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from equal_seconds.loop import read_cost
from equal_seconds.tables import DIFFERENCE, MEAN
from relapet.report.style import MARKERS, PALETTE, house_style, new_figure, save_figure
from relapet.runs import RunFolder


def draw_curves(names: list[str], out: Path) -> None:
    """Validation error of each case that was trained against its share of the seconds."""
    with house_style():
        figure = new_figure(7.2, 2.8, "Validation error in training, mean over tracers")
        axes = figure.add_subplot()
        for number, name in enumerate(name for name in names if read_cost(name, out)["steps"]):
            log = pd.read_csv(RunFolder(out / name / "run").log, sep="\t")
            curve = log[log["name"].str.startswith("mae/")].groupby("step")["value"].mean()
            axes.plot(
                curve.index / read_cost(name, out)["steps"],
                curve,
                color=PALETTE[number % len(PALETTE)],
                marker=MARKERS[number // len(PALETTE) % len(MARKERS)],
                markersize=3,
                label=name,
            )
        axes.set(xlabel="share of the seconds", ylabel="MAE of few-step samples, SUVr", yscale="log")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), ncols=1 + len(names) // 16)
        save_figure(figure, out / "learning.png")


def draw_differences(table: pd.DataFrame, names: list[str], options: argparse.Namespace) -> None:
    """Each case's difference from the reference, over the range that other starts of the reference span."""
    reference = options.reference
    seeds = [name for name in names if name == reference or name.startswith(f"{reference}_seed")]
    others = list(dict.fromkeys([*(name for name in names if name not in seeds), "tracer_mean"]))[::-1]
    shown = {
        "psnr": "PSNR, dB",
        "voi_error": "error of VOIs, SUVr",
        "spectrum_distance": "spectrum distance, dB",
    }
    with house_style():
        figure = new_figure(7.2, 1.2 + 0.16 * len(others), f"Difference from {reference}, mean over tracers")
        panels = figure.subplots(1, len(shown), sharey=True)
        for axes, (metric, label) in zip(panels, shown.items(), strict=True):
            part = table[(table["tracer"] == MEAN) & (table["metric"] == metric)].set_index("case")
            starts = part.loc[seeds, "minus_reference"]
            axes.axvspan(starts.min(), starts.max(), color="0.85", linewidth=0)
            axes.axvline(0, color="0.5", linewidth=0.6)
            edge = 1.5 * max(abs(part.loc["tracer_mean", "minus_reference"]), 0.02)
            for row, name in enumerate(others):
                _draw_gap(axes, row, part.loc[name, DIFFERENCE].to_numpy(float), edge)
            axes.set(xlabel=label, xlim=(-1.1 * edge, 1.1 * edge))
            axes.set_yticks(range(len(others)), labels=others)
        save_figure(figure, options.out / "differences.png")


def _draw_gap(axes: Axes, row: int, difference: np.ndarray, edge: float) -> None:
    """A point with its interval; beyond ``edge`` an arrow and the number, so that the others stay legible."""
    gap, low, high = difference
    if abs(gap) <= edge:
        axes.errorbar(gap, row, xerr=[[gap - low], [high - gap]], fmt="o", markersize=3, color=PALETTE[0])
        return
    side, (marker, align) = np.sign(gap), ("<", "left") if gap < 0 else (">", "right")
    axes.plot(side * edge, row, marker=marker, markersize=4, color=PALETTE[1])
    axes.text(side * edge * 0.92, row, f"{gap:+.2g}", ha=align, va="center")
