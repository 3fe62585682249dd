"""What the cases score, as tables: means, and differences from the reference with their intervals."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch

import relapet
from equal_seconds.loop import ON_GPU, is_done, read_cost
from relapet.evaluation.statistics import Interval, bootstrap_difference, bootstrap_mean
from relapet.report import text
from relapet.runs import RunFolder

BOOTSTRAP = 2000
METRICS = {
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "mae": "MAE, SUVr",
    "voi_error": "mean absolute error of the VOIs, SUVr",
    "spectrum_distance": "distance of the power spectra, dB",
}

DIFFERENCE = ["minus_reference", "minus_reference_low", "minus_reference_high"]
"""Columns of a table's difference from the reference and its interval."""
MEAN = "mean"
"""Stands for the mean over tracers where a tracer is named."""
BARS = ("tracer_mean", "linear", "regression", "released", "paper")
"""What the reference is compared with tracer by tracer, where it was run."""


def read_scores(name: str, out: Path) -> pd.DataFrame:
    """Per subject: index (tracer, subject), a column a metric; ``name`` may be one of evaluate's own methods."""
    if is_done(out / name):
        folder, wanted = name, RunFolder(out / name / "run").read_manifest().method
    else:
        folder, wanted = next(path.parent.name for path in sorted(out.glob("*/cost.json"))), name
    images, regions = (
        _read(out / folder / "evaluation" / f"{table}.tsv", wanted) for table in ("image_metrics", "voi")
    )
    regions = regions[regions["kind"] == "voi"]
    error = (regions["synth_suvr"] - regions["real_suvr"]).abs()
    return images.assign(voi_error=error.groupby(level=["tracer", "subject"]).mean())


def _read(table: Path, method: str) -> pd.DataFrame:
    scores = pd.read_csv(table, sep="\t", dtype={"subject": str})
    return scores[scores["method"] == method].set_index(["tracer", "subject"])


def rows(names: list[str], options: argparse.Namespace) -> Iterator[dict[str, object]]:
    """One row a tracer, case and metric: the mean, and the difference from the reference, with intervals."""
    out, seed = options.out, options.seed
    reference = read_scores(options.reference, out)
    for name in names:
        scores = read_scores(name, out)
        for tracer in tracers_of(scores):
            for metric in METRICS:
                mean = bootstrap_mean(_of_tracer(scores[metric], tracer).to_numpy(float), BOOTSTRAP, seed)
                yield (
                    {"case": name, "tracer": tracer, "metric": metric, "n": mean.n}
                    | _flat("mean", mean)
                    | _flat("minus_reference", difference(scores[metric], reference[metric], tracer, seed))
                )


def tracers_of(scores: pd.DataFrame) -> list[str]:
    """The tracers that were scored, then `MEAN`."""
    return [*sorted(set(scores.index.get_level_values("tracer"))), MEAN]


def difference(scores: pd.Series, others: pd.Series, tracer: str, seed: int) -> Interval:
    """Paired over subjects: ``scores`` minus ``others``."""
    a, b = (_of_tracer(values, tracer) for values in (scores, others))
    assert list(a.index) == list(b.index)
    return bootstrap_difference(a.to_numpy(float), b.to_numpy(float), BOOTSTRAP, seed)


def _of_tracer(scores: pd.Series, tracer: str) -> pd.Series:
    """A value a subject; for `MEAN` its mean over the tracers."""
    chosen = scores.groupby(level="subject").mean() if tracer == MEAN else scores.loc[tracer]
    return chosen.sort_index()


def _flat(prefix: str, value: Interval) -> dict[str, object]:
    return {prefix: value.estimate, f"{prefix}_low": value.low, f"{prefix}_high": value.high}


def markdown(table: pd.DataFrame, names: list[str], options: argparse.Namespace) -> str:
    """Cases down, tracers across: PSNR, SSIM, MAE and what each differs from the reference."""
    device = torch.cuda.get_device_name() if ON_GPU else "one CPU thread a case"
    lines = [
        f"relapet {relapet.__version__}, {options.grid}, {options.subjects} simulated research subjects, "
        f"{options.seconds:g} s of training a case ({device}), {options.sample_steps} network calls "
        f"a sample (by the preset's sampler, ddim for ddpm), "
        f"n = {int(table['n'].max())} held-out subjects.",
        f"Mean over subjects; in brackets the 95 % bootstrap interval of the difference from `{options.reference}`.",
    ]
    lines += gains(names, options)
    lines += overview(table, names, options.reference)
    for metric, title in METRICS.items():
        part = table[table["metric"] == metric].set_index(["case", "tracer"])
        tracers = list(dict.fromkeys(part.index.get_level_values("tracer")))
        cells = []
        for name in names:
            cost = read_cost(name, options.out)
            scores = [_score(part.loc[(name, tracer)], options.reference) for tracer in tracers]
            fit = f"{cost['seconds_of_fit']:.0f}" if cost else "-"
            cells.append([f"`{name}`", str(cost.get("steps", "-")), fit, *scores])
        heading = ["case", "steps", "fit, s", *tracers]
        lines += ["", f"### {title}", "", *text.table(heading, cells)[:-1]]
    return "\n".join(lines) + "\n"


def _score(row: pd.Series, reference: str) -> str:
    """A mean, and the interval of its difference from the reference."""
    case, _ = row.name
    gap = f" [{row['minus_reference_low']:+.3g}, {row['minus_reference_high']:+.3g}]"
    return f"{row['mean']:.4g}" + ("" if case == reference else gap)


def overview(table: pd.DataFrame, names: list[str], reference: str) -> list[str]:
    """Lines of a table of every case's difference from the reference, metrics across."""
    gaps = table[table["tracer"] == MEAN].set_index(["case", "metric"])[DIFFERENCE]
    cells = [
        [f"`{name}`", *(_signed(*gaps.loc[(name, metric)]) for metric in METRICS)]
        for name in names
        if name != reference
    ]
    heading = ["", f"### Difference from `{reference}`, mean over tracers", ""]
    return [*heading, *text.table(["case", *METRICS.values()], cells)[:-1]]


def gains(names: list[str], options: argparse.Namespace) -> list[str]:
    """Lines of a table of what the reference gains over what it must beat, tracers down, metrics across."""
    reference = read_scores(options.reference, options.out)
    cells = []
    for name in (other for other in BARS if other in names and other != options.reference):
        other = read_scores(name, options.out)
        for tracer in tracers_of(reference):
            gaps = (difference(reference[m], other[m], tracer, options.seed) for m in METRICS)
            cells.append([f"`{name}`", tracer, *(_signed(gap.estimate, gap.low, gap.high) for gap in gaps)])
    heading = ["", f"### `{options.reference}` minus others", ""]
    return [*heading, *text.table(["other", "tracer", *METRICS.values()], cells)[:-1]]


def _signed(estimate: float, low: float, high: float) -> str:
    return f"{estimate:+.3f} [{low:+.3f}, {high:+.3f}]"
