"""Does a method score above what MRI can show? Then test data leaked into its training."""

from __future__ import annotations

from typing import Any, TypedDict

from relapet.evaluation.interface import Findings, Material
from relapet.evaluation.results import Results, goodness
from relapet.evaluation.scores.agreement import median_r_difference
from relapet.evaluation.statistics import Interval, bootstrap_difference
from relapet.evaluation.tables import TableSpec
from relapet.evaluation.trees import CEILINGS
from relapet.tracers import TracerSpec

TABLES: tuple[TableSpec, ...] = ()

LEAK_METRICS = ("psnr", "ssim", "mae")
LEAK_CEILING = "visible_ceiling"
LEAK_MIN_SUBJECTS_R = 10
"""Below this a correlation varies too much from sample to sample to accuse anyone of a leak."""


class LeakCheck(TypedDict):
    """A method against the visible ceiling on one metric; above 0 is better than what MRI can show."""

    method: str
    metric: str
    conclusive: bool
    leak: bool
    above_ceiling_estimate: float
    above_ceiling_low: float
    above_ceiling_high: float
    above_ceiling_n: int


def run(material: Material) -> Findings:
    """The checks of every method but the ceilings go to each tracer's summary, where the ceiling was scored."""
    results = material.results
    checks = {}
    for tracer in results.tracers():
        methods = results.methods_of(tracer)
        if LEAK_CEILING in methods:
            tested = [method for method in methods if method not in CEILINGS]
            checks[tracer.name] = {
                "leak_checks": [
                    check for method in tested for check in check_ceiling(results, tracer, method)
                ]
            }
    return Findings(of_tracer=checks)


def check_ceiling(results: Results, tracer: TracerSpec, method: str) -> list[LeakCheck]:
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


def _verdict(method: str, metric: str, above: Interval, conclusive: bool) -> LeakCheck:
    """A leak is an interval wholly above the ceiling, where the comparison is ``conclusive`` at all."""
    return {
        "method": method,
        "metric": metric,
        "conclusive": conclusive,
        "leak": conclusive and above.low > 0,
        "above_ceiling_estimate": above.estimate,
        "above_ceiling_low": above.low,
        "above_ceiling_high": above.high,
        "above_ceiling_n": above.n,
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
