"""What helps learning? Methods, presets and single switches, trained for equal seconds on one simulated cohort.

    python benchmarks/learning.py OUT                                   # a look: 4 mm, 20 s a case, three cases
    python benchmarks/learning.py OUT --grid 3mm --subjects 84 --seconds 900 --cases all --processes 2
    python benchmarks/learning.py OUT --case wide fast method.generator.channels=[32,64,128] --cases wide
    python benchmarks/learning.py --list                                # every case and its settings

A case is a preset (or a YAML file) of any method, and single settings over it; --case adds one of your own. Each
is trained for the steps that fit in ``--seconds`` at its own measured cost of a step, so that what else the machine
does changes nothing: on a CPU each case has one thread and its cost is processor time, on a GPU it is elapsed
time. What is fitted in closed form comes on top and is reported. Every case then synthesises the same held-out
subjects with the same number of network calls and is scored in SUVr. A case that is done is not run again: the
same command goes on after an interruption. Writes OUT/learning.md, learning.tsv, learning.png (validation error in
training) and differences.png.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
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
from relapet.errors import InputError
from relapet.evaluation.statistics import Interval, bootstrap_difference, bootstrap_mean
from relapet.imaging.derivatives import index_measured
from relapet.imaging.grid import GRIDS, get_grid
from relapet.messages import Silent
from relapet.methods import METHODS, build_method
from relapet.report import text
from relapet.report.style import MARKERS, PALETTE, house_style, new_figure, save_figure
from relapet.runs import RunFolder
from relapet.setting_files import presets
from relapet.simulation.cohort import SimulationConfig
from relapet.training.distributed import make_fabric
from relapet.training.engine import Hooks, Trainer
from relapet.training.loader import Source, collate
from relapet.training.material import give_prior, prepare_material

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
    """A preset, or a YAML file of settings, with single settings over it."""

    preset: str
    settings: tuple[str, ...] = ()

    def load(self, settings: Sequence[str] = ()) -> RunConfig:
        """The case's settings over ``settings``, which are over the preset."""
        together = [*settings, *self.settings]
        if self.preset in presets():
            return load_config(self.preset, settings=together)
        return load_config(file=Path(self.preset), settings=together)


ALL_ON = "all_on"
"""`fast` with the relativistic adversarial term that it has off: what every switch is turned off from."""
BARS = ("tracer_mean", "linear", "regression", "released", "paper")
"""What the reference is compared with tracer by tracer, where it was run."""


def _all_on(*settings: str) -> Case:
    return Case("fast", ("method.adversarial_weight=0.01", *settings))


def _white(*settings: str) -> Case:
    """`fast` in white noise about the training mean, one tracer a call, with the L1 of the paper."""
    plain = (
        *("method.noise=white", "method.residual_sd=0.1", "method.tracers=one", "method.mean_share=0"),
        *("method.regional_weight=0", "method.image_weight=1", "data.prior=mean", "sample.sampler=ddim"),
    )
    return Case("fast", (*plain, *settings))


