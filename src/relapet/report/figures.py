"""Figures of methods beside each other and of uncertainty; each takes tables and gives a matplotlib Figure."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from relapet.evaluation.scores.image_metrics import METRICS
from relapet.evaluation.scores.spectra import MEASURED
from relapet.evaluation.uncertainty.coverage import ALL_VOIS
from relapet.report.style import (
    DOUBLE_COLUMN_INCHES,
    MARKERS,
    PALETTE,
    SINGLE_COLUMN_INCHES,
    house_style,
    method_label,
    method_looks,
    minus,
    new_figure,
)
from relapet.tracers import TracerSpec

_OUTCOME_METRICS = {"r2": "R² (out of fold)", "auc": "AUC (out of fold)"}
_BASE_RATE = {"color": "0.55", "linewidth": 0.8, "linestyle": ":", "label": "share of positive subjects"}
_FEATURE_LABELS = {
    "mri": "MRI + demographics",
    "mri+synthetic": "and synthetic PET",
    "mri+real": "and measured PET",
}


def metric_boxes(image_metrics: pd.DataFrame, metric: str, tracers: list[TracerSpec]) -> Figure:
    """Box and points (one a subject, sessions averaged) of an image metric by method; a panel a tracer.

    Box: quartiles and median; whiskers to the farthest point within 1.5 box lengths. Infinite values (an
    identical image's PSNR) have no place on the axis and are counted beside the method.
    """
    spec = METRICS[metric]
    better = {"higher": "higher is better", "lower": "lower is better", "one": "1 is best"}[spec.better]
    unit = "" if spec.unit == "1" else f" ({spec.unit})"
    looks = method_looks(list(dict.fromkeys(image_metrics["method"])))
    with house_style():
        figure = new_figure(
            DOUBLE_COLUMN_INCHES, 0.9 + 0.24 * len(looks), f"{spec.title} by method and tracer: {better}"
        )
        axes = figure.subplots(1, len(tracers), sharey=True, squeeze=False)[0]
        for ax, tracer in zip(axes, tracers, strict=True):
            rows = image_metrics[image_metrics["tracer"] == tracer.name]
            values = rows.groupby(["method", "subject"], sort=False)[metric].mean()
            if spec.better == "one":
                ax.axvline(1, color="0.75", linewidth=0.8, zorder=0)
            for number, (method, look) in enumerate(looks.items()):
                if method in values.index.get_level_values("method"):
                    _box(ax, values.loc[method].to_numpy(np.float64), number, look)
            ax.set(title=f"{tracer.name}, n = {rows['subject'].nunique()}", xlabel=f"{spec.title}{unit}")
            ax.set_yticks(range(len(looks)), [method_label(method) for method in looks])
            ax.set_ylim(len(looks) - 0.4, -0.6)
        return figure


def _box(ax: Any, values: npt.NDArray[np.float64], position: int, look: dict[str, Any]) -> None:
    finite = values[np.isfinite(values)]
    infinite = int(np.isinf(values).sum())
    if infinite:
        ax.text(
            0.99, position, f"{infinite} infinite", transform=ax.get_yaxis_transform(), ha="right", fontsize=6
        )
    if not finite.size:
        return
    line = {"color": look["color"], "linewidth": 0.9}
    ax.boxplot(
        finite,
        positions=[position],
        orientation="horizontal",
        widths=0.62,
        showfliers=False,
        boxprops=line,
        whiskerprops=line,
        capprops=line,
        medianprops={**line, "linewidth": 1.8},
    )
    # Points are spread by the golden ratio: without overlap, without a random number.
    jitter = ((np.arange(finite.size) * 0.618034) % 1 - 0.5) * 0.42
    ax.plot(finite, position + jitter, **{**look, "markersize": 2, "markeredgewidth": 0.4}, alpha=0.7)


def coverage_plot(tables: dict[str, pd.DataFrame], tracers: list[TracerSpec], method: str) -> Figure:
    """Empirical against nominal coverage of intervals, by their name; a panel a tracer.

    Tables as of `sample_coverage` or `conformal_coverage`: markers are the mean over VOIs with its 95 %
    interval, the band runs from the 10th to the 90th percentile of the VOIs, and dashes show what a perfect
    sampler would cover with as many samples (column attainable, where there is one).
    """
    with house_style():
        title = f"{method_label(method)}: coverage of VOI intervals (mean and its 95 % interval; band: 10–90 % of VOIs)"
        figure = new_figure(DOUBLE_COLUMN_INCHES, 3.0, title)
        axes = figure.subplots(1, len(tracers), sharey=True, squeeze=False)[0]
        for ax, tracer in zip(axes, tracers, strict=True):
            ax.plot([0, 1], [0, 1], color="0.55", linewidth=0.8, label="nominal")
            counts = []
            for number, (name, table) in enumerate(tables.items()):
                rows = table[table["tracer"] == tracer.name]
                counts.append(f"{name}: n = {rows['n'].max()}")
                _coverage(ax, rows, name, number)
            ax.set_title(f"{tracer.name}\n{', '.join(counts)}", fontsize=7)
            ax.set(xlabel="Nominal coverage")
            ax.set(xlim=(0.4, 1.0), ylim=(0, 1.03))
        axes[0].set_ylabel("Empirical coverage")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
        return figure


def _coverage(ax: Any, rows: pd.DataFrame, name: str, number: int) -> None:
    colour = PALETTE[number % len(PALETTE)]
    pooled = rows[rows["voi"] == ALL_VOIS].sort_values("level")
    by_level = rows[rows["voi"] != ALL_VOIS].groupby("level")["coverage"]
    low, high = by_level.quantile(0.1), by_level.quantile(0.9)
    ax.fill_between(low.index, low, high, color=colour, alpha=0.15, linewidth=0)
    error = [pooled["coverage"] - pooled["ci_low"], pooled["ci_high"] - pooled["coverage"]]
    look = {"marker": MARKERS[number % len(MARKERS)], "markersize": 3.5, "capsize": 1.5, "elinewidth": 0.8}
    ax.errorbar(pooled["level"], pooled["coverage"], yerr=error, color=colour, label=name, **look)
    if "attainable" in pooled and (pooled["attainable"] < pooled["level"]).any():
        label = f"{name}: attainable with N = {int(pooled['n_samples'].iloc[0])}"
        ax.plot(
            pooled["level"], pooled["attainable"], color=colour, linestyle="--", linewidth=0.8, label=label
        )


def reliability_plot(
    reliability: pd.DataFrame, scores: pd.DataFrame, tracers: list[TracerSpec], method: str
) -> Figure:
    """Observed share of positive subjects against the stated probability, by bin; a panel a tracer.

    Tables as of `relapet.evaluation.analyses.probability`, of one method: a marker a bin with its 95 % interval and the
    number of subjects, and dots for the share of positive subjects, which is what a useless forecast tells everyone.
    """
    with house_style():
        title = (
            f"{method_label(method)}: stated probability of positivity and what was observed (95 % intervals)"
        )
        figure = new_figure(DOUBLE_COLUMN_INCHES, 3.1, title)
        axes = figure.subplots(1, len(tracers), sharey=True, squeeze=False)[0]
        for ax, tracer in zip(axes, tracers, strict=True):
            score = scores[scores["tracer"] == tracer.name].iloc[0]
            bins = reliability[(reliability["tracer"] == tracer.name) & (reliability["n"] > 0)]
            ax.plot([0, 1], [0, 1], color="0.55", linewidth=0.8, label="calibrated")
            ax.axhline(score["n_positive"] / score["n"], **_BASE_RATE)
            # Wilson's interval may end at the share itself, a rounding error beyond it.
            error = [bins["observed"] - bins["ci_low"], bins["ci_high"] - bins["observed"]]
            look = {"marker": "o", "markersize": 3.5, "capsize": 1.5, "elinewidth": 0.8, "color": PALETTE[0]}
            ax.errorbar(bins["predicted"], bins["observed"], yerr=np.maximum(error, 0), label="bin", **look)
            for n, x, y in bins[["n", "predicted", "observed"]].to_numpy(np.float64):
                beside = (4, 3 if y < 0.5 else -8)  # within the axes
                ax.annotate(f"{n:.0f}", (x, y), beside, textcoords="offset points", fontsize=6)
            brier = f"Brier {score['brier']:.3f}, of the share {score['brier_base_rate']:.3f}"
            ax.set_title(f"{tracer.name}, n = {score['n']}\n{brier}", fontsize=7)
            ax.set(xlabel="Stated probability", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        axes[0].set_ylabel("Observed share")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        return figure


def sample_mean_plot(curve: pd.DataFrame, tracers: list[TracerSpec], method: str) -> Figure:
    """Mean absolute VOI error of the mean of the first n samples, with its 95 % interval, by tracer."""
    with house_style():
        figure = new_figure(
            SINGLE_COLUMN_INCHES, 2.6, f"{method_label(method)}: error of the mean of n samples"
        )
        ax = figure.subplots()
        for number, tracer in enumerate(tracers):
            rows = curve[curve["tracer"] == tracer.name].sort_values("n_samples")
            if rows.empty:
                continue
            colour = PALETTE[number % len(PALETTE)]
            label = f"{tracer.name} (n = {rows['n'].iloc[0]} subjects)"
            ax.plot(
                rows["n_samples"],
                rows["mae"],
                color=colour,
                marker=MARKERS[number],
                markersize=3,
                label=label,
            )
            ax.fill_between(
                rows["n_samples"], rows["ci_low"], rows["ci_high"], color=colour, alpha=0.15, linewidth=0
            )
        ax.set(xlabel="Samples averaged", ylabel="Mean absolute VOI error (SUVr)")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_ylim(bottom=0)
        ax.legend()
        return figure


def spectrum_plot(spectra: pd.DataFrame, tracers: list[TracerSpec]) -> Figure:
    """Radial power spectra of measured and synthetic PET, mean over subjects, and below the difference.

    ``spectra`` as of `SpectrumRows.table` in `relapet.evaluation.scores.spectra`; one column of panels a tracer.
    """
    methods = [method for method in dict.fromkeys(spectra["method"]) if method != MEASURED]
    looks: dict[str, dict[str, Any]] = {MEASURED: {"color": "black"}, **method_looks(methods)}
    with house_style():
        height = 3.9 + 0.14 * (len(methods) // 5)
        figure = new_figure(
            DOUBLE_COLUMN_INCHES, height, "Radial power spectra in the brain, mean over subjects"
        )
        axes = figure.subplots(2, len(tracers), sharex=True, sharey="row", squeeze=False)
        for column, tracer in enumerate(tracers):
            rows = spectra[spectra["tracer"] == tracer.name]
            powers = rows.pivot(index="frequency_per_mm", columns="method", values="power_db")
            for method, look in looks.items():
                if method in powers:
                    line = {**look, "linestyle": "-", "linewidth": 1.8 if method == MEASURED else 1.0}
                    line |= {"markersize": 2.8, "markevery": 3, "label": method_label(method)}
                    axes[0, column].plot(powers.index, powers[method], **line)
                    axes[1, column].plot(powers.index, powers[method] - powers[MEASURED], **line)
            axes[0, column].set_title(f"{tracer.name}, n = {rows['n'].max()}")
            axes[1, column].set_xlabel("Spatial frequency (cycles/mm)")
        axes[0, 0].set_ylabel("Power (dB)")
        axes[1, 0].set_ylabel("Minus measured (dB)")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
        return figure


def downstream_plot(table: pd.DataFrame) -> Figure:
    """R2 or AUC of an outcome from MRI, with synthetic, with measured PET: 95 % intervals, tested gains."""
    metric = next(name for name in _OUTCOME_METRICS if name in set(table["metric"]))
    rows = table[table["metric"] == metric]
    models = list(dict.fromkeys(rows["model"]))
    outcome, method, n = (rows[key].iloc[0] for key in ("outcome", "method", "n"))
    with house_style():
        figure = new_figure(
            DOUBLE_COLUMN_INCHES,
            1.9,
            f"Prediction of {method_label(outcome)}, {method_label(method)} (n = {n})",
        )
        axes = figure.subplots(1, len(models), sharex=True, sharey=True, squeeze=False)[0]
        for ax, model in zip(axes, models, strict=True):
            part = rows[rows["model"] == model].set_index("features").loc[list(_FEATURE_LABELS)]
            y = np.arange(len(part))
            error = [part["value"] - part["ci_low"], part["ci_high"] - part["value"]]
            ax.errorbar(part["value"], y, xerr=error, fmt="none", ecolor="0.4", capsize=2, elinewidth=1)
            ax.scatter(part["value"], y, color=PALETTE[: len(part)], s=22, zorder=3)
            ax.axvline(part.loc["mri", "value"], color="0.7", linewidth=0.7, linestyle=":")
            for position, (gain, p) in enumerate(zip(part["gain"], part["p_holm"], strict=True)):
                if np.isfinite(gain):
                    known = "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
                    text = minus(f"gain {gain:+.2f}, Holm {known}")
                    ax.text(
                        0.99, position - 0.3, text, transform=ax.get_yaxis_transform(), ha="right", fontsize=6
                    )
            ax.set(title=method_label(model), xlabel=_OUTCOME_METRICS[metric])
            ax.set_yticks(y, list(_FEATURE_LABELS.values()))
            ax.set_ylim(len(part) - 0.5, -0.6)
        return figure
