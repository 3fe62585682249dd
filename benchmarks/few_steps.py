"""What do few sampling steps keep, and what does a critic buy? Single samples and sets of them against measured PET.

    python benchmarks/few_steps.py                       # a look: the shipped model, eight people simulated first
    python benchmarks/few_steps.py DERIVATIVE --run plain=RUN --run critic=OTHER --steps 1 2 4 --out TABLE
    python benchmarks/few_steps.py DERIVATIVE --run simulated=simulated --steps 1 2 4 10 50 --participants 40

Of every run at every number of steps: a single sample's PSNR, SSIM, spectrum distance and gradient ratio; the mean of
all samples' PSNR, SSIM and VOI r; the samples' CRPS and spread over error in VOIs; and how well a classifier tells
single samples from measured PET (a two-sample test: Lopez-Paz and Oquab 2017, arXiv:1610.06545; 0.5: it cannot), by
the log power of each frequency and of each region. Everything as the model gives it: no adjustment, no calibration.
Intervals are over participants; differences are paired, each row against the first run's at as many steps and against
the same run at the most steps. Writes OUT.md, and every participant's numbers to OUT.tsv.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from relapet.evaluation.scores.agreement import bootstrap_r, pearson, row_median
from relapet.evaluation.scores.image_metrics import (
    ScanPair,
    gradient_ratio,
    psnr,
    radial_spectrum_db,
    spectrum_distance,
    ssim,
)
from relapet.evaluation.scores.voi import default_atlas, sum_regions, target_vois
from relapet.evaluation.statistics import bootstrap_difference, bootstrap_mean, percentile_interval
from relapet.evaluation.uncertainty.samples import crps
from relapet.imaging.derivatives import index_measured
from relapet.imaging.template import load_template
from relapet.settings import changed
from relapet.simulation.cohort import SimulationConfig, simulate_cohort
from relapet.synthesis.beside import synthesize_beside
from relapet.synthesis.synthesizer import Synthesizer
from relapet.types import Labels, Mask, Volume

SCORES = (
    *("psnr_one", "ssim_one", "spectrum_one", "gradient_one"),
    *("psnr_mean", "ssim_mean", "crps", "mae"),
)
"""Of one participant; the first four of a single sample."""
TITLES = {
    "psnr_one": "PSNR, one (dB)",
    "ssim_one": "SSIM, one",
    "spectrum_one": "spectrum distance, one (dB)",
    "gradient_one": "gradient ratio, one",
    "psnr_mean": "PSNR, mean (dB)",
    "ssim_mean": "SSIM, mean",
    "crps": "CRPS (SUVr)",
    "mae": "MAE of the mean (SUVr)",
}
_BOOTSTRAP, _FOLDS = 2000, 5
_TEXTURE_MM = 4.0
"""Smoothing whose remainder is called texture in the classifier's regional features."""


@dataclass(frozen=True)
class Job:
    """One row: a run at a number of steps."""

    derivative: Path
    name: str
    run: str
    steps: int
    count: int
    participants: int
    skip: int
    device: str | None


@dataclass
class Found:
    """What a row's samples of one tracer are worth; a row a participant."""

    subjects: list[str] = field(default_factory=list)
    scores: list[dict[str, float]] = field(default_factory=list)
    real: list[Any] = field(default_factory=list)
    """Measured regional SUVr, ``(V,)``."""
    drawn: list[Any] = field(default_factory=list)
    """Regional SUVr of each sample, ``(V, N)``."""
    features: list[Any] = field(default_factory=list)
    """Of the measured map and of a single sample, ``(2, F)``."""
    r: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    """What `voi_r` found."""