CASES = {
    # each method that has a preset of its name
    **{name: Case(name) for name in METHODS if name in presets()},
    "demo": Case("demo"),
    "fast": Case("fast"),
    "released": Case("released"),
    "paper": Case("paper"),
    # how much the start alone changes: a difference within the spread of these is not a finding
    "fast_seed1": Case("fast", ("train.seed=1",)),
    "fast_seed2": Case("fast", ("train.seed=2",)),
    # one part of `fast` turned off or changed
    "mean_prior": Case("fast", ("data.prior=mean",)),
    "white_noise": _white(),
    "one_tracer": Case("fast", ("method.tracers=one",)),
    "no_mean_share": Case("fast", ("method.mean_share=0",)),
    "no_regional": Case("fast", ("method.regional_weight=0",)),
    "image_l1": Case("fast", ("method.image_weight=1",)),
    "not_packed": Case("fast", ("method.generator.packed=false", "method.generator.channels=[16,32,64]")),
    "ddim": Case("fast", ("sample.sampler=ddim",)),
    "regression_linear_prior": Case("regression", ("data.prior=linear",)),
    # one part of `white_noise` turned off or changed
    "white_no_prior": _white("data.prior=none", "method.residual_sd=0"),
    "white_linear_prior": _white("data.prior=linear"),
    "no_preconditioning": _white("method.residual_sd=0"),
    "predict_eps": _white("method.prediction=eps", "method.residual_sd=0"),
    "predict_v": _white("method.prediction=v", "method.residual_sd=0"),
    "no_image_l1": _white("method.image_weight=0"),
    # one part of `all_on` turned off or changed
    ALL_ON: _all_on(),
    "all_on_seed1": _all_on("train.seed=1"),
    "all_on_seed2": _all_on("train.seed=2"),
    "standard_gan": _all_on("method.adversarial_loss=standard"),
    "standard_gan_no_penalty": _all_on("method.adversarial_loss=standard", "method.penalty_weight=0"),
    "penalty_tenth": _all_on("method.penalty_weight=1e-4"),
    "penalty_released": _all_on("method.penalty_reduction=released"),
    "no_t1w": _all_on("data.inputs=[FLAIR]"),
    "no_flair": _all_on("data.inputs=[T1w]"),
    "minmax": _all_on("data.pet_scaling=minmax"),
    "no_ema": _all_on("train.ema_decay=0"),
    "no_target": _all_on("method.target_weight=0"),
    "published_critic": _all_on("method.discriminator={kind: patch, channels: 4, layers: 2}"),
    "critic_told_t": _all_on("method.discriminator.timestep_conditioned=true"),
    "adversarial_10x": _all_on("method.adversarial_weight=0.1"),
    "attention": _all_on("method.generator.attention=lowest"),
    "two_blocks": _all_on("method.generator.residual_blocks=2"),
    "no_augment": _all_on("data.augment={flip_probability: 0, contrast: 0}"),
    "published_lr": _all_on("train.lr=5e-5", "train.lr_schedule=constant"),
    "full_precision": _all_on("train.precision=32-true"),
    "dropped_inputs": _all_on("data.augment.drop_t1w=0.15", "data.augment.drop_flair=0.15"),
}
"""Every switch is one setting (or the few that hang together), so a row says what that setting does."""


def cases_of(options: argparse.Namespace) -> dict[str, Case]:
    """The cases above and those of the call."""
    own = {name: Case(preset, tuple(settings)) for name, preset, *settings in options.case}
    return CASES | own


def settings_of(case: Case, options: argparse.Namespace, steps: int) -> RunConfig:
    """A case's settings for a training of ``steps``; an adversarial term starts after a fifth, as published."""
    plain = case.load()
    common = [
        f"train.steps={steps}",
        "train.seconds=null",
        f"train.validate_every={max(1, steps // 3)}",
        f"train.checkpoint_every={max(1, steps // 2)}",
        "train.log_every=10",
        f"train.validation_steps={options.sample_steps}",
        f"train.seed={options.seed}",
        # intervals of regional SUVr are not looked at here
        "train.calibrate=false",
        "data.validation_fraction=0.036",
        "data.test_fraction=0.3",
        f"sample.steps={options.sample_steps}",
        "sample.count=1",
    ]
    if plain.sample.sampler == "ddpm":
        common.append("sample.sampler=ddim")  # ancestral steps need hundreds of calls
    if hasattr(plain.method, "adversarial_start"):
        common.append(f"method.adversarial_start={steps // 5}")
    if plain.train.lr_warmup:
        common.append(f"train.lr_warmup={min(100, steps // 10)}")
    if plain.train.ema_decay:
        # a window of a tenth of the steps, whatever their number
        common.append(f"train.ema_decay={max(0.9, min(0.9995, 1 - 10 / steps)):.5f}")
    return case.load(common)


