"""What does the closed-form prior know? Held-out gain over the training mean, by inputs and misregistration.

    python benchmarks/prior.py                               # a look: simulates 40 subjects at 4 mm
    python benchmarks/prior.py COHORT                        # of relapet simulate COHORT --grid 4mm --subjects 128
    python benchmarks/prior.py COHORT --shifts 0 2 4 --seed 1

Subjects are split as a training of the demo splits them. Gain: PSNR in the template's brain over each tracer's SUVr
window, less the training mean's, with a 95 % bootstrap interval over subjects. VOI r: median over grey VOIs of r across
subjects. Ratio: RMSE of cross-fitted training remainders over that of held-out ones, in brackets the same of the
training mean, which says how alike the two groups are. Shift: each subject's MRI and PET are moved together by a
smooth random field of that RMS length.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from relapet import api
from relapet.data.split import split_subjects
from relapet.data.volumes import derivative_grid, load_mri, load_pet
from relapet.evaluation.scores.agreement import median_r
from relapet.evaluation.scores.voi import target_vois
from relapet.evaluation.statistics import bootstrap_mean
from relapet.imaging.bids import index_derivative
from relapet.imaging.grid import GRIDS
from relapet.imaging.template import Atlas, load_atlas
from relapet.prior.anatomy import Anatomy
from relapet.prior.features import ABSENT, INPUT_SETS, MODALITIES
from relapet.prior.fit import PriorFit, fit_prior
from relapet.simulation.cohort import SimulationConfig
from relapet.tracers import TracerSpec, get_tracer

BOOTSTRAP = 1000
SMOOTH_MM = 20.0
"""SD of the Gaussian that makes the displacement smooth, mm."""


@dataclass
class Scans:
    """A part of a cohort in memory, as the fit reads it."""

    names: list[str]
    mris: list[np.ndarray]
    pets: list[dict[str, np.ndarray]]

    def __len__(self) -> int:
        return len(self.names)

    def subject(self, i: int) -> str:
        """Participant label."""
        return self.names[i]

    def mri(self, i: int) -> np.ndarray:
        """T1w and FLAIR."""
        return self.mris[i]

    def pet(self, i: int) -> dict[str, np.ndarray]:
        """SUVr by tracer."""
        return self.pets[i]


def load_cohort(root: Path) -> tuple[Scans, Anatomy, Atlas]:
    """All subjects with their MRI and PET."""
    index = index_derivative(root)
    grid = derivative_grid(index[0])
    scans = Scans([], [], [])
    for files in index:
        scans.names.append(files.visit.subject)
        scans.mris.append(load_mri(files, grid))
        scans.pets.append({name: load_pet(path, get_tracer(name), grid) for name, path in files.pet.items()})
    return scans, Anatomy.of_grid(grid), load_atlas(grid)


def moved(scans: Scans, rms_mm: float, voxel_mm: float, seed: int) -> Scans:
    """Each subject's MRI and PET moved together by a smooth random field of this RMS length, mm."""
    if rms_mm == 0:
        return scans
    result = Scans(list(scans.names), [], [])
    for i, (mri, pets) in enumerate(zip(scans.mris, scans.pets, strict=True)):
        rng = np.random.default_rng((seed, i))
        field = rng.standard_normal((3, *mri.shape[1:]))
        field = np.stack([ndimage.gaussian_filter(part, SMOOTH_MM / voxel_mm) for part in field])
        field *= rms_mm / voxel_mm / np.sqrt((field**2).sum(axis=0).mean())
        where = np.indices(mri.shape[1:]) + field

        def move(volume: np.ndarray, where: np.ndarray = where) -> np.ndarray:
            return ndimage.map_coordinates(volume, where, order=1, mode="nearest").astype(np.float32)

        result.mris.append(np.stack([move(channel) for channel in mri]))
        result.pets.append({name: move(volume) for name, volume in pets.items()})
    return result


def part(scans: Scans, names: list[str]) -> Scans:
    chosen = [i for i, name in enumerate(scans.names) if name in set(names)]
    return Scans(*([values[i] for i in chosen] for values in (scans.names, scans.mris, scans.pets)))


