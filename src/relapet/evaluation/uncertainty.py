"""What N samples per scan are worth: coverage, CRPS, sharpness, and how the mean improves with N.

A table of pairs has one row a subject, session, tracer and VOI: the measured value ``real_suvr`` and the
samples' values ``sample-0`` ... ``sample-(N-1)``, all mean SUVr of the VOI. The subject is the unit:
sessions are averaged within it, and VOIs of one subject are never counted as independent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from relapet.errors import InputError, SubjectError
from relapet.evaluation.statistics import bootstrap_mean
from relapet.evaluation.voi import default_atlas, sum_regions
from relapet.imaging.bids import VisitFiles, find_visits
from relapet.imaging.grid import Grid
from relapet.imaging.measured import load_measured
from relapet.tracers import load_tracers

Floats = npt.NDArray[np.float64]

KEYS = ["subject", "session", "tracer", "voi"]
SAMPLES = "samples"
"""Name, in the column interval, of the central intervals of the samples."""
ALL_VOIS = "all"
"""Name of the rows that average over the VOIs of a subject."""


@dataclass(frozen=True)
class UncertaintyConfig:
    """Which intervals are judged, and how the judgement's own intervals are made."""

    levels: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95)
    """Nominal coverage of the central intervals."""
    bootstrap: int = 2000
    """Bootstrap samples of subjects."""
    seed: int = 0


def holds_samples(root: Path) -> bool:
    """Whether a synthetic tree has a table of samples."""
    return any(
        visit.voi_table(root, tracer, "synthsamples").is_file()
        for visit in find_visits(root)
        for tracer in load_tracers().values()
    )


def read_samples(root: Path) -> pd.DataFrame:
    """The samples of a synthetic tree by VOI: subject, session, tracer, voi, sample-0 ... sample-(N-1).

    Raises InputError where there is none, where a table lacks its columns, and where N differs.
    """
    tables = read_voi_tables(root, "synthsamples")
    if not tables:
        raise InputError(
            f"{root} holds no *_seg-DK_desc-synthsamples_suvr.tsv; synthesize with --samples 2 or more."
        )
    first, n = next((path, len(sample_columns(frame))) for path, frame in tables.items())
    for path, frame in tables.items():
        count = len(sample_columns(frame))
        if count < 2:
            raise InputError(f"{path} lacks the columns sample-0, sample-1 ...; synthesize it anew.")
        if count != n:
            raise InputError(
                f"{path} holds {count} samples but {first} holds {n}; synthesize all with one --samples."
            )
    joined = pd.concat(tables.values(), ignore_index=True)
    return joined[[*KEYS, *sample_columns(joined)]]


def read_voi_tables(root: Path, desc: str) -> dict[Path, pd.DataFrame]:
    """The VOI tables of a synthetic tree (desc- synth or synthsamples) by path, with the columns of `KEYS`.

    Raises InputError for a table that cannot be read or has no column name.
    """
    tables: dict[Path, pd.DataFrame] = {}
    for visit in find_visits(root):
        for tracer in load_tracers().values():
            path = visit.voi_table(root, tracer, desc)
            if path.is_file():
                keys = {"subject": visit.subject, "session": visit.session or "", "tracer": tracer.name}
                tables[path] = _read_table(path).assign(**keys)
    return tables


def _read_table(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path, sep="\t", na_values=["n/a"]).rename(columns={"name": "voi"})
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a readable table ({error}); synthesize it anew.") from error
    if "voi" not in frame:
        raise InputError(f"{path} lacks the column name; synthesize it anew.")
    return frame


def sample_columns(frame: pd.DataFrame) -> list[str]:
    """The columns sample-0, sample-1 ... in the order of their number."""
    names = [str(name) for name in frame.columns if re.fullmatch(r"sample-\d+", str(name))]
    return sorted(names, key=lambda name: int(name.removeprefix("sample-")))


def measure_vois(index: Iterable[VisitFiles], grid: Grid, on_problem: Callable[[str], None]) -> pd.DataFrame:
    """Mean SUVr of every VOI of the measured maps of some visits: subject, session, tracer, voi, real_suvr.

    A map of another pipeline is brought to ``grid`` first; one that cannot be read is told to ``on_problem`` and
    left out. Raises InputError where none is left.
    """
    atlas, tracers = default_atlas(), load_tracers()
    rows = []
    for files in index:
        for tracer, path in files.pet.items():
            try:
                image = load_measured(path, tracers[tracer], grid)
            except SubjectError as error:
                on_problem(str(error))
                continue
            labels = atlas.labels(image.shape, image.affine)
            means = sum_regions(np.asarray(image.dataobj), labels, atlas.names).vois()
            key = (files.visit.subject, files.visit.session or "", tracer)
            rows += [(*key, voi, mean) for voi, mean in means.items()]
    if not rows:
        raise InputError("No measured *_meas-SUVR_mimap.nii.gz can be read; give a model-ready derivative.")
    return pd.DataFrame(rows, columns=[*KEYS, "real_suvr"])


