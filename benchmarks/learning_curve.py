"""What do more participants buy? The closed-form prior against their number, beside the visible ceiling.

    python benchmarks/learning_curve.py                                  # a look: simulates 60 and 24 subjects at 4 mm
    python benchmarks/learning_curve.py OUT --train COHORT --test OTHER --sizes 50 100 300 1000

COHORT and OTHER are of ``relapet simulate`` with different seeds, so that nobody is in both. Each fit takes the first n
participants of COHORT; every row is scored on all of OTHER, in the template's brain, as PSNR over the tracer's SUVr
window less that of the training mean of all of COHORT, and as r of VOIs across participants (median over grey VOIs).
``attainable``: what a curve a - b n^-c (c from 0.1 to 1, a at most the ceiling's gain, which nobody passes) through the
rows tends to, and its share of that gain; near 100 % says that the rows do not bend yet. Intervals are 95 % bootstrap
ones over the participants of OTHER, the curve fitted anew to each draw. The r of the ceiling is that of its maps with
the measured ones.

Writes OUT/learning_curve.md, .tsv and .png.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from prior import BOOTSTRAP, Scans, load_cohort, part, vois
from scipy.optimize import lsq_linear

from relapet import api
from relapet.data.volumes import derivative_grid, load_pet
from relapet.evaluation.scores.agreement import median_r
from relapet.evaluation.statistics import Interval, bootstrap_mean
from relapet.imaging.bids import index_derivative
from relapet.imaging.grid import GRIDS
from relapet.imaging.template import Atlas
from relapet.prior.anatomy import Anatomy
from relapet.prior.features import MODALITIES
from relapet.prior.fit import fit_prior
from relapet.report.style import MARKERS, PALETTE, house_style, new_figure, save_figure
from relapet.simulation.cohort import SimulationConfig
from relapet.tracers import get_tracer

Floats = npt.NDArray[np.float64]
POWERS = np.linspace(0.1, 1.0, 19)
"""The c of a - b n^-c that are tried."""
CEILING = "visible ceiling"


def ceiling_of(cohort: Path, scans: Scans) -> Scans:
    """The maps that anyone could predict who read the visible latents off the MRI without error."""
    index = index_derivative(cohort / "truth", "visible")
    grid = derivative_grid(index_derivative(cohort)[0])
    pets = {
        files.visit.subject: {n: load_pet(path, get_tracer(n), grid) for n, path in files.pet.items()}
        for files in index
    }
    return Scans(scans.names, scans.mris, [pets[name] for name in scans.names])


def limit(sizes: Floats, gains: Floats, most: float) -> float:
    """The a of the curve a - b n^-c that is nearest to the gains, b not negative, a at most the ceiling's gain."""
    best = (np.inf, float(gains[-1]))
    for power in POWERS:
        design = np.stack([np.ones_like(sizes), -(sizes**-power)], axis=1)
        found = lsq_linear(design, gains, ([-np.inf, 0], [most, np.inf]))
        best = min(best, (float(found.cost), float(found.x[0])))
    return best[1]


def psnr_gain(real: np.ndarray, predicted: np.ndarray, mean: np.ndarray) -> Floats:
    """Gain in PSNR over the mean map of each participant, dB; maps ``(participants, voxels)``."""
    errors = [((volumes - real) ** 2).mean(axis=1) for volumes in (mean[None], predicted)]
    return np.asarray(10 * np.log10(errors[0] / errors[1]))


