"""Does the evaluation say what is known to be true? Answers from the simulated cohort, and what it costs.

    python benchmarks/evaluation.py --cohort cohort
    python benchmarks/evaluation.py --cohort cohort --synthetic synthetic --subjects 10 40

Without --cohort, 24 research subjects are simulated at 4 mm. Three known answers, each of the functions that
`relapet evaluate` is made of:

1. noise: RMSE of the noise-free against the measured map is the noise that the scanner's numbers give (12 subjects
   without slow drift, for which there is a closed form).
2. ceiling: r of the map expected from the MRI is sqrt(1 - invisible share) times r of the noise-free map. The share is
   one of uptake; how much grey and white matter and fluid a region of the template holds differs between people
   too, and the MRI shows it. So r is also given with these three taken out by regression.
3. blur: a second scan of the same people, blurred, gains in PSNR and loses in realism.

With --synthetic the command itself is timed, in a process of its own, on the first subjects of that tree.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from relapet.evaluation.scores.agreement import median_r
from relapet.evaluation.scores.image_metrics import METRICS, ScanPair, rmse
from relapet.evaluation.scores.voi import brain_mask, default_atlas, sum_regions, target_vois
from relapet.evaluation.statistics import bootstrap_mean
from relapet.files import read_json
from relapet.imaging.bids import find_visits, index_derivative, sidecar_path
from relapet.imaging.grid import Grid, find_grid, get_grid
from relapet.imaging.nifti import load_volume
from relapet.imaging.resample import FWHM_PER_SD
from relapet.simulation.cohort import TRUTH, SimulationConfig, simulate_cohort, simulate_subject
from relapet.simulation.scanner import Scanner, get_site, override_scanners, pet_noise
from relapet.tracers import TracerSpec, simulated_tracers
from relapet.types import Volume

BOOTSTRAP = 2000
BLURRED = ("psnr", "spectrum_distance", "gradient_ratio")
BLUR_FWHM_MM = 4.0
TISSUES = ("GM", "WM", "CSF")
NOISE_SUBJECTS = 12


def relative_variance(shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """Variance of smoothed white noise in each voxel over its mean: the reflected edge of the volume has more."""
    axes = []
    for length in shape:
        weights = ndimage.gaussian_filter1d(np.eye(length), sigma, axis=0, truncate=3)
        axes.append((weights**2).sum(axis=1))
    variance = axes[0][:, None, None] * axes[1][:, None] * axes[2]
    return np.asarray(variance / variance.mean())


def noise_ratios(grid: Grid) -> dict[str, np.ndarray]:
    """By tracer, each subject's RMSE of the noise-free map over sqrt(mean(SD^2 uptake)), the closed form."""
    site = override_scanners(get_site("research"), pet_drift=0.0)
    config = SimulationConfig(subjects=NOISE_SUBJECTS, site=site, grid=grid, seed=8)
    scanner, brain = site.scanners[0], brain_mask(grid.shape, grid.affine)
    width = np.sqrt(scanner.noise_fwhm_mm**2 + max(grid.voxel_size**2 - 1, 0))
    sd = scanner.pet_noise * (scanner.noise_fwhm_mm / width) ** 1.5
    variance = sd**2 * relative_variance(grid.shape, width / FWHM_PER_SD / grid.voxel_size)[brain]
    ratios: dict[str, list[float]] = {name: [] for name in simulated_tracers()}
    for index in range(NOISE_SUBJECTS):
        for name, pet in simulate_subject(config, index).pet.items():
            pair = ScanPair(pet.measured, pet.noise_free, brain, simulated_tracers()[name].suvr_window, None)
            expected = np.sqrt((variance * np.maximum(pet.noise_free[brain], 0.02)).mean(dtype=np.float64))
            ratios[name].append(rmse(pair) / expected)
    return {name: np.array(values) for name, values in ratios.items()}


def scans(cohort: Path, tracer: TracerSpec) -> Iterator[tuple[Scanner, Grid, Volume, Volume, Volume]]:
    """Scanner, grid, measured, noise-free and visible map of each subject."""
    scanners = {scanner.name: scanner for site in ("research", "adni") for scanner in get_site(site).scanners}
    for files in index_derivative(cohort):
        path = files.pet[tracer.name]
        sidecar = read_json(sidecar_path(path))
        paths = (path, *(files.visit.pet(cohort / TRUTH, tracer, desc) for desc in ("noisefree", "visible")))
        images = [load_volume(p) for p in paths]
        grid = find_grid(images[0].shape, images[0].affine)
        assert grid is not None, f"{path} lies on no grid of relapet's"
        yield (
            scanners[sidecar["SimulationScanner"]],
            grid,
            *(np.asarray(i.dataobj, dtype=np.float32) for i in images),
        )  # type: ignore[misc]


