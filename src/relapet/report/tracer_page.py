"""The section of one tracer in summary.md: every method's scores, differences, positivity and Centiloids."""

from __future__ import annotations

import math
from typing import Any

from relapet.evaluation.results import VOI_MAE
from relapet.evaluation.scores.image_metrics import METRICS
from relapet.evaluation.statistics import MIN_SUBJECTS
from relapet.evaluation.trees import TRACER_MEAN
from relapet.report.text import cell, number, p_value, table

_MAIN = ("psnr", "ssim", "mae", VOI_MAE)
_TITLES = {name: metric.title for name, metric in METRICS.items()} | {VOI_MAE: "VOI MAE"}
_UNITS = {name: metric.unit for name, metric in METRICS.items()} | {VOI_MAE: "SUVr"}


def tracer_page(name: str, content: dict[str, Any]) -> list[str]:
    """Lines of what summary.json holds of a tracer."""
    low, high = content["suvr_window"]
    methods = content["methods"]
    lines = [f"## {name}", ""]
    lines += [f"SUVr window {low:g} to {high:g} (data range of PSNR and SSIM); {content['n']} subjects.", ""]
    if content["n"] < MIN_SUBJECTS:
        lines += [f"With fewer than {MIN_SUBJECTS} subjects there is no correlation, interval or test.", ""]
    header = ["method", "n", *(f"{_TITLES[m]} ({_UNITS[m]})" for m in _MAIN), "VOI r", "VOIs"]
    rows = []
    for method, c in methods.items():
        region = [cell(c["voi_r"]), str(c["voi_r"]["n_vois"])]
        rows.append([method, str(c["psnr"]["n"]), *(cell(c[m]) for m in _MAIN), *region])
    lines += table(header, rows)
    if "difference_to_tracer_mean" in content:
        lines += [f"Paired difference to {TRACER_MEAN} (p: Wilcoxon, Holm-corrected):", ""]
        rows = []
        for method, d in content["difference_to_tracer_mean"].items():
            cells = [f"{cell(d[m], '+')} ({p_value(d[m]['p_holm'])})" for m in _MAIN]
            rows.append([method, str(d["psnr"]["n"]), *cells])
        lines += table(["method", "n", *(_TITLES[m] for m in _MAIN)], rows)
    others = [m for m in METRICS if m not in _MAIN]
    others = [m for m in others if any(not math.isnan(c[m]["estimate"]) for c in methods.values())]
    lines += ["Further metrics (released: min-max of each volume, background included):", ""]
    rows = [[method, *(cell(c[m]) for m in others)] for method, c in methods.items()]
    lines += table(["method", *(_TITLES[m] for m in others)], rows)
    return lines + _positivity_lines(methods) + _centiloid_lines(methods)


def _positivity_lines(methods: dict[str, Any]) -> list[str]:
    chosen = {method: c["positivity"] for method, c in methods.items() if "positivity" in c}
    if not chosen:
        return []
    first = next(iter(chosen.values()))
    lines = [f"Positivity ({first['composite']} above {first['threshold_suvr']:g} SUVr):", ""]
    rows = []
    for method, p in chosen.items():
        auc = {"estimate": p["auc"], "low": p["auc_low"], "high": p["auc_high"]}
        rates = [number(p["sensitivity"]), number(p["specificity"])]
        rows.append([method, str(p["n"]), str(p["n_positive"]), cell(auc), *rates])
    return lines + table(["method", "n", "positive", "AUC", "sensitivity", "specificity"], rows)


def _centiloid_lines(methods: dict[str, Any]) -> list[str]:
    chosen = {method: c["centiloid"] for method, c in methods.items() if "centiloid" in c}
    if not chosen:
        return []
    rows = [
        [method, str(c["n"]), number(c["r"]), number(c["icc"]), number(c["bias"]),
         f"{number(c['loa_low'])} to {number(c['loa_high'])}"]
        for method, c in chosen.items()
    ]  # fmt: skip
    return ["Centiloids:", "", *table(["method", "n", "r", "ICC(2,1)", "bias", "limits of agreement"], rows)]