def told(interval: Interval) -> str:
    return f"{interval.estimate:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def attainable(sizes: Floats, gains: Floats, ceiling: Floats, seed: int = 0) -> str:
    """The limit of a tracer's curve, its share of the ceiling, and both intervals; gains ``(sizes, participants)``."""
    rng, n = np.random.default_rng(seed), gains.shape[1]
    draws = [np.arange(n), *(rng.integers(0, n, n) for _ in range(BOOTSTRAP // 4))]
    ceilings = np.array([ceiling[draw].mean() for draw in draws])
    limits = np.array(
        [limit(sizes, gains[:, draw].mean(axis=1), most) for draw, most in zip(draws, ceilings, strict=True)]
    )
    shares = limits / ceilings
    spans = [np.percentile(values[1:], (2.5, 97.5)) for values in (limits, shares)]
    return (
        f"{limits[0]:.2f} [{spans[0][0]:.2f}, {spans[0][1]:.2f}] dB, "
        f"{shares[0]:.0%} [{spans[1][0]:.0%}, {spans[1][1]:.0%}] of the ceiling's gain"
    )


def measure(
    train: Scans, test: Scans, sizes: list[int], best: Scans, anatomy: Anatomy, atlas: Atlas
) -> pd.DataFrame:
    """A row a size, tracer and participant: PSNR gain; r of the VOIs stands in each row of its group."""
    rows = []
    brain = anatomy.brain
    tracers = sorted(test.pets[0], key=lambda name: get_tracer(name).index)
    means = {name: np.mean([pets[name] for pets in train.pets], axis=0) for name in tracers}

    def add(n: int | str, predicted: dict[str, np.ndarray], seconds: float) -> None:
        for name in tracers:
            real, maps = np.stack([pets[name] for pets in test.pets]), predicted[name]
            gains = psnr_gain(real[:, brain], maps[:, brain], means[name][brain])
            tracer = get_tracer(name)
            r = told(median_r(vois(real, atlas, tracer), vois(maps, atlas, tracer), BOOTSTRAP, 0))
            rows.extend(
                {"n": n, "tracer": tracer.label, "subject": who, "gain": gain, "r": r, "seconds": seconds}
                for who, gain in zip(test.names, gains, strict=True)
            )

    for n in sizes:
        some = part(train, train.names[:n])
        started = time.process_time()
        fit = fit_prior(some, anatomy, inputs=[MODALITIES])
        seconds = time.process_time() - started
        maps = [fit.prior.predict_all(mri) for mri in test.mris]
        add(n, {name: np.stack([one[name] for one in maps]) for name in tracers}, seconds)
        print(f"{n} participants: {seconds:.0f} s of one core", flush=True)
    add(CEILING, {name: np.stack([pets[name] for pets in best.pets]) for name in tracers}, 0.0)
    return pd.DataFrame(rows)


def report(table: pd.DataFrame, sizes: list[int], trained: str) -> str:
    """The rows as a page."""
    tracers = list(dict.fromkeys(table["tracer"]))
    participants = table["subject"].nunique()
    lines = [
        f"# Closed form against the number of participants\n\nTrained on {trained}; scored on {participants} others.\n",
        "| n | " + " | ".join(f"{t}: gain, dB | {t}: VOI r" for t in tracers) + " | fit, s of one core |",
        "|---|" + "---|" * (2 * len(tracers) + 1),
    ]
    for n in [*sizes, CEILING]:
        cells = []
        for tracer in tracers:
            group = table[(table["n"] == n) & (table["tracer"] == tracer)]
            cells += [told(bootstrap_mean(group["gain"].to_numpy(), BOOTSTRAP, 0)), group["r"].iloc[0]]
        lines.append(f"| {n} | " + " | ".join(cells) + f" | {group['seconds'].iloc[0]:.0f} |")
    lines.append("\nAttainable by this predictor with ever more participants, by the curve a - b n^-c:\n")
    for tracer in tracers:
        own = table[table["tracer"] == tracer]
        gains = np.stack([own[own["n"] == n]["gain"].to_numpy() for n in sizes])
        ceiling = own[own["n"] == CEILING]["gain"].to_numpy()
        lines.append(f"- {tracer}: {attainable(np.array(sizes, dtype=float), gains, ceiling)}")
    return "\n".join(lines) + "\n"


def draw(table: pd.DataFrame, sizes: list[int], path: Path) -> None:
    """Gain against n, the ceiling dashed."""
    with house_style():
        figure = new_figure(5.0, 3.4, "Closed form against the number of participants")
        axes = figure.subplots()
        for tracer, colour, marker in zip(dict.fromkeys(table["tracer"]), PALETTE, MARKERS, strict=False):
            own = table[table["tracer"] == tracer]
            means = [own[own["n"] == n]["gain"].mean() for n in sizes]
            axes.plot(sizes, means, color=colour, marker=marker, label=tracer)
            axes.axhline(own[own["n"] == CEILING]["gain"].mean(), color=colour, linestyle="--", linewidth=1)
        axes.set_xscale("log")
        axes.set_xticks(sizes, [str(n) for n in sizes])
        axes.minorticks_off()
        axes.set_xlabel("training participants")
        axes.set_ylabel("PSNR gain over the training mean, dB")
        axes.legend(title="dashed: visible ceiling")
        save_figure(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "out", type=Path, nargs="?", help="folder of cohorts and results; a temporary one unless given"
    )
    parser.add_argument("--train", type=Path, help="a simulated cohort; made unless given")
    parser.add_argument("--test", type=Path, help="another one, of another seed")
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 40, 60])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options.out = options.out or Path(folder)
        run(parser, options)


def run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if (options.train is None) != (options.test is None):
        parser.error("give both --train and --test, or neither")
    options.out.mkdir(parents=True, exist_ok=True)
    if options.train is None:
        options.train, options.test = (options.out / name for name in ("train", "test"))
        for seed, (root, count) in enumerate([(options.train, max(options.sizes)), (options.test, 24)], 101):
            if not root.exists():
                api.simulate(root, SimulationConfig(subjects=count, grid=GRIDS["4mm"], seed=seed))
    (train, _, _), (test, anatomy, atlas) = load_cohort(options.train), load_cohort(options.test)
    sizes = sorted(options.sizes)
    if max(sizes) > len(train):
        parser.error(f"--sizes goes to {max(sizes)}, but {options.train} has {len(train)} participants")
    table = measure(train, test, sizes, ceiling_of(options.test, test), anatomy, atlas)
    table.to_csv(options.out / "learning_curve.tsv", sep="\t", index=False)
    page = report(table, sizes, f"the first n of {len(train)} simulated participants")
    (options.out / "learning_curve.md").write_text(page)
    draw(table, sizes, options.out / "learning_curve.png")
    print(page)


if __name__ == "__main__":
    main()