def draw(job: Job) -> dict[str, Found]:
    """Draw and score one row, by tracer."""
    torch.set_num_threads(1)
    synthesizer = replace(Synthesizer.from_run(job.run, job.device), adjustment={})
    sample = changed(synthesizer.sample, {"steps": job.steps, "count": job.count})
    atlas = default_atlas()
    brain = load_template(synthesizer.grid).brain
    labels = atlas.labels(synthesizer.grid.shape, synthesizer.grid.affine)
    found: dict[str, Found] = {}
    for files in index_measured(job.derivative)[job.skip : job.skip + job.participants]:
        both = synthesize_beside(files, synthesizer, sample)
        for name, real in both.measured.items():
            samples = both.made[name].samples
            spec = synthesizer.tracer(name)
            vois = target_vois(list(atlas.names.values()), spec)

            def regional(volume: Volume, vois: list[str] = vois) -> Any:
                means = sum_regions(volume, labels, atlas.names).vois()
                return np.array([means.get(voi, np.nan) for voi in vois])

            tracer = found.setdefault(name, Found())
            tracer.subjects.append(files.visit.stem)
            tracer.real.append(regional(real))
            tracer.drawn.append(np.stack([regional(volume) for volume in samples], axis=1))
            one = ScanPair(real, samples[0], brain, spec.suvr_window)
            mean = ScanPair(real, np.mean(samples, axis=0, dtype=np.float32), brain, spec.suvr_window)
            kept = np.isfinite(tracer.real[-1])
            drawn, truth = tracer.drawn[-1][kept], tracer.real[-1][kept]
            tracer.scores.append(
                {
                    "psnr_one": psnr(one),
                    "ssim_one": ssim(one),
                    "spectrum_one": spectrum_distance(one),
                    "gradient_one": gradient_ratio(one),
                    "psnr_mean": psnr(mean),
                    "ssim_mean": ssim(mean),
                    "crps": float(crps(drawn, truth).mean()),
                    "mae": float(np.abs(drawn.mean(axis=1) - truth).mean()),
                }
            )
            tracer.features.append(
                [texture(v, brain, labels, synthesizer.grid.voxel_size) for v in (real, samples[0])]
            )
    return found


def texture(volume: Volume, brain: Mask, labels: Labels, voxel_mm: float) -> Any:
    """Log power of each frequency (dB), and of what is finer than some millimetres in each region, ``(F,)``."""
    fine = np.where(brain, volume - ndimage.gaussian_filter(volume, _TEXTURE_MM / voxel_mm), 0)
    counts = np.bincount(labels.ravel())
    power = np.bincount(labels.ravel(), np.square(fine).ravel())[1:] / np.maximum(counts[1:], 1)
    return np.concatenate([radial_spectrum_db(volume, brain), 10 * np.log10(power[counts[1:] > 0] + 1e-12)])


def two_sample(found: Found) -> tuple[float, float, float]:
    """Area under the curve of a classifier of samples against scans, by people it has not seen; with its interval."""
    features = np.array(found.features)
    n = len(features)
    rows, real = features.reshape(2 * n, -1), np.tile([1, 0], n)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    groups = np.repeat(np.arange(n), 2)
    score = cross_val_predict(
        model, rows, real, groups=groups, cv=GroupKFold(_FOLDS), method="decision_function"
    )
    real_score, sample_score = score.reshape(n, 2).T
    above = (real_score[:, None] > sample_score) + 0.5 * (real_score[:, None] == sample_score)
    drawn = np.random.default_rng(0).integers(0, n, (_BOOTSTRAP, n))
    counts = np.stack([np.bincount(row, minlength=n) for row in drawn]) / n
    return (float(above.mean()), *percentile_interval(((counts @ above) * counts).sum(axis=1)))


def voi_r(found: Found, which: str) -> tuple[Any, Any]:
    """See `_voi_r`; found once."""
    if which not in found.r:
        found.r[which] = _voi_r(found, which)
    return found.r[which]


def _voi_r(found: Found, which: str) -> tuple[Any, Any]:
    """Median over VOIs of r over participants and its bootstrap draws, of one sample or of the samples' mean."""
    drawn = np.array(found.drawn)
    values = drawn[..., 0] if which == "one" else drawn.mean(axis=-1)
    real = np.array(found.real)
    kept = np.isfinite(real).all(axis=0)
    pair = real[:, kept], values[:, kept]
    return row_median(pearson(*pair)[None])[0], row_median(bootstrap_r(*pair, _BOOTSTRAP, 0))


def spread(found: Found, together: bool = False) -> float:
    """Root mean variance of VOIs over samples, over the root mean square of their mean's error.

    ``together``: of the mean over all VOIs, which tells whether they rise and fall together as they should.
    """
    drawn, real = np.array(found.drawn), np.array(found.real)
    if together:
        kept = np.isfinite(real).all(axis=0)
        drawn, real = drawn[:, kept].mean(axis=1, keepdims=True), real[:, kept].mean(axis=1, keepdims=True)
    count = drawn.shape[-1]
    error = np.nanmean(np.square(drawn.mean(axis=-1) - real))
    variance = np.nanmean(drawn.var(axis=-1, ddof=1))
    # the mean of N samples errs by what the truth and the mean of N draws differ: 1 + 1/N of the variance
    return float(np.sqrt(variance * (1 + 1 / count) / error))


