"""What a reader looks at first: summary.json and summary.md, with intervals, n, windows and leaks."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pandas as pd

import relapet
from relapet.evaluation.agreement import agreement, median_r, median_r_difference
from relapet.evaluation.image_metrics import METRICS
from relapet.evaluation.matching import CEILINGS, TRACER_MEAN
from relapet.evaluation.statistics import Interval, bootstrap_difference, bootstrap_mean
from relapet.evaluation.tables import SUBJECT_METRICS, VOI_MAE, Results, goodness
from relapet.tracers import TracerSpec

LEAK_METRICS = ("psnr", "ssim", "mae")
LEAK_CEILING = "visible_ceiling"
LEAK_MIN_SUBJECTS_R = 10
"""Below this a correlation varies too much from sample to sample to accuse anyone of a leak."""


def build_summary(results: Results, tests: pd.DataFrame, positivity: pd.DataFrame) -> dict[str, Any]:
    """Everything that summary.json holds of the results; NaN where undefined."""
    return {
        "relapet_version": relapet.__version__,
        "unit_of_analysis": "subject (sessions averaged); 95 % percentile bootstrap intervals over subjects",
        "metrics": {
            name: {"title": m.title, "unit": m.unit, "better": m.better, "group": m.group, "source": m.source}
            for name, m in METRICS.items()
        }
        | {VOI_MAE: {"title": "VOI MAE", "unit": "SUVr", "better": "lower", "group": "region",
                     "source": "mean absolute error over the grey-matter VOIs"}},
        "tracers": {t.name: _summarise_tracer(results, t, tests, positivity) for t in results.tracers()},
    }  # fmt: skip


def _summarise_tracer(
    results: Results, tracer: TracerSpec, tests: pd.DataFrame, positivity: pd.DataFrame
) -> dict[str, Any]:
    methods = results.methods_of(tracer)
    tests = tests[tests["tracer"] == tracer.name]
    summary: dict[str, Any] = {
        "label": tracer.label,
        "suvr_window": list(tracer.suvr_window),
        "n": int(results.metrics.loc[tracer.name].index.get_level_values("subject").nunique()),
        "methods": {method: _summarise_method(results, tracer, method) for method in methods},
    }
    for row in positivity[positivity["tracer"] == tracer.name].to_dict("records"):
        summary["methods"][row["method"]]["positivity"] = {
            key: row[key] for key in row if key not in ("tracer", "method")
        }
    if TRACER_MEAN in methods:
        summary["difference_to_tracer_mean"] = {
            method: _differences(tests, method) for method in methods if method != TRACER_MEAN
        }
    if LEAK_CEILING in methods:
        tested = [method for method in methods if method not in CEILINGS]
        summary["leak_checks"] = [
            check for method in tested for check in _check_ceiling(results, tracer, method)
        ]
    return summary


def _summarise_method(results: Results, tracer: TracerSpec, method: str) -> dict[str, Any]:
    count, seed = results.sampling.count, results.sampling.seed
    content: dict[str, Any] = {
        metric: asdict(
            bootstrap_mean(results.by_subject(tracer.name, metric)[method].to_numpy(), count, seed)
        )
        for metric in SUBJECT_METRICS
    }
    real, synthetic = results.regional(tracer.name, method, "target")
    content["voi_r"] = asdict(median_r(real.to_numpy(), synthetic.to_numpy(), count, seed)) | {
        "n_vois": real.shape[1]
    }
    table = results.centiloid
    rows = table[(table["tracer"] == tracer.name) & (table["method"] == method)]
    if len(rows):
        values = [rows[[column]].to_numpy() for column in ("real_centiloid", "synth_centiloid")]
        content["centiloid"] = agreement(*values).iloc[0].to_dict()
    return content


def _differences(tests: pd.DataFrame, method: str) -> dict[str, Any]:
    """Method minus tracer_mean on each metric, with its interval and the Holm-adjusted p of the pair."""
    pairs = tests[tests[["method_a", "method_b"]].isin([method, TRACER_MEAN]).all(axis=1)]
    content = {}
    for row in pairs.to_dict("records"):
        ends = [row["ci_low"], row["ci_high"]]
        first = row["method_a"] == method
        low, high = ends if first else (-ends[1], -ends[0])
        estimate = row["difference"] if first else -row["difference"]
        values = {"estimate": estimate, "low": low, "high": high, "n": row["n"], "p_holm": row["p_holm"]}
        content[row["metric"]] = values
    return content


def _check_ceiling(results: Results, tracer: TracerSpec, method: str) -> list[dict[str, Any]]:
    """Method against the visible ceiling, oriented so that above 0 is better than what MRI can show.

    The ceiling is a conditional mean: nothing honest beats its squared error or its r, but where uptake is
    skewed a predicted median can beat it on MAE, SSIM or the mean of per-subject PSNR. So these accuse only
    where the squared error is lower too.
    """
    count, seed = results.sampling.count, results.sampling.seed
    squared_error = results.by_subject(tracer.name, "rmse") ** 2
    lower_error = bool((squared_error[method] - squared_error[LEAK_CEILING]).mean() < 0)
    checks = []
    for metric in LEAK_METRICS:
        table = results.by_subject(tracer.name, metric)
        a, b = (goodness(metric, table[name].to_numpy()) for name in (method, LEAK_CEILING))
        checks.append(_verdict(method, metric, bootstrap_difference(a, b, count, seed), lower_error))
    real, synthetic = results.regional(tracer.name, method, "target")
    ceiling = results.regional(tracer.name, LEAK_CEILING, "target")[1]
    subjects, vois = real.index.intersection(ceiling.index), real.columns.intersection(ceiling.columns)
    arrays = [frame.loc[subjects, vois].to_numpy() for frame in (real, synthetic, ceiling)]
    interval = median_r_difference(arrays[0], arrays[1], arrays[2], count, seed)
    checks.append(_verdict(method, "voi_r", interval, interval.n >= LEAK_MIN_SUBJECTS_R))
    return checks


def _verdict(method: str, metric: str, above: Interval, conclusive: bool) -> dict[str, Any]:
    """A leak is an interval wholly above the ceiling, where the comparison is ``conclusive`` at all."""
    leak = conclusive and above.low > 0
    return {"method": method, "metric": metric, "conclusive": conclusive, "leak": leak} | {
        f"above_ceiling_{key}": value for key, value in asdict(above).items()
    }


def leak_sentences(summary: dict[str, Any]) -> list[str]:
    """One phrase for each tracer, method and metric above the visible ceiling."""
    return [
        f"{tracer}: {check['method']} beats the visible ceiling on {check['metric']} by "
        f"{check['above_ceiling_estimate']:.3g} (95 % interval from {check['above_ceiling_low']:.3g}, "
        f"n = {check['above_ceiling_n']})"
        for tracer, content in summary["tracers"].items()
        for check in content.get("leak_checks", [])
        if check["leak"]
    ]
