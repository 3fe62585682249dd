"""Sections of the summary that not every evaluation has: uncertainty, prediction of outcomes, another cohort."""

from __future__ import annotations

import math
from typing import Any

from relapet.evaluation.conformal import CONFORMAL
from relapet.evaluation.text import number, p_value, table, with_interval

_SETS = {"mri": "MRI + demographics", "mri+synthetic": "+ synthetic PET", "mri+real": "+ measured PET"}
_PET = {"mri+synthetic": "Synthetic PET", "mri+real": "Measured PET"}
_SHOWN = ("psnr", "ssim", "mae", "voi_mae", "voi_r", "spectrum_distance", "gradient_ratio")
"""Metrics of the drop to another cohort; all are in external.tsv."""
_ALPHA = 0.05

Row = dict[str, Any]


def uncertainty_section(summary: Row) -> list[str]:
    """Coverage of intervals, CRPS, and the error of the mean of n samples, over all VOIs."""
    found = summary.get("uncertainty", {})
    lines: list[str] = []
    if coverage := found.get("coverage"):
        lines += ["Coverage of regional SUVr intervals, mean over VOIs (conformal: calibrated on validation "
                  "subjects; attainable: what a perfect sampler covers with as many samples):", ""]  # fmt: skip
        rows = [
            [r["tracer"], r["method"], r["interval"], f"{r['level']:.0%}", str(r["n"]),
             with_interval(r["coverage"], r["ci_low"], r["ci_high"]), number(r["width"]),
             "" if r["interval"] == CONFORMAL else number(r["attainable"])]
            for r in coverage
        ]  # fmt: skip
        header = ["tracer", "method", "interval", "nominal", "n", "coverage", "width (SUVr)", "attainable"]
        lines += table(header, rows)
    if scores := found.get("crps"):
        lines += ["CRPS of the samples, beside the absolute error of their mean and their SD (SUVr):", ""]
        rows = [
            [r["tracer"], r["method"], str(r["n"]), str(r["n_samples"]),
             with_interval(r["crps"], r["ci_low"], r["ci_high"]), number(r["mae"]), number(r["sd"])]
            for r in scores
        ]  # fmt: skip
        header = ["tracer", "method", "n", "samples", "CRPS", "error of the mean", "SD of samples"]
        lines += table(header, rows)
    if curve := found.get("sample_mean"):
        lines += ["Mean absolute VOI error of the mean of n samples (SUVr):", ""]
        most = max(r["n_samples"] for r in curve)
        rows = [
            [
                r["tracer"],
                r["method"],
                str(r["n_samples"]),
                with_interval(r["mae"], r["ci_low"], r["ci_high"]),
            ]
            for r in curve
            if r["n_samples"] in (1, 2, most)
        ]
        lines += table(["tracer", "method", "samples", "VOI MAE"], rows)
    return ["## Uncertainty", "", *lines] if lines else []


def downstream_section(summary: Row) -> list[str]:
    """What each set of features predicts, and in words whether PET adds to the MRI."""
    content = summary.get("downstream")
    if not content or not content["results"]:
        return []
    lines = ["## Prediction of outcomes", "", "Nested cross-validation on the same subjects; gain over MRI and "
             "demographics with its 95 % interval; p: one-sided permutation test, Holm-corrected over models "
             "and feature sets.", ""]  # fmt: skip
    for study in content["studies"]:
        lines += _study(study, content["results"])
    return lines


def _study(study: Row, results: list[Row]) -> list[str]:
    chosen = [r for r in results if (r["outcome"], r["method"]) == (study["outcome"], study["method"])]
    lines = [f"### {study['outcome']}, method {study['method']}", "", _subjects(study), ""]
    rows = []
    for r in chosen:
        gain = "" if math.isnan(r.get("gain", math.nan)) else _gain(r)
        p = r.get("p_holm", math.nan)
        value = with_interval(r["value"], r["ci_low"], r["ci_high"])
        rows.append(
            [r["model"], _SETS[r["features"]], r["metric"], value, gain, "" if math.isnan(p) else p_value(p)]
        )
    lines += table(["model", "features", "metric", "value", "gain", "p"], rows)
    tested = [r for r in chosen if not math.isnan(r.get("p_holm", math.nan))]
    return [*lines, *(f"- {_verdict(r)}" for r in tested), ""]


def _gain(row: Row) -> str:
    return with_interval(row["gain"], row["gain_low"], row["gain_high"], "+")


def _subjects(study: Row) -> str:
    text = f"{study['n']} subjects ({study['source']})"
    if study["classes"]:
        text += f", {study['n_of_class_1']} {study['classes'][1]}"
    left_out = [f"{count} lack {what}" for what, count in study["excluded"].items()]
    if study["missing_demographics"]:
        left_out.append(f"participants.tsv has no {', '.join(study['missing_demographics'])}")
    return "; ".join([text, *left_out]) + "."


def _verdict(row: Row) -> str:
    """One plain sentence on what a kind of PET adds; help is an interval above 0 and a small p."""
    helps = row["gain_low"] > 0 and row["p_holm"] < _ALPHA
    said = "adds to the MRI" if helps else "does not demonstrably add to the MRI"
    metric = "R2" if row["metric"] == "r2" else row["metric"].upper()
    return (
        f"{_PET[row['features']]} {said} ({row['model']}: {metric} {_gain(row)}, {p_value(row['p_holm'])})."
    )


def external_section(summary: Row) -> list[str]:
    """Scores on the internal and on this cohort side by side, with the difference."""
    content = summary.get("external")
    if not content:
        return []
    rows = [
        [r["tracer"], r["method"], r["metric"], r["better"], f"{r['n_internal']}, {r['n_external']}",
         number(r["internal"]), number(r["external"]),
         with_interval(r["difference"], r["ci_low"], r["ci_high"], "+")]
        for r in content["results"]
        if r["metric"] in _SHOWN
    ]  # fmt: skip
    header = ["tracer", "method", "metric", "better", "n", "internal", "this cohort", "difference"]
    return [
        "## Another cohort",
        "",
        f"Internal evaluation: `{content['internal']}`.",
        "",
        *table(header, rows),
    ]
