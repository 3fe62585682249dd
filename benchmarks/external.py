"""What makes a model worse on another site? One property of the site is changed at a time.

    python benchmarks/external.py --run demo-output/run --out external --subjects 30

The cohorts are simulated with one seed: where only the PET camera differs, they are the same people with the same
MRI, so the synthetic maps are the same and only what they are measured against changes. Each cohort is
synthesised and evaluated as a user would, and compared with `research` as `relapet evaluate --internal` does, which
takes the cohorts for independent: intervals are wide rather than narrow. Without --run a small model is trained for a
minute first, which shows that the script runs and nothing about a model.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from relapet import api
from relapet.config import load_config
from relapet.evaluation.config import EvaluationConfig
from relapet.evaluation.evaluate import evaluate, refuse_leaks
from relapet.imaging.grid import get_grid
from relapet.report.summary import write_summary
from relapet.runs import RunFolder
from relapet.simulation.cohort import SimulationConfig
from relapet.simulation.scanner import SITES, Site, override_scanners

METRICS = ("psnr", "voi_mae", "voi_r")
BESIDE = ("tracer_mean", "visible_ceiling")
"""What the model is shown beside."""
CAMERA = ("psf_fwhm_mm",)
NOISE = ("pet_noise", "noise_fwhm_mm", "pet_drift")
PROTOCOL = ("t1_levels", "flair_levels", "flair_slice_mm", "mri_noise", "bias_sd")


@dataclass(frozen=True)
class Cohort:
    """A site that differs from `research` in what its name says, and whether its MRI differs too."""

    site: Site
    other_mri: bool


def cohorts() -> dict[str, Cohort]:
    """Research, then adni's properties one at a time (those of its first scanner), then adni."""
    research, adni = SITES["research"], SITES["adni"]
    scanner = adni.scanners[0]

    def with_(names: tuple[str, ...]) -> Site:
        return override_scanners(research, **{name: getattr(scanner, name) for name in names})

    return {
        "research": Cohort(research, True),
        "PET resolution": Cohort(with_(CAMERA), False),
        "PET noise": Cohort(with_(NOISE), False),
        "MRI protocol": Cohort(with_(PROTOCOL), True),
        "demographics": Cohort(replace(research, population=adni.population), True),
        "adni": Cohort(adni, True),
    }


def trained(out: Path) -> Path:
    """A run of the demo's preset after a minute."""
    config = SimulationConfig(subjects=24, site=SITES["research"], grid=get_grid("4mm"), seed=1)
    cohort = api.simulate(out / "training-cohort", config)
    return api.train(load_config("demo", settings=["train.seconds=60"]), cohort, out / "run").path


def compare(run: Path, out: Path, subjects: int, seed: int) -> pd.DataFrame:
    """A row a cohort, tracer, method and metric: score on research, on the cohort, and the difference."""
    grid = get_grid(RunFolder(run).read_manifest().grid)
    base = out / "research" / "evaluation"
    tables = []
    for name, cohort in cohorts().items():
        folder = out / name.replace(" ", "-")
        real, synthetic = folder / "real", folder / "synthetic"
        if not (folder / "evaluation" / "summary.json").is_file():
            api.simulate(real, SimulationConfig(subjects=subjects, site=cohort.site, grid=grid, seed=seed))
            if cohort.other_mri:
                api.synthesize(real, synthetic, run, settings={"count": 1})
            else:
                synthetic = out / "research" / "synthetic"
            internal = None if name == "research" else base
            config = EvaluationConfig(internal=internal)
            result = evaluate(real, [synthetic], folder / "evaluation", config)
            refuse_leaks(result, write_summary(result))
        if name != "research":
            table = pd.read_csv(folder / "evaluation" / "external.tsv", sep="\t")
            tables.append(table.assign(cohort=name))
        print(f"{name}: done", flush=True)
    return pd.concat(tables)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, help="run folder of a model trained on research")
    parser.add_argument("--out", type=Path, help="folder to keep cohorts and evaluations in, to go on from")
    parser.add_argument("--subjects", type=int, default=8)
    parser.add_argument("--seed", type=int, default=303)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = args.out or Path(folder)
        run = args.run or trained(out)
        table = compare(run, out, args.subjects, args.seed)
        shown = (RunFolder(run).read_manifest().method, *BESIDE)
    table = table[table["metric"].isin(METRICS) & table["method"].isin(shown)]
    columns = [
        "cohort",
        "tracer",
        "method",
        "metric",
        "internal",
        "external",
        "difference",
        "ci_low",
        "ci_high",
    ]
    print(table[columns].round(3).to_string(index=False))


if __name__ == "__main__":
    main()