def pair_with_real(predicted: pd.DataFrame, real: pd.DataFrame) -> pd.DataFrame:
    """Add ``real_suvr`` of `measure_vois` to predicted VOI values; rows without a measured one are left out.

    Raises InputError where nothing is left and where a prediction is not finite.
    """
    pairs = real[[*KEYS, "real_suvr"]].merge(predicted, on=KEYS, validate="one_to_one")
    if pairs.empty:
        raise InputError(
            "No subject, tracer and VOI has both a synthetic and a measured value; check the labels."
        )
    for column in [*sample_columns(pairs), *pairs.columns.intersection(["mean"])]:
        bad = pairs[~np.isfinite(pairs[column])]
        if len(bad):
            row = bad.iloc[0]
            raise InputError(
                f"The synthetic {row['tracer']} VOI {row['voi']} of subject {row['subject']} has no finite "
                f"value in {column}; synthesize it anew."
            )
    return pairs


def central_interval(samples: Floats, level: float) -> tuple[Floats, Floats]:
    """Ends of the central interval of ``samples`` ``(..., N)`` that holds a further draw with ``level``.

    Quantile p is read at position p (N + 1) (Hyndman & Fan, Am Stat 50:361, 1996, type 6), because the
    gap between two order statistics of N exchangeable draws holds the next draw with 1 / (N + 1): the
    type 7 default would cover too little at small N. See `attainable` for where N draws end.
    """
    tail = (1 - level) / 2
    low, high = np.quantile(samples, [tail, 1 - tail], axis=-1, method="weibull")
    return low, high


def attainable(n_samples: int, level: float) -> float:
    """Coverage of `central_interval` under a perfect sampler: N draws span no more than (N - 1) / (N + 1)."""
    return min(level, (n_samples - 1) / (n_samples + 1))


def crps(samples: Floats, real: Floats) -> Floats:
    """Continuous ranked probability score of ``samples`` ``(..., N)`` against ``real`` ``(...)``, in SUVr.

    Fair estimator: mean |x_i - y| - sum_ij |x_i - x_j| / (2 N (N - 1)); its expectation does not depend on N
    (Ferro, Q J R Meteorol Soc 140:1917, 2014, doi:10.1002/qj.2270; Zamo & Naveau, Math Geosci 50:209, 2018).
    Raises ValueError for one sample, of which it is undefined.
    """
    n = samples.shape[-1]
    if n < 2:
        raise ValueError("The fair CRPS needs two samples or more.")
    error = np.abs(samples - real[..., None]).mean(axis=-1)
    # Over sorted values sum_{i<j} |x_i - x_j| = sum_k (2k - N - 1) x_(k).
    weight = 2 * np.arange(1, n + 1) - n - 1
    spread = (np.sort(samples, axis=-1) * weight).sum(axis=-1)
    return np.asarray(error - spread / (n * (n - 1)))


def _values(pairs: pd.DataFrame) -> tuple[Floats, Floats]:
    samples = pairs[sample_columns(pairs)].to_numpy(np.float64)
    return samples, pairs["real_suvr"].to_numpy(np.float64)


def coverage_table(rows: pd.DataFrame, config: UncertaintyConfig) -> pd.DataFrame:
    """Empirical coverage and mean width from rows (subject, tracer, voi, level, covered, width).

    One row a tracer, VOI and level with n subjects, coverage, its 95 % interval, and width in SUVr: Wilson's
    interval for a VOI, a bootstrap over subjects for the mean over VOIs (voi = "all").
    """
    by_subject = rows.groupby(["tracer", "voi", "level", "subject"], sort=False)[["covered", "width"]].mean()
    groups = by_subject.groupby(["tracer", "voi", "level"], sort=False)
    table = groups.mean().rename(columns={"covered": "coverage"})
    table.insert(0, "n", groups.size())
    low, high = proportion_confint(table["coverage"] * table["n"], table["n"], method="wilson")
    table.insert(2, "ci_low", low)
    table.insert(3, "ci_high", high)
    over_vois = by_subject.groupby(["tracer", "level", "subject"], sort=False).mean()
    pooled = []
    for (tracer, level), group in over_vois.groupby(["tracer", "level"], sort=False):
        mean = bootstrap_mean(group["covered"].to_numpy(np.float64), config.bootstrap, config.seed)
        pooled.append(
            (tracer, ALL_VOIS, level, mean.n, mean.estimate, mean.low, mean.high, group["width"].mean())
        )
    columns = ["tracer", "voi", "level", "n", "coverage", "ci_low", "ci_high", "width"]
    return pd.concat([pd.DataFrame(pooled, columns=columns), table.reset_index()[columns]], ignore_index=True)


