"""Is one method better than another? Every pair on every metric, tested over subjects."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, TypedDict

import pandas as pd

from relapet.evaluation.interface import Findings, Material
from relapet.evaluation.results import SUBJECT_METRICS, Results, goodness
from relapet.evaluation.statistics import Sampling, bootstrap_difference, holm, paired_wilcoxon
from relapet.evaluation.tables import TableSpec
from relapet.evaluation.trees import CEILINGS, TRACER_MEAN

TABLES = (
    TableSpec(
        "tests",
        "pair of methods and metric",
        {
            "tracer": "name",
            "metric": "an image metric or voi_mae",
            "method_a": "name, tracer_mean or a ceiling",
            "method_b": "the same",
            "n": "subjects that both have",
            "p": "two-sided Wilcoxon signed-rank test",
            "p_holm": "the same, Holm-corrected within tracer, metric and family",
            "effect": "matched-pairs rank-biserial correlation, above 0 in favour of method_a",
            "difference": "mean of a - b, in the metric's unit",
            "ci_low": "lower end of its 95 % interval",
            "ci_high": "upper end",
            "family": "method, or ceiling where one of both is a ceiling",
            "reason": "why a value is missing",
        },
    ),
)


class Difference(TypedDict):
    """A method minus `tracer_mean` on one metric."""

    estimate: float
    low: float
    high: float
    n: int
    p_holm: float


def run(material: Material) -> Findings:
    """The differences to `tracer_mean` go to each tracer's summary, where it was scored."""
    results = material.results
    table = tests_table(results, SUBJECT_METRICS)
    differences = {}
    for tracer in results.tracers():
        methods = results.methods_of(tracer)
        if TRACER_MEAN in methods:
            tests = table[table["tracer"] == tracer.name]
            differences[tracer.name] = {
                "difference_to_tracer_mean": {
                    method: _differences(tests, method) for method in methods if method != TRACER_MEAN
                }
            }
    return Findings({"tests": table}, of_tracer=differences)


def tests_table(results: Results, metrics: Sequence[str]) -> pd.DataFrame:
    """Every pair of methods on every metric: Wilcoxon over subjects, Holm within tracer, metric and family.

    ``effect`` above 0 favours method_a, whichever way the metric points; ``difference`` is the plain mean of
    a - b in the metric's unit. Comparisons with a ceiling are a family of their own: they are no contest.
    """
    rows = []
    for tracer in results.tracers():
        for metric in metrics:
            table = results.by_subject(tracer.name, metric)
            if table.isna().all(axis=None):
                continue  # a metric that this tracer has not (no target cortex)
            pairs = list(combinations(results.methods_of(tracer), 2))
            for family in ("method", "ceiling"):
                chosen = [pair for pair in pairs if _family(pair) == family]
                tests = [_test(table, metric, pair, results.sampling) for pair in chosen]
                adjusted = holm([test["p"] for test in tests])
                rows += [
                    {"tracer": tracer.name, "metric": metric} | test | {"p_holm": p, "family": family}
                    for test, p in zip(tests, adjusted, strict=True)
                ]
    return pd.DataFrame(rows, columns=list(TABLES[0].columns))


def _family(pair: tuple[str, str]) -> str:
    return "ceiling" if set(pair) & CEILINGS.keys() else "method"


def _test(table: pd.DataFrame, metric: str, pair: tuple[str, str], sampling: Sampling) -> dict[str, Any]:
    a, b = (table[method].to_numpy() for method in pair)
    test = paired_wilcoxon(goodness(metric, a), goodness(metric, b))
    difference = bootstrap_difference(a, b, sampling.count, sampling.seed)
    return {
        "method_a": pair[0],
        "method_b": pair[1],
        "n": test.n,
        "p": test.p,
        "effect": test.effect,
        "difference": difference.estimate,
        "ci_low": difference.low,
        "ci_high": difference.high,
        "reason": test.reason,
    }


def _differences(tests: pd.DataFrame, method: str) -> dict[str, Difference]:
    """Method minus tracer_mean on each metric, with its interval and the Holm-adjusted p of the pair."""
    pairs = tests[tests[["method_a", "method_b"]].isin([method, TRACER_MEAN]).all(axis=1)]
    content: dict[str, Difference] = {}
    for row in pairs.to_dict("records"):
        ends = [row["ci_low"], row["ci_high"]]
        first = row["method_a"] == method
        low, high = ends if first else (-ends[1], -ends[0])
        estimate = row["difference"] if first else -row["difference"]
        content[row["metric"]] = {
            "estimate": estimate, "low": low, "high": high, "n": row["n"], "p_holm": row["p_holm"]
        }  # fmt: skip
    return content
