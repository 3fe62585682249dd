"""What N samples per scan are worth: coverage, CRPS, sharpness, and how the mean improves with N.

Tables of pairs are those of `voi_tables`. The subject is the unit: sessions are averaged within it, and VOIs of
one subject are never counted as independent.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from relapet.errors import InputError
from relapet.evaluation.statistics import bootstrap_mean
from relapet.evaluation.uncertainty.coverage import ALL_VOIS, UncertaintyConfig, coverage_table
from relapet.evaluation.uncertainty.voi_tables import KEYS, pair_with_real, read_voi_tables, sample_columns
from relapet.imaging.bids import find_visits
from relapet.tracers import load_tracers

Floats = npt.NDArray[np.float64]

SAMPLES = "samples"
"""Name, in the column interval, of the central intervals of the samples."""


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


def scores_table(pairs: pd.DataFrame) -> pd.DataFrame:
    """CRPS, the mean's absolute error and the samples' SD of each subject, all SUVr: means over VOIs, then by VOI."""
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
    return everything.assign(n_samples=samples.shape[1])


def subjects_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Of `scores_table` the means over VOIs: subject, tracer, n_samples, crps, mae, sd."""
    columns = ["subject", "tracer", "n_samples", "crps", "mae", "sd"]
    rows = scores.loc[scores["voi"] == ALL_VOIS, columns]
    return rows.assign(subject="sub-" + rows["subject"].astype(str))


def crps_table(scores: pd.DataFrame, config: UncertaintyConfig) -> pd.DataFrame:
    """Of `scores_table` the means over subjects by VOI, all SUVr: CRPS with its bootstrap interval, mae and sd."""
    rows: list[dict[str, Any]] = []
    for (tracer, voi), group in scores.groupby(["tracer", "voi"], sort=False):
        mean = bootstrap_mean(group["crps"].to_numpy(np.float64), config.bootstrap, config.seed)
        row: dict[str, Any] = {
            "tracer": tracer,
            "voi": voi,
            "n": mean.n,
            "n_samples": group["n_samples"].iloc[0],
        }
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

    Tables uncertainty_coverage, uncertainty_crps, uncertainty_subjects and uncertainty_sample_mean, each with the
    column method; trees without samples are left out. Raises InputError as `read_samples` and `pair_with_real` do.
    """
    parts: dict[str, list[pd.DataFrame]] = {}
    for method, root in trees.items():
        if not holds_samples(root):
            continue
        pairs = pair_with_real(read_samples(root), measured)
        scores = scores_table(pairs)
        tables = {
            "uncertainty_coverage": sample_coverage(pairs, config).assign(interval=SAMPLES),
            "uncertainty_crps": crps_table(scores, config),
            "uncertainty_subjects": subjects_table(scores),
            "uncertainty_sample_mean": sample_mean_curve(pairs, config),
        }
        for name, table in tables.items():
            table.insert(list(table.columns).index("tracer") + 1, "method", method)
            parts.setdefault(name, []).append(table)
    return {name: pd.concat(tables, ignore_index=True) for name, tables in parts.items()}
