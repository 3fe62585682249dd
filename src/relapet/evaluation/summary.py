"""What a reader looks at first: everything in short, as summary.json holds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relapet.evaluation.interface import Findings, Material
from relapet.evaluation.results import VOI_MAE
from relapet.evaluation.scores.image_metrics import METRICS
from relapet.version import VERSION


def build_summary(material: Material, found: Mapping[str, Findings]) -> dict[str, Any]:
    """Inputs, metrics and what each analysis, by key, found; NaN where undefined.

    A tracer's section holds what analyses say of the tracer and of each method; the others stand by their key.
    """
    summary: dict[str, Any] = {
        "relapet_version": VERSION,
        "unit_of_analysis": "subject (sessions averaged); 95 % percentile bootstrap intervals over subjects",
        "metrics": {
            name: {"title": m.title, "unit": m.unit, "better": m.better, "group": m.group, "source": m.source}
            for name, m in METRICS.items()
        }
        | {VOI_MAE: {"title": "VOI MAE", "unit": "SUVr", "better": "lower", "group": "region",
                     "source": "mean absolute error over the grey-matter VOIs"}},
        "tracers": _tracers(material, found),
        "inputs": {
            "real": str(material.real),
            "synthetic": {method: str(root) for method, root in material.trees.items()},
            "atlas": material.atlas.name,
            "bootstrap_samples": material.config.bootstrap,
            "seed": material.config.seed,
        },
        "skipped_tracers": material.plan.skipped_tracers,
        "notes": [*material.plan.notes, *(note for findings in found.values() for note in findings.notes)],
        "problems": [vars(problem) for problem in material.scores.problems],
    }  # fmt: skip
    summary |= {
        key: dict(findings.section) for key, findings in found.items() if findings.section is not None
    }
    summary["unmet"] = {name: why for findings in found.values() for name, why in findings.unmet.items()}
    return summary


def _tracers(material: Material, found: Mapping[str, Findings]) -> dict[str, Any]:
    results = material.results
    content: dict[str, Any] = {}
    for tracer in results.tracers():
        subjects = results.metrics.loc[tracer.name].index.get_level_values("subject")
        section: dict[str, Any] = {
            "label": tracer.label,
            "suvr_window": list(tracer.suvr_window),
            "n": int(subjects.nunique()),
            "methods": {method: {} for method in results.methods_of(tracer)},
        }
        for findings in found.values():
            for method, said in section["methods"].items():
                said |= findings.of_method.get((tracer.name, method), {})
            section |= findings.of_tracer.get(tracer.name, {})
        content[tracer.name] = section
    return content
