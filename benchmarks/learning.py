"""What helps learning? Presets and single switches, trained for equal seconds on one simulated cohort.

    python benchmarks/learning.py OUT                                   # a look: 4 mm, 20 s a case, three cases
    python benchmarks/learning.py OUT --grid 3mm --subjects 84 --seconds 900 --cases all --processes 2

Each case is trained for the steps that fit in ``--seconds`` at its own measured cost of a step, so that what else
the machine does changes nothing: on a CPU each case has one thread and its cost is processor time, on a GPU it is
elapsed time. Every case then synthesises the same held-out subjects with the same sampler and is scored in SUVr.
A case that is done is not run again: the same command goes on after an interruption. Writes OUT/learning.md,
learning.tsv, learning.png (validation error in training) and differences.png.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes

import relapet
from relapet import api
from relapet.config import RunConfig, load_config
from relapet.evaluation.statistics import Interval, bootstrap_difference, bootstrap_mean
from relapet.imaging.bids import index_derivative
from relapet.imaging.grid import GRIDS, get_grid
from relapet.messages import Silent
from relapet.methods import build_method
from relapet.report import text
from relapet.report.style import MARKERS, PALETTE, house_style, new_figure, save_figure
from relapet.runs import RunFolder
from relapet.simulation.cohort import SimulationConfig
from relapet.training.distributed import make_fabric
from relapet.training.engine import Hooks, Trainer
from relapet.training.material import prepare_material

ON_GPU = torch.cuda.is_available()
TIMED_STEPS = 5
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


@dataclass(frozen=True)
class Case:
    """A preset with single settings over it."""

    preset: str
    settings: tuple[str, ...] = ()


REFERENCE = "all_on"
"""`fast` with the relativistic adversarial term that it has off: what every switch is turned off from."""


def _all_on(*settings: str) -> Case:
    return Case("fast", ("method.adversarial_weight=0.01", *settings))


CASES = {
    REFERENCE: _all_on(),
    # how much the start alone changes: a difference within the spread of these is not a finding
    "all_on_seed1": _all_on("train.seed=1"),
    "all_on_seed2": _all_on("train.seed=2"),
    "released": Case("released"),
    "paper": Case("paper"),
    # without the relativistic term, as FICD
    "fast": Case("fast"),
    "fast_seed1": Case("fast", ("train.seed=1",)),
    "standard_gan": _all_on("method.adversarial_loss=standard"),
    "standard_gan_no_penalty": _all_on("method.adversarial_loss=standard", "method.penalty_weight=0"),
    "penalty_tenth": _all_on("method.penalty_weight=1e-4"),
    "penalty_released": _all_on("method.penalty_reduction=released"),
    "no_template": _all_on(
        "data.template=false",
        "method.residual=false",
        "method.residual_sd=0",
        "method.generator.condition_channels=2",
    ),
    "no_preconditioning": _all_on("method.residual_sd=0"),
    "predict_eps": _all_on("method.prediction=eps", "method.residual=false", "method.residual_sd=0"),
    "predict_v": _all_on("method.prediction=v", "method.residual=false", "method.residual_sd=0"),
    "no_t1w": _all_on("data.inputs=[FLAIR]"),
    "no_flair": _all_on("data.inputs=[T1w]"),
    "minmax": _all_on("data.pet_scaling=minmax"),
    "no_ema": _all_on("train.ema_decay=0"),
    "no_image_l1": _all_on("method.image_weight=0"),
    "no_target": _all_on("method.target_weight=0"),
    "published_critic": _all_on("method.discriminator={kind: patch, channels: 4, layers: 2}"),
    "critic_told_t": _all_on("method.discriminator.told_timestep=true"),
    "adversarial_10x": _all_on("method.adversarial_weight=0.1"),
    "attention": _all_on("method.generator.attention=lowest"),
    "two_blocks": _all_on("method.generator.residual_blocks=2"),
    "no_augment": _all_on("data.augment={flip_probability: 0, contrast: 0}"),
    "published_lr": _all_on("train.lr=5e-5", "train.lr_schedule=constant"),
    "full_precision": _all_on("train.precision=32-true"),
    "dropped_inputs": _all_on("data.augment.drop_t1w=0.15", "data.augment.drop_flair=0.15"),
}
"""Every switch is one setting of all_on (or the few that hang together), so a row says what that setting does."""


def settings_of(name: str, options: argparse.Namespace, steps: int) -> RunConfig:
    """A case's settings for a training of ``steps``; the adversarial term starts after a fifth, as published."""
    case = CASES[name]
    common = [
        f"train.steps={steps}",
        f"method.adversarial_start={steps // 5}",
        f"train.lr_warmup={min(100, steps // 10)}",
        f"train.validate_every={max(1, steps // 3)}",
        f"train.checkpoint_every={max(1, steps // 2)}",
        "train.log_every=10",
        f"train.validation_steps={options.sample_steps}",
        f"train.seed={options.seed}",
        # intervals of regional SUVr are not looked at here
        "train.calibrate=false",
        "data.validation_fraction=0.036",
        "data.test_fraction=0.3",
        "sample.sampler=ddim",
        f"sample.steps={options.sample_steps}",
        "sample.count=1",
    ]
    preset = load_config(case.preset)
    if preset.train.lr_warmup == 0:
        common.remove(f"train.lr_warmup={min(100, steps // 10)}")
    if preset.train.ema_decay and "train.ema_decay=0" not in case.settings:
        # a window of a tenth of the steps, whatever their number
        common.append(f"train.ema_decay={max(0.9, min(0.9995, 1 - 10 / steps)):.5f}")
    return load_config(case.preset, settings=[*common, *case.settings])