def sample_coverage(pairs: pd.DataFrame, config: UncertaintyConfig) -> pd.DataFrame:
    """`coverage_table` of the samples' central intervals, with n_samples and the attainable coverage."""
    samples, real = _values(pairs)
    rows = []
    for level in config.levels:
        low, high = central_interval(samples, level)
        covered = (low <= real) & (real <= high)
        rows.append(pairs[KEYS].assign(level=level, covered=covered.astype(float), width=high - low))
    table = coverage_table(pd.concat(rows, ignore_index=True), config)
    n = samples.shape[1]
    return table.assign(n_samples=n, attainable=[attainable(n, level) for level in table["level"]])


def crps_table(pairs: pd.DataFrame, config: UncertaintyConfig) -> pd.DataFrame:
    """CRPS with its bootstrap interval, the mean's absolute error and the samples' SD, all SUVr, by VOI."""
    samples, real = _values(pairs)
    scored = pairs[KEYS].assign(
        crps=crps(samples, real),
        mae=np.abs(samples.mean(axis=1) - real),
        sd=samples.std(axis=1, ddof=1),
    )
    columns = ["crps", "mae", "sd"]
    by_subject = scored.groupby(["tracer", "voi", "subject"], sort=False)[columns].mean().reset_index()
    over_vois = by_subject.groupby(["tracer", "subject"], sort=False)[columns].mean().reset_index()
    everything = pd.concat([over_vois.assign(voi=ALL_VOIS), by_subject], ignore_index=True)
    rows: list[dict[str, Any]] = []
    for (tracer, voi), group in everything.groupby(["tracer", "voi"], sort=False):
        mean = bootstrap_mean(group["crps"].to_numpy(np.float64), config.bootstrap, config.seed)
        row: dict[str, Any] = {"tracer": tracer, "voi": voi, "n": mean.n, "n_samples": samples.shape[1]}
        row |= {"crps": mean.estimate, "ci_low": mean.low, "ci_high": mean.high}
        rows.append(row | {"mae": group["mae"].mean(), "sd": group["sd"].mean()})
    return pd.DataFrame(rows)


def sample_mean_curve(pairs: pd.DataFrame, config: UncertaintyConfig) -> pd.DataFrame:
    """Mean absolute error over VOIs (SUVr) of the mean of the first n samples, n = 1 ... N, by tracer."""
    samples, real = _values(pairs)
    counts = np.arange(1, samples.shape[1] + 1)
    errors = np.abs(np.cumsum(samples, axis=1) / counts - real[:, None])
    frame = pd.concat([pairs[["tracer", "subject"]], pd.DataFrame(errors, columns=counts)], axis=1)
    by_subject = frame.groupby(["tracer", "subject"], sort=False).mean()
    rows = []
    for tracer, group in by_subject.groupby("tracer", sort=False):
        for count in counts:
            mean = bootstrap_mean(group[count].to_numpy(np.float64), config.bootstrap, config.seed)
            rows.append((tracer, int(count), mean.n, mean.estimate, mean.low, mean.high))
    return pd.DataFrame(rows, columns=["tracer", "n_samples", "n", "mae", "ci_low", "ci_high"])


def judge_samples(
    trees: Mapping[str, Path], measured: pd.DataFrame, config: UncertaintyConfig
) -> dict[str, pd.DataFrame]:
    """Judge the samples of synthetic trees, by method, against measured VOIs as of `measure_vois`.

    Tables uncertainty_coverage, uncertainty_crps and uncertainty_sample_mean, each with the column method; trees
    without samples are left out. Raises InputError as `read_samples` and `pair_with_real` do.
    """
    parts: dict[str, list[pd.DataFrame]] = {}
    for method, root in trees.items():
        if not holds_samples(root):
            continue
        pairs = pair_with_real(read_samples(root), measured)
        tables = {
            "uncertainty_coverage": sample_coverage(pairs, config).assign(interval=SAMPLES),
            "uncertainty_crps": crps_table(pairs, config),
            "uncertainty_sample_mean": sample_mean_curve(pairs, config),
        }
        for name, table in tables.items():
            table.insert(1, "method", method)
            parts.setdefault(name, []).append(table)
    return {name: pd.concat(tables, ignore_index=True) for name, tables in parts.items()}
