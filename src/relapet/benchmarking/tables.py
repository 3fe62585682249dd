"""What finished cases scored, as the tables of an evaluation: every method, every seed, tested over subjects.

A seed is a row of its own in the tables of scores. Tests between methods are made on each subject's mean over the
seeds: the subject is the unit. Agreement over subjects is found for each seed and then averaged, since a mean of
several seeds' maps would be another method.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from relapet.evaluation.analyses.agreement import agreement_table
from relapet.evaluation.analyses.comparison import tests_table
from relapet.evaluation.analyses.external import read_evaluation
from relapet.evaluation.results import SUBJECT_METRICS, Results
from relapet.evaluation.scores.agreement import bootstrap_r, pearson, row_median
from relapet.evaluation.statistics import MIN_SUBJECTS, Floats, Sampling, bootstrap_mean, percentile_interval
from relapet.evaluation.tables import read_table
from relapet.evaluation.trees import CEILINGS, TRACER_MEAN
from relapet.tracers import TracerSpec, load_tracers

BASELINES = (TRACER_MEAN, *CEILINGS)
"""What every evaluation scores beside the method."""
CRPS = "crps"
"""Of regional SUVr, mean over VOIs; of a method with one map its absolute error, which is what the score comes to."""
COMPARED = (*SUBJECT_METRICS, CRPS)
"""Scores of a person, of which every pair of methods is tested."""
FURTHER = ("uncertainty_coverage", "uncertainty_crps", "positivity", "positivity_probability")
"""Tables of an evaluation that are put together as they are."""
AGREEMENT = ("voi_r", "voi_slope", "voi_sd_ratio")
"""Of regional SUVr over subjects, the median over VOIs; see `regional_agreement`."""


@dataclass(frozen=True)
class Scored:
    """One evaluation of one method with one seed."""

    name: str
    seed: int
    evaluation: Path


@dataclass(frozen=True)
class Comparison:
    """All that was scored on one derivative."""

    results: Results
    """One row a subject and method: the mean over seeds. Its regional values are those of the first seed."""
    image: pd.DataFrame
    voi: pd.DataFrame
    agreement: pd.DataFrame
    tests: pd.DataFrame
    means: pd.DataFrame
    """A row a tracer, method and metric: mean over subjects and seeds, its interval, lowest and highest seed."""
    further: dict[str, pd.DataFrame]
    """By name, the tables of `FURTHER` that the evaluations have, with the column seed."""


def compare(scored: Sequence[Scored], sampling: Sampling) -> Comparison:
    """Put the evaluations together; raises InputError where a table cannot be read."""
    evaluations = [(s, _with_crps(read_evaluation(s.evaluation, sampling), s.evaluation)) for s in scored]
    chosen = list(_chosen(evaluations))
    names = list(dict.fromkeys(name for name, _, _ in chosen))
    order = [
        *(name for name in names if name not in BASELINES),
        *(name for name in BASELINES if name in names),
    ]
    metrics = pd.concat([_of(results.metrics, name, "method") for name, _, results in chosen])
    keys = ["tracer", "method", "subject"]
    metrics = metrics.groupby(level=keys).mean().reindex(columns=list(COMPARED))
    seen: dict[str, Results] = {}
    for name, _, results in chosen:
        seen.setdefault(name, results)
    voi = pd.concat([_rows(results.voi, name) for name, results in seen.items()], ignore_index=True)
    results = Results(metrics, voi, pd.DataFrame(), order, sampling)
    image = _stacked(
        (name, seed, _image(s.evaluation)) for (name, seed, _), s in _sources(chosen, evaluations)
    )
    return Comparison(
        results,
        image,
        _stacked((name, seed, found.voi) for name, seed, found in chosen),
        _stacked((name, seed, agreement_table(found)) for name, seed, found in chosen),
        tests_table(results, COMPARED),
        means_table(results, chosen),
        {name: table for name in FURTHER if (table := _further(scored, name)) is not None},
    )


def _further(scored: Sequence[Scored], name: str) -> pd.DataFrame | None:
    """One table of all evaluations that have it, each method's own rows."""
    parts = ((s, s.evaluation / f"{name}.tsv") for s in scored)
    there = [(s.name, s.seed, read_table(path)) for s, path in parts if path.is_file()]
    return _stacked(there) if there else None


Chosen = tuple[str, int, Results]


def _chosen(evaluations: Sequence[tuple[Scored, Results]]) -> Iterator[Chosen]:
    """Each method with each of its seeds; a baseline from the first evaluation that has it."""
    own = {scored.name for scored, _ in evaluations}
    taken: set[str] = set()
    for scored, results in evaluations:
        yield scored.name, scored.seed, results
        for baseline in BASELINES:
            if baseline in results.methods and baseline not in own | taken:
                taken.add(baseline)
                yield baseline, scored.seed, results


def _sources(
    chosen: Sequence[Chosen], evaluations: Sequence[tuple[Scored, Results]]
) -> Iterator[tuple[Chosen, Scored]]:
    by_results = {id(results): scored for scored, results in evaluations}
    for item in chosen:
        yield item, by_results[id(item[2])]


def _of(table: pd.DataFrame, name: str, level: str) -> pd.DataFrame:
    return table[table.index.get_level_values(level) == name]