def seconds_a_step(config: RunConfig, run: Path, cohort: Path) -> float:
    """Cost of a training step with every phase at work, measured on the cohort's own volumes."""
    steps = TIMED_STEPS + 2
    changed = {"steps": steps, "validate_every": steps + 1, "checkpoint_every": steps + 1}
    # Steps of the warm-up cost less than those with both players.
    timed = config.model_copy(
        update={
            "train": config.train.model_copy(update=changed),
            "method": config.method.model_copy(update={"adversarial_start": 0}),
        }
    )
    clock = time.perf_counter if ON_GPU else time.process_time
    stamps = []
    fabric = make_fabric(timed.train)
    visits = index_derivative(cohort)
    data = prepare_material(timed, cohort, visits, RunFolder(run), Silent()).training
    method = build_method(timed.method.model_dump(mode="json"))
    trainer = Trainer(method, data, timed.data.augment, timed.train, fabric)
    trainer.run(Hooks(on_step=lambda progress: stamps.append(clock())))
    return statistics.median(np.diff(stamps[1:]))


def run_case(name: str, options: argparse.Namespace) -> None:
    """Train, synthesise and score one case in this process."""
    folder, cohort = options.out / name, options.out / "cohort"
    trial = settings_of(name, options, steps=10)
    cost = seconds_a_step(trial, folder / "timing", cohort)
    steps = max(10, int(options.seconds / cost))
    config = settings_of(name, options, steps)
    run = RunFolder(folder / "run")
    api.train(config, cohort, run.path, resume=run.path.exists())
    held_out = run.read_manifest().split["test"]
    started = time.process_time()
    api.synthesize(cohort, folder / "synthetic", run.path, participants=held_out)
    synthesis = (time.process_time() - started) / len(held_out) / len(config.data.tracers)
    api.evaluate(cohort, [folder / "synthetic"], folder / "evaluation")
    cost_record = {"seconds_a_step": cost, "steps": steps, "cpu_seconds_a_volume": synthesis}
    (folder / "cost.json").write_text(json.dumps(cost_record))


def is_done(folder: Path) -> bool:
    return (folder / "cost.json").is_file()


def run_cases(names: list[str], options: argparse.Namespace) -> list[str]:
    """Run what is not done, each case in a process of its own; the names of those that failed."""

    def one(name: str) -> str | None:
        arguments = [sys.executable, __file__, *sys.argv[1:], "--one", name]
        threads = {} if ON_GPU else {"OMP_NUM_THREADS": "1"}
        (options.out / name).mkdir(exist_ok=True)
        with (options.out / name / "log.txt").open("a") as log:
            done = subprocess.run(arguments, env=os.environ | threads, stdout=log, stderr=log, check=False)
        print(f"{name}: {'done' if done.returncode == 0 else f'failed, see {log.name}'}", flush=True)
        return None if done.returncode == 0 else name

    waiting = [name for name in names if not is_done(options.out / name)]
    with ThreadPoolExecutor(options.processes) as pool:
        return [name for name in pool.map(one, waiting) if name]


