"""External validity: how far each score falls from one evaluated cohort to another (research to ADNI)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pandas as pd

from relapet.errors import InputError
from relapet.evaluation.interface import Findings, Material
from relapet.evaluation.results import SUBJECT_METRICS, Results, subject_metrics
from relapet.evaluation.scores.agreement import bootstrap_r, pearson, row_median
from relapet.evaluation.scores.image_metrics import METRICS
from relapet.evaluation.statistics import MIN_SUBJECTS, Floats, Sampling, percentile_interval, resample
from relapet.evaluation.tables import TableSpec, read_table, require_columns, rows_of
from relapet.settings import shortened
from relapet.tracers import load_tracers

TABLES = (
    TableSpec(
        "external",
        "method and metric",
        {
            "tracer": "name",
            "method": "name, tracer_mean or a ceiling",
            "metric": "an image metric, voi_mae or voi_r",
            "better": "higher, lower or one",
            "n_internal": "subjects of the internal evaluation",
            "n_external": "subjects of this one",
            "internal": "mean over subjects of the internal evaluation",
            "external": "mean over subjects of this one",
            "difference": "external minus internal",
            "ci_low": "lower end of its 95 % interval",
            "ci_high": "upper end",
        },
    ),
)
_BETTER = {name: metric.better for name, metric in METRICS.items()} | {"voi_mae": "lower", "voi_r": "higher"}
_COLUMNS = list(TABLES[0].columns)[:-3]


class ExternalSection(TypedDict):
    """With which evaluation this one was compared, and the rows of external.tsv."""

    internal: str
    results: list[dict[str, Any]]


def run(material: Material) -> Findings | None:
    """Compare with the internal evaluation; None where there is none. Both are read as written."""
    internal = material.config.internal
    if internal is None:
        return None
    table = compare_cohorts(internal, material.out, material.results.sampling)
    section: ExternalSection = {"internal": str(internal), "results": rows_of(table)}
    return Findings({"external": table}, section=section)


@dataclass(frozen=True)
class _Side:
    """Estimate and bootstrap samples ``(count,)`` of one score in one cohort."""

    n: int
    estimate: float
    drawn: Floats


def compare_cohorts(internal: Path, external: Path, sampling: Sampling | None = None) -> pd.DataFrame:
    """One row a tracer, method and metric: both scores, external minus internal, and its 95 % interval.

    ``internal`` and ``external`` are folders that `evaluate` wrote; the cohorts are independent, so each is
    resampled on its own. Raises InputError where a table is missing or the folders share no tracer and method.
    """
    sampling = sampling or Sampling(2000, 0)
    # Another seed for the second cohort: the same draws would tie its subjects to those of the first.
    seeds = (sampling.seed, sampling.seed + 1)
    sides = [
        read_evaluation(folder, Sampling(sampling.count, seed))
        for folder, seed in zip((internal, external), seeds, strict=True)
    ]
    shared = [
        (tracer.name, method)
        for tracer in sides[0].tracers()
        for method in sides[0].methods_of(tracer)
        if (tracer.name, method) in {key[:2] for key in sides[1].metrics.index}
    ]
    if not shared:
        raise InputError(f"{internal} and {external} share no tracer and method; evaluate the same methods.")
    rows = [row for tracer, method in shared for row in _rows(sides[0], sides[1], tracer, method)]
    return pd.DataFrame(rows, columns=list(TABLES[0].columns))


def read_evaluation(folder: Path, sampling: Sampling) -> Results:
    """What `evaluate` wrote to a folder; raises InputError where a table is missing or broken."""
    folder = Path(folder)
    image = _read_table(folder / "image_metrics.tsv", ["subject", "session", "tracer", "method", *METRICS])
    voi = _read_table(
        folder / "voi.tsv",
        ["subject", "tracer", "method", "voi", "real_suvr", "synth_suvr", "kind", "target"],
    )
    methods = list(dict.fromkeys(image["method"]))
    return Results(subject_metrics(image, voi), voi, pd.DataFrame(), methods, sampling)


def _read_table(path: Path, columns: list[str]) -> pd.DataFrame:
    mend = "give a folder that evaluate wrote"
    words = dict.fromkeys(("subject", "session", "tracer", "method", "voi", "kind"), str)
    table = read_table(path, (*METRICS, "real_suvr", "synth_suvr"), mend, dtype=words)
    require_columns(path, table, columns)
    if "target" in columns and table["target"].dtype != bool:
        raise InputError(f"The column target of {path} holds other than True and False; {mend}.")
    unknown = sorted(set(table["tracer"].dropna()) - set(load_tracers()))
    if unknown:
        raise InputError(f"{path} names a tracer {shortened(unknown[0])} that relapet does not know; {mend}.")
    keys = [name for name in ("subject", "session", "tracer", "method", "voi", "kind") if name in columns]
    if table[[key for key in keys if key != "session"]].isna().any(axis=None) or table.duplicated(keys).any():
        raise InputError(f"{path} has rows without {', '.join(keys)} of their own; {mend}.")
    return table


def _rows(internal: Results, external: Results, tracer: str, method: str) -> list[dict[str, Any]]:
    sides = [
        (_means(side, tracer, method) | _median_r(side, tracer, method)) for side in (internal, external)
    ]
    rows: list[dict[str, Any]] = []
    for metric, better in _BETTER.items():
        a, b = sides[0][metric], sides[1][metric]
        if a.n == 0 or b.n == 0:
            continue
        # Equal infinities (identical images in both cohorts) differ by nothing.
        difference = np.zeros(a.drawn.size)
        np.subtract(b.drawn, a.drawn, out=difference, where=a.drawn != b.drawn)
        low, high = percentile_interval(difference)
        gap = 0.0 if a.estimate == b.estimate else b.estimate - a.estimate
        values = (tracer, method, metric, better, a.n, b.n, a.estimate, b.estimate)
        row = dict(zip(_COLUMNS, values, strict=True))
        rows.append({**row, "difference": gap, "ci_low": low, "ci_high": high})
    return rows


def _means(side: Results, tracer: str, method: str) -> dict[str, _Side]:
    means = {}
    for metric in SUBJECT_METRICS:
        values = side.by_subject(tracer, metric)[method].dropna().to_numpy()
        drawn = np.full(side.sampling.count, np.nan)
        if values.size >= MIN_SUBJECTS:
            drawn = values[resample(values.size, side.sampling.count, side.sampling.seed)].mean(axis=1)
        means[metric] = _Side(values.size, float(values.mean()) if values.size else np.nan, drawn)
    return means


def _median_r(side: Results, tracer: str, method: str) -> dict[str, _Side]:
    real, synthetic = (frame.to_numpy() for frame in side.regional(tracer, method, "target"))
    n, count = real.shape[0], side.sampling.count
    if n < MIN_SUBJECTS or real.shape[1] == 0:
        return {"voi_r": _Side(n, np.nan, np.full(count, np.nan))}
    estimate = float(row_median(pearson(real, synthetic)[None])[0])
    return {"voi_r": _Side(n, estimate, row_median(bootstrap_r(real, synthetic, count, side.sampling.seed)))}
