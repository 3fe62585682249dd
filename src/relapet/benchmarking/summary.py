"""summary.md and the tables beside it: what every method scored, what differs, what it cost, what failed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from relapet.benchmarking.case import CaseFolder
from relapet.benchmarking.further import further_lines
from relapet.benchmarking.tables import AGREEMENT, COMPARED, CRPS, Comparison, Scored, compare
from relapet.environment import environment, git_revision, now
from relapet.evaluation.results import VOI_MAE, goodness
from relapet.evaluation.scores.image_metrics import METRICS
from relapet.evaluation.statistics import Sampling
from relapet.evaluation.tables import plain, rows_of, write_table
from relapet.evaluation.trees import CEILINGS
from relapet.files import read_json, write_json, write_text
from relapet.report.text import number, safe, table, with_interval
from relapet.version import VERSION

ALPHA = 0.05
MAIN = ("psnr", "ssim", VOI_MAE, *AGREEMENT, CRPS, "spectrum_distance", "gradient_ratio")
"""Columns of the main tables."""
MATRICES = ("psnr", VOI_MAE, CRPS)
"""Metrics of which every pair of methods is shown."""
_FEW = ("psnr", VOI_MAE, "voi_r")
"""Scores of the tables that compare derivatives and seeds."""
_TITLES = {
    **{name: f"{metric.title} ({metric.unit})" for name, metric in METRICS.items()},
    VOI_MAE: "VOI MAE (SUVr)",
    "voi_r": "VOI r",
    "voi_slope": "VOI slope",
    "voi_sd_ratio": "VOI SD ratio",
    CRPS: "VOI CRPS (SUVr)",
}
_COST = (
    *(
        "method",
        "prior",
        "steps",
        "volumes_seen",
        "step_seconds",
        "fit_seconds",
        "parameters",
        "network_calls",
    ),
    *("samples", "synthesis_seconds", "peak_memory_gib"),
)


@dataclass(frozen=True)
class Finished:
    """A case that is done."""

    folder: CaseFolder

    @cached_property
    def record(self) -> dict[str, Any]:
        """What its result.json holds."""
        return read_json(self.folder.result)

    def scored(self, external: bool = False) -> Scored:
        """Its evaluation."""
        path = self.folder.external / "evaluation" if external else self.folder.evaluation
        return Scored(self.record["name"], self.record["seed"], path)


def write_results(
    out: Path,
    told: Mapping[str, Any],
    finished: Sequence[Finished],
    failed: Mapping[str, str],
    sampling: Sampling,
) -> None:
    """Write the tables, summary.json and summary.md of all finished cases; raises InputError for a broken table."""
    parts = {"": _written(out, [case.scored() for case in finished], sampling)}
    if told["external"] is not None:
        parts["external"] = _written(
            out / "external", [case.scored(external=True) for case in finished], sampling
        )
    cost = pd.DataFrame([case.record for case in finished]).drop(columns="test")
    write_table(out / "cost.tsv", cost)
    content = {
        "relapet_version": VERSION,
        "git_revision": git_revision(),
        "created": now(),
        "versions": environment(),
        "hardware": hardware(cost),
        **told,
        "test_subjects": len({who for case in finished for who in case.record["test"]}),
        "split_is_shared": len({tuple(case.record["test"]) for case in finished}) == 1,
        "cost": rows_of(cost),
        "results": {name or "internal": rows_of(found.means) for name, found in parts.items()},
        "failed": dict(failed),
    }
    write_json(out / "summary.json", plain(content))
    write_text(out / "summary.md", to_markdown(content, parts))


def _written(out: Path, scored: Sequence[Scored], sampling: Sampling) -> Comparison:
    found = compare(scored, sampling)
    tables = {
        "image_metrics": found.image,
        "voi": found.voi,
        "agreement": found.agreement,
        "tests": found.tests,
    }
    for name, frame in (tables | {"means": found.means} | found.further).items():
        write_table(out / f"{name}.tsv", frame)
    return found


def hardware(cost: pd.DataFrame) -> str:
    """What the cases ran on."""
    return ", ".join(sorted(set(cost["machine"])))


def to_markdown(content: Mapping[str, Any], parts: Mapping[str, Comparison]) -> str:
    """The summary for a reader."""
    lines = ["# Benchmark", "", *_head(content)]
    for part, found in parts.items():
        where = f"`{safe(str(content['external'] if part else content['derivatives']))}`"
        title = "The other derivative" if part else "Held-out participants"
        lines += [f"## {title}", "", f"Measured: {where}.", ""]
        for tracer in found.results.tracers():
            lines += [f"### {tracer.name}", "", *_main_table(found, tracer.name)]
            if part:  # the scores alone
                continue
            for metric in MATRICES:
                lines += _matrix(found, tracer.name, metric)
            lines += further_lines(found.further, found.agreement, tracer.name, found.results.methods)
    if len(parts) > 1:
        lines += _drop(parts[""].means, parts["external"].means)
    lines += _seeds(parts[""].means)
    lines += ["## Cost", "", *_cost_table(content["cost"])]
    if content["failed"]:
        lines += ["## Not finished", ""]
        lines += [f"- {safe(name)}: {safe(why)}" for name, why in content["failed"].items()]
        lines.append("")
    return "\n".join(lines)


def _head(content: Mapping[str, Any]) -> list[str]:
    seconds = content["budget_seconds"]
    budget = (
        f"{content['budget_samples']} training volumes seen"
        if seconds is None
        else f"{seconds:g} s of training"
    )
    versions = ", ".join(f"{name} {value}" for name, value in content["versions"].items())
    lines = [
        f"Each method: {budget}; what is fitted in closed form comes on top and stands under Cost.",
        f"{content['test_subjects']} held-out participants, whom no training and no choice saw; split seed "
        f"{content['split_seed']}.",
        f"relapet {content['relapet_version']}, revision {content['git_revision'] or 'unknown'}, "
        f"{content['created']}; {content['hardware']}; {versions}.",
        "",
        "Mean over participants [95 % bootstrap interval]. **Bold**: best of its column, and better than every other "
        "method and the training mean by Wilcoxon's test over participants, Holm-corrected over all pairs "
        f"(p < {ALPHA}); columns without such a test have no bold. VOI r, slope and SD ratio: medians over VOIs, over "
        "participants; slope and SD ratio tell a map that is nearly the same for everyone, which can still gain PSNR. "
        "CRPS: of the samples; of a method with one map its absolute error, which is what the score of one map comes "
        "to. Ceilings know what no method does.",
        "",
    ]
    if not content["split_is_shared"]:
        lines += ["The methods could not use the same visits, so their held-out participants differ; tests are over "
                  "those that both have.", ""]  # fmt: skip
    return lines


def _main_table(found: Comparison, tracer: str) -> list[str]:
    means = found.means[found.means["tracer"] == tracer].set_index(["method", "metric"])
    best = {metric: _best(found, tracer, metric) for metric in COMPARED}
    methods = [name for name in found.results.methods if (name, "psnr") in means.index]
    rows = []
    for name in methods:
        cells = [_cell(means, name, metric, bold=best.get(metric) == name) for metric in MAIN]
        rows.append([name, str(int(means["n"][name, "psnr"])), *cells])
    return table(["method", "n", *(_TITLES[metric] for metric in MAIN)], rows)


def _cell(means: pd.DataFrame, name: str, metric: str, bold: bool = False) -> str:
    if (name, metric) not in means.index:
        return ""
    row = rows_of(means.loc[[(name, metric)]])[0]
    text = with_interval(float(row["estimate"]), float(row["low"]), float(row["high"]))
    return f"**{text}**" if bold else text


def _best(found: Comparison, tracer: str, metric: str) -> str | None:
    """The method that is significantly better than every other; None where there is none."""
    tests = found.tests
    rows = tests[(tests["tracer"] == tracer) & (tests["metric"] == metric) & (tests["family"] == "method")]
    names: list[str] = sorted({*rows["method_a"], *rows["method_b"]})
    for name in names:
        wins = 0
        for row in rows_of(rows[(rows["method_a"] == name) | (rows["method_b"] == name)]):
            ahead = row["effect"] > 0 if row["method_a"] == name else row["effect"] < 0
            wins += bool(ahead and row["p_holm"] < ALPHA)
        if len(names) > 1 and wins == len(names) - 1:
            return name
    return None


def _matrix(found: Comparison, tracer: str, metric: str) -> list[str]:
    """Every method against every other: row minus column."""
    tests = found.tests
    rows = tests[(tests["tracer"] == tracer) & (tests["metric"] == metric) & (tests["family"] == "method")]
    names = [name for name in found.results.methods if name not in CEILINGS]
    names = [name for name in names if name in {*rows["method_a"], *rows["method_b"]}]
    cells: dict[tuple[str, str], str] = {}
    for row in rows_of(rows):
        mark = "\\*" if row["p_holm"] < ALPHA else ""
        cells[row["method_a"], row["method_b"]] = f"{row['difference']:+.3g}{mark}"
        cells[row["method_b"], row["method_a"]] = f"{-row['difference']:+.3g}{mark}"
    better = "more" if float(goodness(metric, np.array([1.0]))[0]) > 0 else "less"
    lines = [
        f"{_TITLES[metric]}, row minus column ({better} is better; \\*: p < {ALPHA}, Holm-corrected):",
        "",
    ]
    body = [[name, *(cells.get((name, other), "") for other in names)] for name in names]
    return lines + table(["", *names], body)


def _drop(internal: pd.DataFrame, external: pd.DataFrame) -> list[str]:
    """What each score loses on the other derivative."""
    both = internal.merge(external, on=["tracer", "method", "metric"], suffixes=("", "_external"))
    rows = []
    for row in rows_of(both[both["metric"].isin(_FEW)]):
        here, there = row["estimate"], row["estimate_external"]
        drop = "n/a" if math.isnan(there - here) else f"{there - here:+.3g}"
        rows.append([row["tracer"], row["method"], _TITLES[row["metric"]], number(here), number(there), drop])
    header = ["tracer", "method", "score", "held out", "other derivative", "difference"]
    return ["## From one derivative to the other", "", *table(header, rows)]


def _seeds(means: pd.DataFrame) -> list[str]:
    """How far seeds lie apart, where there are several."""
    several = means[(means["seeds"] > 1) & means["metric"].isin(_FEW)]
    if several.empty:
        return []
    rows = [
        [
            r["tracer"],
            r["method"],
            _TITLES[r["metric"]],
            str(r["seeds"]),
            number(r["seed_low"]),
            number(r["seed_high"]),
        ]
        for r in rows_of(several)
    ]
    return ["## Between seeds", "", *table(["tracer", "method", "score", "seeds", "lowest", "highest"], rows)]


def _cost_table(cost: Sequence[Mapping[str, Any]]) -> list[str]:
    def shown(value: Any) -> str:
        return number(value) if isinstance(value, float) else str(value)

    rows = [[row["name"], str(row["seed"]), *(shown(row[key]) for key in _COST)] for row in cost]
    return table(["name", "seed", *(key.replace("_", " ") for key in _COST)], rows)