def read_scores(name: str, out: Path) -> pd.DataFrame:
    """Per subject: index (tracer, subject), a column a metric; ``name`` may be one of evaluate's own methods."""
    folder = name if (out / name).is_dir() else next(case for case in CASES if is_done(out / case))
    wanted = "rela" if (out / name).is_dir() else name
    images, regions = (
        _read(out / folder / "evaluation" / f"{table}.tsv", wanted) for table in ("image_metrics", "voi")
    )
    regions = regions[regions["kind"] == "voi"]
    error = (regions["synth_suvr"] - regions["real_suvr"]).abs()
    return images.assign(voi_error=error.groupby(level=["tracer", "subject"]).mean())


def _read(table: Path, method: str) -> pd.DataFrame:
    scores = pd.read_csv(table, sep="\t", dtype={"subject": str})
    return scores[scores["method"] == method].set_index(["tracer", "subject"])


def rows(names: list[str], out: Path, seed: int) -> Iterator[dict[str, object]]:
    """One row a tracer, case and metric: the mean, and the difference from the reference, with intervals."""
    reference = read_scores(REFERENCE, out)
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
        f"{options.seconds:g} s of training a case ({device}), sampler ddim with {options.sample_steps} steps, "
        f"n = {int(table['n'].max())} held-out subjects.",
        f"Mean over subjects; in brackets the 95 % bootstrap interval of the difference from `{REFERENCE}`.",
    ]
    if "fast" in names:
        lines += gains(names, options.out, options.seed)
    lines += overview(table, names)
    for metric, title in METRICS.items():
        part = table[table["metric"] == metric].set_index(["case", "tracer"])
        tracers = list(dict.fromkeys(part.index.get_level_values("tracer")))
        cells = []
        for name in names:
            cost = options.out / name / "cost.json"
            steps = json.loads(cost.read_text())["steps"] if cost.is_file() else "-"
            cells.append([f"`{name}`", str(steps), *(_score(part.loc[(name, tracer)]) for tracer in tracers)])
        lines += ["", f"### {title}", "", *text.table(["case", "steps", *tracers], cells)[:-1]]
    return "\n".join(lines) + "\n"


def _score(row: pd.Series) -> str:
    """A mean, and the interval of its difference from the reference."""
    case, _ = row.name
    gap = f" [{row['minus_reference_low']:+.3g}, {row['minus_reference_high']:+.3g}]"
    return f"{row['mean']:.4g}" + ("" if case == REFERENCE else gap)


def overview(table: pd.DataFrame, names: list[str]) -> list[str]:
    """Lines of a table of every case's difference from the reference, metrics across."""
    gaps = table[table["tracer"] == MEAN].set_index(["case", "metric"])[DIFFERENCE]
    cells = [
        [f"`{name}`", *(_signed(*gaps.loc[(name, metric)]) for metric in METRICS)]
        for name in names
        if name != REFERENCE
    ]
    heading = ["", f"### Difference from `{REFERENCE}`, mean over tracers", ""]
    return [*heading, *text.table(["case", *METRICS.values()], cells)[:-1]]


def gains(names: list[str], out: Path, seed: int) -> list[str]:
    """Lines of a table of what `fast` gains over what it must beat, tracers down, metrics across."""
    fast = read_scores("fast", out)
    cells = []
    for name in (other for other in ("released", "paper", "tracer_mean") if other in names):
        other = read_scores(name, out)
        for tracer in tracers_of(fast):
            gaps = (difference(fast[metric], other[metric], tracer, seed) for metric in METRICS)
            cells.append([f"`{name}`", tracer, *(_signed(gap.estimate, gap.low, gap.high) for gap in gaps)])
    return [
        "",
        "### `fast` minus others",
        "",
        *text.table(["other", "tracer", *METRICS.values()], cells)[:-1],
    ]


def _signed(estimate: float, low: float, high: float) -> str:
    return f"{estimate:+.3f} [{low:+.3f}, {high:+.3f}]"


