"""The sections of summary.md that not every evaluation has: an analysis in its own words, or as plain tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from relapet.evaluation.analyses.downstream import DownstreamSection
from relapet.evaluation.analyses.external import ExternalSection
from relapet.evaluation.analyses.probability import ProbabilitySection
from relapet.evaluation.analyses.uncertainty import UncertaintySection
from relapet.evaluation.downstream.studies import Study
from relapet.evaluation.uncertainty.conformal import CONFORMAL
from relapet.report.text import number, p_value, table, with_interval

_SETS = {"mri": "MRI + demographics", "mri+synthetic": "+ synthetic PET", "mri+real": "+ measured PET"}
_PET = {"mri+synthetic": "Synthetic PET", "mri+real": "Measured PET"}
_SHOWN = ("psnr", "ssim", "mae", "voi_mae", "voi_r", "spectrum_distance", "gradient_ratio")
"""Metrics of the drop to another cohort; all are in external.tsv."""
_ALPHA = 0.05

Row = dict[str, Any]


def section_lines(key: str, title: str, content: Mapping[str, Any]) -> list[str]:
    """The section of an analysis under its title, in its `WORDS` or else as `plain_lines`; none without content."""
    lines = WORDS[key](content) if key in WORDS else plain_lines(content)
    return [f"## {title}", "", *lines] if lines else []


def plain_lines(content: Mapping[str, Any]) -> list[str]:
    """Every list of rows as a table with its keys as header, every other value as a line."""
    lines = []
    for name, value in content.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            rows = [[_plain_cell(cell) for cell in row.values()] for row in value]
            lines += [f"{name}:", "", *table(list(value[0]), rows)]
        elif not isinstance(value, list | dict):
            lines += [f"{name}: {_plain_cell(value)}", ""]
    return lines


def _plain_cell(value: Any) -> str:
    return number(value) if isinstance(value, float) else str(value)


def uncertainty_lines(found: UncertaintySection) -> list[str]:
    """Coverage of intervals, CRPS, and the error of the mean of n samples, over all VOIs."""
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
    return lines


def probability_lines(found: ProbabilitySection) -> list[str]:
    """Brier scores and calibration errors by method, then what was observed in each bin that has subjects."""
    lines = ["Stated probability that the composite is above the threshold. Brier score: 0 is best; differences below "
             "0 are in favour of the probability. Calibration error beside its mean, were the probabilities "
             "true.", ""]  # fmt: skip
    rows = [
        [r["tracer"], r["method"], f"{r['composite']} > {r['threshold_suvr']:g}", f"{r['n']} ({r['n_positive']})",
         with_interval(r["brier"], r["brier_low"], r["brier_high"]),
         with_interval(r["to_base_rate"], r["to_base_rate_low"], r["to_base_rate_high"], "+"),
         with_interval(r["to_threshold"], r["to_threshold_low"], r["to_threshold_high"], "+"),
         with_interval(r["ece"], r["ece_low"], r["ece_high"]), number(r["ece_calibrated"])]
        for r in found["scores"]
    ]  # fmt: skip
    header = ["tracer", "method", "positive", "n (positive)", "Brier", "to the share of positive subjects",
              "to the threshold on the mean map", "calibration error", "were it calibrated"]  # fmt: skip
    lines += table(header, rows)
    rows = [
        [r["tracer"], r["method"], f"{r['bin_low']:g} to {r['bin_high']:g}", str(r["n"]), number(r["predicted"]),
         with_interval(r["observed"], r["ci_low"], r["ci_high"])]
        for r in found["reliability"] if r["n"]
    ]  # fmt: skip
    return lines + table(["tracer", "method", "bin", "n", "stated", "observed"], rows)


def downstream_lines(content: DownstreamSection) -> list[str]:
    """What each set of features predicts, and in words whether PET adds to the MRI."""
    if not content["results"]:
        return []
    lines = ["Nested cross-validation on the same subjects; gain over MRI and "
             "demographics with its 95 % interval; p: one-sided permutation test, Holm-corrected over models "
             "and feature sets.", ""]  # fmt: skip
    for study in content["studies"]:
        lines += _study(study, content["results"])
    return lines


def _study(study: Study, results: list[Row]) -> list[str]:
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


def _subjects(study: Study) -> str:
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


def external_lines(content: ExternalSection) -> list[str]:
    """Scores on the internal and on this cohort side by side, with the difference."""
    rows = [
        [r["tracer"], r["method"], r["metric"], r["better"], f"{r['n_internal']}, {r['n_external']}",
         number(r["internal"]), number(r["external"]),
         with_interval(r["difference"], r["ci_low"], r["ci_high"], "+")]
        for r in content["results"]
        if r["metric"] in _SHOWN
    ]  # fmt: skip
    header = ["tracer", "method", "metric", "better", "n", "internal", "this cohort", "difference"]
    return [f"Internal evaluation: `{content['internal']}`.", "", *table(header, rows)]


WORDS: dict[str, Callable[[Any], list[str]]] = {
    "uncertainty": uncertainty_lines,
    "probability": probability_lines,
    "downstream": downstream_lines,
    "external": external_lines,
}
"""By the key of the analysis: its section in words of its own."""