def _rows(table: pd.DataFrame, name: str) -> pd.DataFrame:
    return table[table["method"] == name]


def _stacked(parts: Any) -> pd.DataFrame:
    """Each method's rows with its seed, after the column method."""
    frames = []
    for name, seed, table in parts:
        rows = _rows(table, name).copy()
        rows.insert(list(rows.columns).index("method") + 1, "seed", seed)
        frames.append(rows)
    return pd.concat(frames, ignore_index=True)


def _image(evaluation: Path) -> pd.DataFrame:
    return read_table(evaluation / "image_metrics.tsv", dtype={"subject": str, "session": str})


def means_table(results: Results, chosen: Sequence[Chosen]) -> pd.DataFrame:
    """Tracer, method, metric, n, estimate, low, high, seeds, seed_low, seed_high, one row each."""
    rows: list[dict[str, Any]] = []
    count, seed = results.sampling.count, results.sampling.seed
    for tracer in results.tracers():
        for name in results.methods_of(tracer):
            of_seeds = [found for other, _, found in chosen if other == name]
            for metric in COMPARED:
                values = results.by_subject(tracer.name, metric)[name].to_numpy()
                mean = bootstrap_mean(values, count, seed)
                single = [_seed_mean(found, tracer, name, metric) for found in of_seeds]
                rows.append(_row(tracer, name, metric, mean.n, (mean.estimate, mean.low, mean.high), single))
            for metric, (n, interval, single) in regional_agreement(of_seeds, tracer, name).items():
                rows.append(_row(tracer, name, metric, n, interval, single))
    return pd.DataFrame(rows)


def _seed_mean(found: Results, tracer: TracerSpec, name: str, metric: str) -> float:
    return float(found.by_subject(tracer.name, metric)[name].mean())


def _row(
    tracer: TracerSpec,
    name: str,
    metric: str,
    n: int,
    interval: tuple[float, float, float],
    single: Sequence[float],
) -> dict[str, Any]:
    ends = dict(zip(("estimate", "low", "high"), interval, strict=True))
    spread = {"seeds": len(single), "seed_low": min(single), "seed_high": max(single)}
    return {"tracer": tracer.name, "method": name, "metric": metric, "n": n} | ends | spread


def regional_agreement(
    seeds: Sequence[Results], tracer: TracerSpec, name: str
) -> Mapping[str, tuple[int, tuple[float, float, float], list[float]]]:
    """Medians over target VOIs: r over subjects, slope of synthetic on measured SUVr, and their ratio of SDs.

    A prediction that is the same for everyone has no r, slope 0 and ratio 0. Each is n, the mean over seeds with, for
    r, its interval over subjects, and the value of each seed.
    """
    frames = [found.regional(tracer.name, name, "target") for found in seeds]
    sides = [(real.to_numpy(), synthetic.to_numpy()) for real, synthetic in frames]
    real = sides[0][0]
    n = len(real)
    if n < MIN_SUBJECTS or real.shape[1] == 0:
        unknown = (np.nan,) * 3
        return dict.fromkeys(AGREEMENT, (n, unknown, [np.nan] * len(seeds)))
    count, seed = seeds[0].sampling.count, seeds[0].sampling.seed
    r = [float(row_median(pearson(*side)[None])[0]) for side in sides]
    drawn = np.mean([row_median(bootstrap_r(x, y, count, seed)) for x, y in sides], axis=0)
    slopes, ratios = ([float(np.median(find(*side))) for side in sides] for find in (_slope, _sd_ratio))
    return {
        "voi_r": (n, (float(np.mean(r)), *percentile_interval(drawn)), r),
        "voi_slope": (n, (float(np.mean(slopes)), np.nan, np.nan), slopes),
        "voi_sd_ratio": (n, (float(np.mean(ratios)), np.nan, np.nan), ratios),
    }


def _slope(real: Floats, synthetic: Floats) -> Floats:
    x, y = real - real.mean(axis=0), synthetic - synthetic.mean(axis=0)
    return np.asarray((x * y).sum(axis=0) / (x**2).sum(axis=0))


def _sd_ratio(real: Floats, synthetic: Floats) -> Floats:
    return np.asarray(synthetic.std(axis=0) / real.std(axis=0))


def _with_crps(results: Results, evaluation: Path) -> Results:
    """The results with each person's CRPS beside their metrics."""
    voi, keys = results.voi, ["tracer", "method", "subject"]
    error = (voi["synth_suvr"] - voi["real_suvr"]).abs()
    error = error[_is_scored(voi)].groupby([voi[key] for key in keys]).mean()
    metrics = results.metrics.assign(**{CRPS: error})
    path = evaluation / "uncertainty_subjects.tsv"
    if path.is_file():
        of_samples = read_table(path, dtype={"subject": str}).set_index(keys)["crps"]
        metrics[CRPS] = of_samples.reindex(metrics.index).fillna(metrics[CRPS])
    return replace(results, metrics=metrics)


def _is_scored(voi: pd.DataFrame) -> pd.Series[bool]:
    """The regions over which samples are scored: VOIs, and the composite that a tracer's threshold is for."""
    rules = {name: tracer.positivity for name, tracer in load_tracers().items()}
    composites = {name: rule.composite for name, rule in rules.items() if rule is not None}
    return (voi["kind"] == "voi") | (voi["voi"] == voi["tracer"].map(composites))