def clock() -> float:
    """Seconds of this process: of the processor, or elapsed ones where a GPU does the work."""
    return time.perf_counter() if ON_GPU else time.process_time()


def measure_cost(config: RunConfig, run: Path, cohort: Path) -> dict[str, float]:
    """Seconds of the fit in closed form and of a step with every phase at work (0: none), on the cohort's volumes."""
    steps = TIMED_STEPS + 2
    train = config.train.changed(steps=steps, validate_every=steps + 1, checkpoint_every=steps + 1)
    timed = config.changed(train=train)
    if hasattr(config.method, "adversarial_start"):
        # Steps of the warm-up cost less than those with both players.
        timed = timed.changed(method=config.method.changed(adversarial_start=0))
    fabric = make_fabric(timed.train)
    material = prepare_material(timed, cohort, index_measured(cohort), RunFolder(run), Silent())
    started = clock()
    give_prior(material, timed.data, RunFolder(run), Silent())
    method = build_method(timed.method.model_dump(mode="json"), material.manifest.facts())
    if method.targets == "all":
        material.training.hold_together()
    method.fit(collate([item]) for item in material.training.whole_visits())
    cost = {"seconds_of_fit": clock() - started, "seconds_a_step": 0.0}
    if method.phases():
        stamps: list[float] = []
        source = Source(material.training, timed.data.augment, method.pairing)
        trainer = Trainer(method, source, timed.train, fabric)
        trainer.run(Hooks(on_step=lambda progress: stamps.append(clock())))
        cost["seconds_a_step"] = statistics.median(np.diff(stamps[1:]))
    return cost


def run_case(name: str, options: argparse.Namespace) -> None:
    """Train, synthesise and score one case in this process."""
    folder, cohort, case = options.out / name, options.out / "cohort", cases_of(options)[name]
    cost = measure_cost(settings_of(case, options, steps=10), folder / "timing", cohort)
    steps = max(10, int(options.seconds / cost["seconds_a_step"])) if cost["seconds_a_step"] else 1
    config = settings_of(case, options, steps)
    run = RunFolder(folder / "run")
    api.train(config, cohort, run.path, resume=run.path.exists())
    held_out = run.read_manifest().split["test"]
    started = time.process_time()
    api.synthesize(cohort, folder / "synthetic", run.path, participants=held_out)
    synthesis = (time.process_time() - started) / len(held_out) / len(config.data.tracers)
    api.evaluate(cohort, [folder / "synthetic"], folder / "evaluation")
    trained = steps if cost["seconds_a_step"] else 0
    cost_record = cost | {"steps": trained, "cpu_seconds_a_volume": synthesis}
    (folder / "cost.json").write_text(json.dumps(cost_record))


def read_cost(name: str, out: Path) -> dict[str, float]:
    """What `run_case` noted of a case; nothing for one of evaluate's own methods."""
    path = out / name / "cost.json"
    return json.loads(path.read_text()) if path.is_file() else {}


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


def draw_curves(names: list[str], out: Path) -> None:
    """Validation error of each case that was trained against its share of the seconds."""
    with house_style():
        figure = new_figure(7.2, 2.8, "Validation error in training, mean over tracers")
        axes = figure.add_subplot()
        for number, name in enumerate(name for name in names if read_cost(name, out)["steps"]):
            log = pd.read_csv(RunFolder(out / name / "run").log, sep="\t")
            curve = log[log["name"].str.startswith("mae/")].groupby("step")["value"].mean()
            axes.plot(
                curve.index / read_cost(name, out)["steps"],
                curve,
                color=PALETTE[number % len(PALETTE)],
                marker=MARKERS[number // len(PALETTE) % len(MARKERS)],
                markersize=3,
                label=name,
            )
        axes.set(xlabel="share of the seconds", ylabel="MAE of few-step samples, SUVr", yscale="log")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), ncols=1 + len(names) // 16)
        save_figure(figure, out / "learning.png")


