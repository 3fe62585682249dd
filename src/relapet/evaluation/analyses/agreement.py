"""Agreement over subjects of synthetic with measured SUVr, one region at a time."""

from __future__ import annotations

from dataclasses import asdict

import pandas as pd

from relapet.evaluation.interface import Findings, Material
from relapet.evaluation.results import Results
from relapet.evaluation.scores.agreement import agreement, median_r
from relapet.evaluation.scores.voi import target_vois
from relapet.evaluation.tables import TableSpec

TABLES = (
    TableSpec(
        "agreement",
        "method and region",
        {
            "tracer": "name",
            "method": "name, tracer_mean or a ceiling",
            "voi": "name of the VOI or composite",
            "n": "subjects",
            "r": "Pearson's r over subjects",
            "ci_low": "lower end of its 95 % interval (Fisher's z)",
            "ci_high": "upper end",
            "icc": "ICC(2,1)",
            "bias": "mean of synthetic minus measured, SUVr",
            "loa_low": "lower Bland-Altman limit of agreement, SUVr",
            "loa_high": "upper limit, SUVr",
            "reason": "why a value is missing",
            "kind": "voi or composite",
            "target": "whether the VOI counts in summaries",
        },
    ),
)


def run(material: Material) -> Findings:
    """The median over target VOIs of r, with its interval, goes to each method's summary as ``voi_r``."""
    results = material.results
    count, seed = results.sampling.count, results.sampling.seed
    medians = {}
    for tracer in results.tracers():
        for method in results.methods_of(tracer):
            real, synthetic = results.regional(tracer.name, method, "target")
            r = asdict(median_r(real.to_numpy(), synthetic.to_numpy(), count, seed))
            medians[tracer.name, method] = {"voi_r": r | {"n_vois": real.shape[1]}}
    return Findings({"agreement": agreement_table(results)}, of_method=medians)


def agreement_table(results: Results) -> pd.DataFrame:
    """Agreement over subjects of each VOI and composite, per tracer and method."""
    parts = []
    for tracer in results.tracers():
        for method in results.methods_of(tracer):
            for kind in ("voi", "composite"):
                real, synthetic = results.regional(tracer.name, method, kind)
                if real.empty:
                    continue  # a user's atlas without the labels of the composites
                part = agreement(real.to_numpy(), synthetic.to_numpy())
                part.insert(0, "tracer", tracer.name)
                part.insert(1, "method", method)
                part.insert(2, "voi", list(real.columns))
                part["kind"] = kind
                part["target"] = part["voi"].isin(target_vois(list(real.columns), tracer)) & (kind == "voi")
                parts.append(part)
    return pd.concat(parts, ignore_index=True)