def draw_curves(names: list[str], out: Path) -> None:
    """Validation error of each case against its share of the seconds."""
    with house_style():
        figure = new_figure(7.2, 2.8, "Validation error in training, mean over tracers")
        axes = figure.add_subplot()
        for number, name in enumerate(names):
            log = pd.read_csv(RunFolder(out / name / "run").log, sep="\t")
            curve = log[log["name"].str.startswith("mae/")].groupby("step")["value"].mean()
            axes.plot(
                curve.index / json.loads((out / name / "cost.json").read_text())["steps"],
                curve,
                color=PALETTE[number % len(PALETTE)],
                marker=MARKERS[number // len(PALETTE) % len(MARKERS)],
                markersize=3,
                label=name,
            )
        axes.set(xlabel="share of the seconds", ylabel="MAE of few-step samples, SUVr", yscale="log")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), ncols=1 + len(names) // 16)
        save_figure(figure, out / "learning.png")


def draw_differences(table: pd.DataFrame, names: list[str], out: Path) -> None:
    """Each case's difference from the reference, over the range that other starts of the reference span."""
    seeds = [name for name in names if name.startswith(REFERENCE)]
    others = [*(name for name in names if name not in seeds), "tracer_mean"][::-1]
    shown = {
        "psnr": "PSNR, dB",
        "voi_error": "error of VOIs, SUVr",
        "spectrum_distance": "spectrum distance, dB",
    }
    with house_style():
        figure = new_figure(7.2, 1.2 + 0.16 * len(others), f"Difference from {REFERENCE}, mean over tracers")
        panels = figure.subplots(1, len(shown), sharey=True)
        for axes, (metric, label) in zip(panels, shown.items(), strict=True):
            part = table[(table["tracer"] == MEAN) & (table["metric"] == metric)].set_index("case")
            starts = part.loc[seeds, "minus_reference"]
            axes.axvspan(starts.min(), starts.max(), color="0.85", linewidth=0)
            axes.axvline(0, color="0.5", linewidth=0.6)
            edge = 1.5 * max(abs(part.loc["tracer_mean", "minus_reference"]), 0.02)
            for row, name in enumerate(others):
                _draw_gap(axes, row, part.loc[name, DIFFERENCE].to_numpy(float), edge)
            axes.set(xlabel=label, xlim=(-1.1 * edge, 1.1 * edge))
            axes.set_yticks(range(len(others)), labels=others)
        save_figure(figure, out / "differences.png")


def _draw_gap(axes: Axes, row: int, difference: np.ndarray, edge: float) -> None:
    """A point with its interval; beyond ``edge`` an arrow and the number, so that the others stay legible."""
    gap, low, high = difference
    if abs(gap) <= edge:
        axes.errorbar(gap, row, xerr=[[gap - low], [high - gap]], fmt="o", markersize=3, color=PALETTE[0])
        return
    side, (marker, align) = np.sign(gap), ("<", "left") if gap < 0 else (">", "right")
    axes.plot(side * edge, row, marker=marker, markersize=4, color=PALETTE[1])
    axes.text(side * edge * 0.92, row, f"{gap:+.2g}", ha=align, va="center")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, nargs="?", default=Path("learning-output"))
    parser.add_argument("--cases", nargs="+", choices=[*CASES, "all"], default=["fast", "released", "paper"])
    parser.add_argument("--grid", choices=GRIDS, default="4mm")
    parser.add_argument("--subjects", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=20, help="training time a case")
    parser.add_argument("--sample-steps", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1, help="cases at a time")
    parser.add_argument("--one", choices=CASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        run_case(options.one, options)
        return
    cohort = options.out / "cohort"
    if not cohort.exists():
        config = SimulationConfig(subjects=options.subjects, grid=get_grid(options.grid), seed=31)
        api.simulate(cohort, config, n_procs=options.processes)
    names = list(CASES) if "all" in options.cases else list(dict.fromkeys([REFERENCE, *options.cases]))
    failed = run_cases(names, options)
    done = [name for name in names if is_done(options.out / name)]
    if REFERENCE in done:
        shown = [*done, "tracer_mean", "visible_ceiling"]
        table = pd.DataFrame(rows(shown, options.out, options.seed))
        table.to_csv(options.out / "learning.tsv", sep="\t", index=False)
        (options.out / "learning.md").write_text(text := markdown(table, shown, options), encoding="utf-8")
        draw_curves(done, options.out)
        draw_differences(table, done, options.out)
        print(text)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