def draw_differences(table: pd.DataFrame, names: list[str], options: argparse.Namespace) -> None:
    """Each case's difference from the reference, over the range that other starts of the reference span."""
    reference = options.reference
    seeds = [name for name in names if name == reference or name.startswith(f"{reference}_seed")]
    others = list(dict.fromkeys([*(name for name in names if name not in seeds), "tracer_mean"]))[::-1]
    shown = {
        "psnr": "PSNR, dB",
        "voi_error": "error of VOIs, SUVr",
        "spectrum_distance": "spectrum distance, dB",
    }
    with house_style():
        figure = new_figure(7.2, 1.2 + 0.16 * len(others), f"Difference from {reference}, mean over tracers")
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
        save_figure(figure, options.out / "differences.png")


def _draw_gap(axes: Axes, row: int, difference: np.ndarray, edge: float) -> None:
    """A point with its interval; beyond ``edge`` an arrow and the number, so that the others stay legible."""
    gap, low, high = difference
    if abs(gap) <= edge:
        axes.errorbar(gap, row, xerr=[[gap - low], [high - gap]], fmt="o", markersize=3, color=PALETTE[0])
        return
    side, (marker, align) = np.sign(gap), ("<", "left") if gap < 0 else (">", "right")
    axes.plot(side * edge, row, marker=marker, markersize=4, color=PALETTE[1])
    axes.text(side * edge * 0.92, row, f"{gap:+.2g}", ha=align, va="center")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, nargs="?", default=Path("learning-output"))
    parser.add_argument(
        "--cases", nargs="+", metavar="NAME", default=["linear", "regression"], help="or: all"
    )
    parser.add_argument(
        "--case",
        nargs="+",
        action="append",
        default=[],
        metavar="WORD",
        help="a case of your own: NAME PRESET_OR_FILE KEY=VALUE ...; name it in --cases too",
    )
    parser.add_argument("--reference", default="fast", help="the case that the others are compared with")
    parser.add_argument("--grid", choices=GRIDS, default="4mm")
    parser.add_argument("--subjects", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=20, help="training time a case")
    parser.add_argument("--sample-steps", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1, help="cases at a time")
    parser.add_argument("--list", action="store_true", help="show every case and stop")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser


def chosen_cases(options: argparse.Namespace) -> list[str]:
    """The reference, then the wanted cases; raises InputError for one that there is not, or whose settings fail."""
    for words in options.case:
        if len(words) < 2:
            raise InputError(f"--case {' '.join(words)} is too short; give NAME PRESET_OR_FILE KEY=VALUE ...")
    cases = cases_of(options)
    wanted = cases if "all" in options.cases else options.cases
    names = list(dict.fromkeys([options.reference, *wanted]))
    for name in names:
        if name not in cases:
            raise InputError(f"There is no case {name!r}; there are: {', '.join(cases)}.")
        settings_of(cases[name], options, steps=10)
    return names


def main() -> None:
    options = _parser().parse_args()
    if options.one:
        run_case(options.one, options)
        return
    if options.list:
        for name, case in cases_of(options).items():
            print(f"{name:24} {case.preset} {' '.join(case.settings)}")
        return
    try:
        names = chosen_cases(options)
    except InputError as error:
        sys.exit(str(error))
    cohort = options.out / "cohort"
    if not cohort.exists():
        config = SimulationConfig(subjects=options.subjects, grid=get_grid(options.grid), seed=31)
        api.simulate(cohort, config, n_procs=options.processes)
    failed = run_cases(names, options)
    done = [name for name in names if is_done(options.out / name)]
    if options.reference in done:
        shown = list(dict.fromkeys([*done, "tracer_mean", "visible_ceiling"]))
        table = pd.DataFrame(rows(shown, options))
        table.to_csv(options.out / "learning.tsv", sep="\t", index=False)
        (options.out / "learning.md").write_text(text := markdown(table, shown, options), encoding="utf-8")
        draw_curves(done, options.out)
        draw_differences(table, done, options)
        print(text)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
