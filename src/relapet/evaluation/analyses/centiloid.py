"""Centiloids of the tracers that have the scale, and how well synthetic ones agree with measured ones."""

from __future__ import annotations

from relapet.evaluation.interface import Findings, Material
from relapet.evaluation.scores.agreement import agreement
from relapet.evaluation.tables import TableSpec

TABLES = (
    TableSpec(
        "centiloid",
        "subject and method",
        {
            "subject": "label with sub-",
            "tracer": "name",
            "method": "name, tracer_mean or a ceiling",
            "real_centiloid": "measured, sessions averaged",
            "synth_centiloid": "synthetic, sessions averaged",
        },
    ),
)


def run(material: Material) -> Findings:
    """Agreement over subjects goes to the summary of each method that has Centiloids."""
    table = material.results.centiloid
    agreed = {}
    for (tracer, method), rows in table.groupby(["tracer", "method"], sort=False):
        values = [rows[[column]].to_numpy() for column in ("real_centiloid", "synth_centiloid")]
        agreed[str(tracer), str(method)] = {"centiloid": agreement(*values).iloc[0].to_dict()}
    return Findings({"centiloid": table}, of_method=agreed)
