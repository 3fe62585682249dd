"""What the simulator's own numbers say the scores must be; benchmarks/evaluation.py has it with more subjects."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from relapet.evaluation.image_metrics import Pair, score
from relapet.imaging.grid import GRIDS
from relapet.imaging.resample import FWHM_PER_SD
from relapet.imaging.template import load_template
from relapet.simulation.cohort import SimulatedSubject, SimulationConfig, simulate_subject
from relapet.simulation.scanner import SITES, Site, override_scanners, pet_noise
from relapet.tracers import TracerSpec, simulated_tracers
from relapet.types import Volume

GRID = GRIDS["4mm"]
SUBJECTS = 6


def site(drift: float | None = None) -> Site:
    """The research site; without drift its noise has a closed form."""
    research = SITES["research"]
    return research if drift is None else override_scanners(research, pet_drift=drift)


def simulated(where: Site) -> list[SimulatedSubject]:
    config = SimulationConfig(SUBJECTS, where, GRID, seed=5)
    return [simulate_subject(config, index) for index in range(SUBJECTS)]


def pair(measured: Volume, synthetic: Volume, tracer: TracerSpec) -> Pair:
    return Pair(measured, synthetic, load_template(GRID).brain, tracer.suvr_window, None)


def relative_variance(sigma: float) -> np.ndarray:
    """Variance of smoothed white noise in each voxel over its mean: the reflected edge of the volume has more."""
    axes = []
    for length in GRID.shape:
        weights = ndimage.gaussian_filter1d(np.eye(length), sigma, axis=0, truncate=3)
        axes.append((weights**2).sum(axis=1))
    variance = axes[0][:, None, None] * axes[1][:, None] * axes[2]
    return variance / variance.mean()


def test_noise_free_against_measured_is_the_noise_of_the_scanner_to_two_percent():
    """RMSE² is the mean of SD² uptake; the SD of a voxel falls with its size, f the noise's correlation length."""
    brain = load_template(GRID).brain
    ratios = []
    for subject in simulated(site(drift=0.0)):
        scanner = subject.scanner
        width = np.sqrt(scanner.noise_fwhm_mm**2 + GRID.voxel_size**2 - 1)
        sd = scanner.pet_noise * (scanner.noise_fwhm_mm / width) ** 1.5
        variance = sd**2 * relative_variance(width / FWHM_PER_SD / GRID.voxel_size)[brain]
        for name, tracer in simulated_tracers().items():
            pet = subject.pet[name]
            expected = np.sqrt((variance * np.maximum(pet.noise_free[brain], 0.02)).mean())
            ratios.append(score(pair(pet.measured, pet.noise_free, tracer))["rmse"] / expected)
    assert np.mean(ratios) == pytest.approx(1, abs=0.02)


def test_a_blurred_scan_gains_in_psnr_and_loses_in_realism():
    """A second scan of the same people, and the same blurred by a Gaussian of 4 mm FWHM."""
    subjects = simulated(site())
    for name, tracer in simulated_tracers().items():
        rows = []
        for number, subject in enumerate(subjects):
            pet = subject.pet[name]
            noise = pet_noise(pet.noise_free, subject.scanner, GRID, np.random.default_rng((9, number)))
            second = pet.noise_free + noise
            blurred = ndimage.gaussian_filter(second, 4 / FWHM_PER_SD / GRID.voxel_size)
            rows.append([score(pair(pet.measured, volume, tracer)) for volume in (second, blurred)])
        mean = {
            metric: np.mean([[scores[metric] for scores in row] for row in rows], axis=0)
            for metric in ("psnr", "spectrum_distance", "gradient_ratio")
        }
        assert mean["psnr"][1] > mean["psnr"][0] + 0.1
        assert mean["spectrum_distance"][1] > mean["spectrum_distance"][0] + 0.1
        assert mean["gradient_ratio"][1] < 0.97 < mean["gradient_ratio"][0] < 1.03
