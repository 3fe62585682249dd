"""How near each method comes: image metrics of every scan, regional SUVr of every subject, and their means."""

from __future__ import annotations

from dataclasses import asdict

import pandas as pd

from relapet.evaluation.interface import Findings, Material
from relapet.evaluation.results import SUBJECT_METRICS
from relapet.evaluation.scores.image_metrics import METRICS
from relapet.evaluation.statistics import bootstrap_mean
from relapet.evaluation.tables import TableSpec

TABLES = (
    TableSpec(
        "image_metrics",
        "scan and method",
        {
            "subject": "label with sub-",
            "session": "label with ses-, n/a without sessions",
            "tracer": "name",
            "method": "name, tracer_mean or a ceiling",
        }
        | {name: f"{metric.title}, {metric.unit}" for name, metric in METRICS.items()},
    ),
    TableSpec(
        "voi",
        "subject, method and region",
        {
            "subject": "label with sub-",
            "tracer": "name",
            "method": "name, tracer_mean or a ceiling",
            "voi": "name of the VOI or composite",
            "real_suvr": "measured mean SUVr, sessions averaged",
            "synth_suvr": "synthetic mean SUVr, sessions averaged",
            "kind": "voi or composite",
            "target": "whether the VOI counts in summaries",
            "sessions": "number that was averaged",
        },
    ),
)


def run(material: Material) -> Findings:
    """The mean of every metric over subjects, with its interval, goes to each method's summary."""
    results = material.results
    count, seed = results.sampling.count, results.sampling.seed
    means = {}
    for tracer in results.tracers():
        tables = {metric: results.by_subject(tracer.name, metric) for metric in SUBJECT_METRICS}
        for method in results.methods_of(tracer):
            means[tracer.name, method] = {
                metric: asdict(bootstrap_mean(table[method].to_numpy(), count, seed))
                for metric, table in tables.items()
            }
    return Findings(
        {"image_metrics": pd.DataFrame(material.scores.image), "voi": results.voi}, of_method=means
    )