def study(cohort: Path, tracer: TracerSpec) -> dict[str, dict[str, list[float]] | np.ndarray]:
    """Image scores of a second scan, plain and blurred; regional SUVr of three maps."""
    atlas, window = default_atlas(), tracer.suvr_window
    names = target_vois(list(atlas.names.values()), tracer)
    scores: dict[str, list[dict[str, float]]] = {"second": [], "blurred": []}
    regional = []
    tissue = tissue_means(cohort, names)
    for number, (scanner, grid, measured, noise_free, visible) in enumerate(scans(cohort, tracer)):
        brain = brain_mask(measured.shape, grid.affine)
        labels = atlas.labels(measured.shape, grid.affine)
        second = noise_free + pet_noise(noise_free, scanner, grid, np.random.default_rng((1, number)))
        blurred = ndimage.gaussian_filter(second, BLUR_FWHM_MM / FWHM_PER_SD / grid.voxel_size)
        for name, volume in (("second", second), ("blurred", blurred)):
            pair = ScanPair(measured, volume, brain, window, None)
            scores[name].append({metric: METRICS[metric].compute(pair) for metric in BLURRED})
        means = [sum_regions(v, labels, atlas.names).vois() for v in (measured, noise_free, visible)]
        regional.append([[m[name] for name in names if name in m] for m in means])
    tables = {name: pd.DataFrame(rows).to_dict("list") for name, rows in scores.items()}
    return {**tables, "regional": np.array(regional), "tissue": tissue}


def tissue_means(cohort: Path, names: Sequence[str]) -> np.ndarray:
    """True mean fractions of grey and white matter and fluid in each region, ``(subjects, 3, regions)``."""
    atlas = default_atlas()
    rows = []
    for files in index_derivative(cohort):
        folder = files.visit.folder(cohort / TRUTH, "anat")
        images = [load_volume(next(folder.glob(f"*_label-{kind}_probseg.nii.gz"))) for kind in TISSUES]
        means = [
            sum_regions(np.asarray(i.dataobj), atlas.labels(i.shape, i.affine), atlas.names).vois()
            for i in images
        ]
        rows.append([[m[name] for name in names if name in m] for m in means])
    return np.array(rows)


def without_tissue(values: np.ndarray, tissue: np.ndarray) -> np.ndarray:
    """Regional values ``(subjects, regions)`` less what a linear regression on the tissue fractions gives."""
    out = np.empty_like(values)
    for region in range(values.shape[1]):
        known = np.column_stack([np.ones(len(values)), tissue[:, :, region]])
        out[:, region] = values[:, region] - known @ np.linalg.lstsq(known, values[:, region], rcond=None)[0]
    return out


def known_answers(cohort: Path) -> pd.DataFrame:
    """One row a tracer and known answer: what is expected and what is measured, with its 95 % interval."""
    rows = []
    ratios = noise_ratios(get_grid("4mm"))
    for tracer in simulated_tracers().values():
        done = study(cohort, tracer)
        mean = bootstrap_mean(ratios[tracer.name], BOOTSTRAP, 0)
        rows.append((tracer.name, "noise: RMSE / analytic", 1.0, mean.estimate, mean.low, mean.high, mean.n))
        real, free, visible = np.moveaxis(done["regional"], 1, 0)
        for name, taken_out in (("", False), (", less tissue", True)):
            maps = [without_tissue(m, done["tissue"]) if taken_out else m for m in (real, free, visible)]
            noise_ceiling = median_r(maps[0], maps[1], BOOTSTRAP, 0).estimate
            r = median_r(maps[0], maps[2], BOOTSTRAP, 0)
            stated = float(np.sqrt(1 - tracer.how_simulated().invisible_share)) * noise_ceiling
            rows.append((tracer.name, f"ceiling: median VOI r{name}", stated, r.estimate, r.low, r.high, r.n))
        for metric in BLURRED:
            gain = np.array(done["blurred"][metric]) - np.array(done["second"][metric])
            mean = bootstrap_mean(gain, BOOTSTRAP, 0)
            name = f"blur: change of {metric}"
            rows.append((tracer.name, name, np.nan, mean.estimate, mean.low, mean.high, mean.n))
    columns = ["tracer", "answer", "expected", "measured", "ci_low", "ci_high", "n"]
    return pd.DataFrame(rows, columns=columns)


def cost(cohort: Path, synthetic: Path, subjects: int) -> dict[str, float]:
    """Wall seconds, processor seconds and peak memory of the command on the first subjects."""
    labels = [visit.subject for visit in find_visits(synthetic)][:subjects]
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "relapet", "evaluate", str(cohort), str(synthetic), out, "--quiet"]
        start = time.perf_counter()
        process = subprocess.Popen([*command, "--participant-label", *labels])
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        if status:
            raise SystemExit(f"relapet evaluate failed with status {os.waitstatus_to_exitcode(status)}.")
    cpu = usage.ru_utime + usage.ru_stime
    return {"subjects": len(labels), "wall_s": wall, "cpu_s": cpu, "peak_GiB": usage.ru_maxrss / 2**20}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cohort", type=Path, help="simulated cohort with its truth")
    parser.add_argument("--synthetic", type=Path, help="tree that relapet synthesize made of it")
    parser.add_argument("--subjects", type=int, nargs="+", default=[10, 40])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cohort = args.cohort
        if cohort is None:
            config = SimulationConfig(subjects=24, site=get_site("research"), grid=get_grid("4mm"), seed=7)
            cohort = simulate_cohort(config, Path(folder) / "cohort", n_procs=os.cpu_count() or 1)
        if args.synthetic is None:
            print(known_answers(cohort).round(4).to_string(index=False))
        else:
            rows = [cost(cohort, args.synthetic, count) for count in args.subjects]
            print(pd.DataFrame(rows).round(2).to_string(index=False))


if __name__ == "__main__":
    main()