def only(mri: np.ndarray, inputs: tuple[str, ...]) -> np.ndarray:
    keep = np.array([name in inputs for name in MODALITIES])[:, None, None, None]
    return np.where(keep, mri, np.float32(ABSENT))


def vois(volumes: np.ndarray, atlas: Atlas, tracer: TracerSpec) -> np.ndarray:
    """Mean SUVr ``(subjects, VOIs)`` of the grey VOIs."""
    wanted = set(target_vois([atlas.names[i] for i in atlas.indices()], tracer))
    rows = [[v for i, v in atlas.means(volume).items() if atlas.names[i] in wanted] for volume in volumes]
    return np.array(rows)


def remainder_rmse(predicted: np.ndarray, real: np.ndarray) -> float:
    """Mean over subjects of the RMSE ``(subjects, voxels)``."""
    return float(np.sqrt(np.mean((predicted - real) ** 2, axis=1)).mean())


def row(
    fit: PriorFit, train: Scans, test: Scans, tracer: TracerSpec, inputs: tuple[str, ...], atlas: Atlas
) -> str:
    name, brain = tracer.name, fit.prior.anatomy.brain
    held_out = [i for i, pets in enumerate(test.pets) if name in pets]
    known = [i for i, pets in enumerate(train.pets) if name in pets]
    real = np.stack([test.pets[i][name] for i in held_out])
    predicted = np.stack([fit.prior.predict(only(test.mris[i], inputs), name) for i in held_out])
    mean = fit.prior.mean[name][brain]
    errors = [((volumes - real[:, brain]) ** 2).mean(axis=1) for volumes in (mean[None], predicted[:, brain])]
    gain = bootstrap_mean(10 * np.log10(errors[0] / errors[1]), BOOTSTRAP, 0)
    r = median_r(vois(real, atlas, tracer), vois(predicted, atlas, tracer), BOOTSTRAP, 0)
    trained = np.stack([train.pets[i][name][brain] for i in known])
    crossed = np.stack([fit.crossfitted(i, name, inputs)[brain] for i in known])
    ratio = remainder_rmse(crossed, trained) / remainder_rmse(predicted[:, brain], real[:, brain])
    alike = remainder_rmse(mean[None], trained) / remainder_rmse(mean[None], real[:, brain])
    return (
        f"| {tracer.label} | {' + '.join(inputs)} | {gain.estimate:.2f} [{gain.low:.2f}, {gain.high:.2f}] "
        f"| {r.estimate:.2f} [{r.low:.2f}, {r.high:.2f}] | {ratio:.3f} ({alike:.3f}) |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cohort", type=Path, nargs="?", help="a derivative; simulated unless given")
    parser.add_argument("--shifts", type=float, nargs="+", default=[0.0], metavar="MM")
    parser.add_argument("--seed", type=int, default=0, help="of the split")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = options.cohort
        if root is None:
            root = api.simulate(Path(folder) / "cohort", SimulationConfig(subjects=40, grid=GRIDS["4mm"]))
        scans, anatomy, atlas = load_cohort(root)
    split = split_subjects(scans.names, 0.06, 0.25, options.seed)
    for shift in options.shifts:
        there = moved(scans, shift, anatomy.voxel_mm, options.seed)
        train, test = part(there, split["train"]), part(there, split["test"])
        started = time.process_time()
        fit = fit_prior(train, anatomy)
        fitted = time.process_time()
        for mri in test.mris:
            fit.prior.predict_all(mri)
        predicted = time.process_time()
        print(
            f"\nShift {shift:g} mm, {len(train)} training and {len(test)} test subjects; processor time: fit "
            f"{fitted - started:.1f} s, predict {predicted - fitted:.1f} s\n\n"
            "| tracer | inputs | gain, dB | VOI r | ratio |\n|---|---|---|---|---|"
        )
        for name in fit.prior.mean:
            for inputs in INPUT_SETS:
                print(row(fit, train, test, get_tracer(name), inputs, atlas), flush=True)


if __name__ == "__main__":
    main()