def line(found: Found, against: dict[str, Found]) -> list[str]:
    """A row's cells: the scores with intervals, each with its difference from others of the same participants."""
    table, cells = pd.DataFrame(found.scores), []
    for score in SCORES:
        mean = bootstrap_mean(table[score].to_numpy(), _BOOTSTRAP, 0)
        text = f"{mean.estimate:.4g} [{mean.low:.4g}, {mean.high:.4g}]"
        for other in against.values():
            their = pd.DataFrame(other.scores)[score].to_numpy()
            gap = bootstrap_difference(table[score].to_numpy(), their, _BOOTSTRAP, 0)
            text += f"; {gap.estimate:+.3g} [{gap.low:+.3g}, {gap.high:+.3g}]"
        cells.append(text)
    for which in ("one", "mean"):
        value, drawn = voi_r(found, which)
        low, high = percentile_interval(drawn)
        text = f"{value:.3f} [{low:.3f}, {high:.3f}]"
        for other in against.values():
            their, others = voi_r(other, which)
            low, high = percentile_interval(drawn - others)
            text += f"; {value - their:+.3f} [{low:+.3f}, {high:+.3f}]"
        cells.append(text)
    cells += [f"{spread(found):.2f}", f"{spread(found, together=True):.2f}"]
    cells.append("{:.3f} [{:.3f}, {:.3f}]".format(*two_sample(found)))
    return cells


def report(rows: dict[tuple[str, int], dict[str, Found]], count: int) -> str:
    """The tables in Markdown, one a tracer."""
    first, most = next(iter(rows))[0], max(steps for _, steps in rows)
    titles = [
        *(TITLES[s] for s in SCORES),
        "VOI r, one",
        "VOI r, mean",
        "spread / error",
        "of all VOIs together",
        "told apart (AUC)",
    ]
    parts = []
    for tracer in next(iter(rows.values())):
        parts += [
            f"## {tracer}",
            "",
            "| run | steps | " + " | ".join(titles) + " |",
            "|---" * (len(titles) + 2) + "|",
        ]
        n = 0
        for (name, steps), found in rows.items():
            others = {
                other: rows[other][tracer]
                for other in ((first, steps), (name, most))
                if other in rows and other != (name, steps)
            }
            n = len(found[tracer].scores)
            parts.append(f"| {name} | {steps} | " + " | ".join(line(found[tracer], others)) + " |")
        parts += ["", f"{n} participants, {count} samples each.", ""]
    notes = (
        "One: a single sample; mean: of all samples. After each score with its interval stand its paired differences, "
        f"with intervals: from `{first}` at as many steps, then from the same run at {most} steps, where these are "
        "other rows. Told apart: area under the curve of a classifier of samples against scans, 0.5 where it cannot."
    )
    return "\n".join([notes, "", *parts])


def draw_all(
    derivative: Path, runs: Mapping[str, str], options: argparse.Namespace
) -> dict[tuple[str, int], dict[str, Found]]:
    """Every run at every number of steps, by name and steps, then by tracer."""
    wanted = [(name, steps) for name in runs for steps in options.steps]
    wanted += [(next(iter(runs)), steps) for steps in options.most]
    one = Job(derivative, "", "", 0, options.count, options.participants, options.skip, options.device)
    jobs = [replace(one, name=name, run=runs[name], steps=steps) for name, steps in wanted]
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        return dict(zip(wanted, pool.map(draw, jobs), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("derivative", type=Path, nargs="?", help="default: a few people who are simulated")
    parser.add_argument("--run", action="append", metavar="NAME=RUN", help="default: the shipped model")
    parser.add_argument("--steps", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument(
        "--most", type=int, nargs="*", default=[], help="further steps, of the first run alone"
    )
    parser.add_argument("--count", type=int, default=8, help="samples")
    parser.add_argument("--participants", type=int, default=40)
    parser.add_argument("--skip", type=int, default=0, help="participants at the beginning who are left out")
    parser.add_argument("--device")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    runs = dict(word.split("=", 1) for word in options.run or ["simulated=simulated"])
    with tempfile.TemporaryDirectory() as folder:
        derivative = options.derivative
        if derivative is None:
            grid = Synthesizer.from_run(next(iter(runs.values()))).grid
            derivative = simulate_cohort(
                SimulationConfig(subjects=8, grid=grid, seed=1), Path(folder) / "cohort"
            )
        rows = draw_all(derivative, runs, options)
    text = report(rows, options.count)
    print(text)
    if options.out is not None:
        options.out.with_suffix(".md").write_text(text + "\n", encoding="utf-8")
        frames = [
            pd.DataFrame(found.scores).assign(
                run=name, steps=steps, tracer=tracer, participant=found.subjects
            )
            for (name, steps), by_tracer in rows.items()
            for tracer, found in by_tracer.items()
        ]
        pd.concat(frames).to_csv(options.out.with_suffix(".tsv"), sep="\t", index=False)


if __name__ == "__main__":
    main()
