"""One simulated subject in memory: all that the derivative, its truth or a raw data set is written from.

Subject i depends on (seed, i) alone: it is the same whatever the cohort's
size, the tracers asked for or the scans missing. ``noise_seed`` changes the PET noise and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import Field

from relapet.imaging.grid import GRIDS, Grid
from relapet.imaging.template import atlas_names
from relapet.settings import Settings
from relapet.simulation.anatomy import Anatomy, build_anatomy
from relapet.simulation.components import texture
from relapet.simulation.latents import DRAWS, Latents, structural_model
from relapet.simulation.lesions import build_lesions
from relapet.simulation.mri import simulate_mri
from relapet.simulation.scanner import SITES, Scanner, Site, pet_noise, point_spread
from relapet.simulation.uptake import TEXTURE_SD, activity_map, genotype_frequency, genotype_of, regional_suvr
from relapet.tracers import TracerSpec, simulated_tracers
from relapet.types import Mask, Volume

_STREAMS = {"latents": 0, "anatomy": 1, "lesions": 2, "mri": 3, "missing": 4, "hidden": 5, "noise": 6}


class SimulationConfig(Settings):
    """All that decides a simulated cohort."""

    subjects: int = Field(20, ge=1, description="number of participants")
    site: Site = Field(SITES["research"], description="who is enrolled, and on which scanners")
    grid: Grid = Field(GRIDS["2.5mm"], description="voxel grid of the volumes")
    seed: int = Field(0, ge=0, description="one seed gives one cohort")
    noise_seed: int | None = Field(
        None,
        ge=0,
        description="seed of the PET noise alone, else that of the cohort; two are two scans of the same people",
    )
    missing_rate: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="probability that a PET scan is missing; a subject never lacks all of them",
    )


@dataclass(frozen=True)
class SimulatedPet:
    """One tracer's images of one subject, (X, Y, Z)."""

    activity: Volume
    """Tissue uptake before the point spread; what a camera would see."""
    noise_free: Volume
    """SUVr, point spread applied, no noise: the noise ceiling."""
    visible: Volume
    """SUVr expected from what the MRI can show: the visible ceiling."""
    measured: Volume
    """SUVr with noise, divided by its own mean in the reference region."""
    regional_expected: npt.NDArray[np.float64]
    regional_true: npt.NDArray[np.float64]


@dataclass(frozen=True)
class SimulatedSubject:
    """One subject in memory: all that the derivative, its truth and a raw data set are written from."""

    label: str
    latents: Latents
    genotype: dict[str, str]
    """Gene to genotype."""
    scanner: Scanner
    anatomy: Anatomy
    lesion: Volume
    t1w: Volume
    flair: Volume
    pet: dict[str, SimulatedPet]
    """Every tracer, missing scans included."""
    missing: tuple[str, ...]
    """Tracers whose scan this subject lacks."""


def subject_label(index: int) -> str:
    """BIDS label of subject ``index`` (from 0)."""
    return f"{index + 1:03d}"


def _generator(seed: int, index: int, stream: str, *more: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index, _STREAMS[stream], *more)))


def reference_mask(tracer: TracerSpec, anatomy: Anatomy) -> Mask:
    """The tracer's reference region in the subject's own labels."""
    index = {name: i for i, name in atlas_names().items()}
    mask = np.isin(anatomy.dseg, [index[name] for name in tracer.reference_region.labels])
    if tracer.reference_region.z_max_mm is not None:
        mask &= anatomy.template_mm[2] < tracer.reference_region.z_max_mm
    return np.asarray(mask, dtype=bool)


def missing_tracers(config: SimulationConfig, index: int) -> tuple[str, ...]:
    """Names of the tracers whose scan subject ``index`` lacks; never all of them."""
    rng = _generator(config.seed, index, "missing")
    names = list(simulated_tracers())
    lost = rng.random(len(names)) < config.missing_rate
    if lost.all():
        lost[rng.integers(len(names))] = False
    return tuple(name for name, gone in zip(names, lost, strict=True) if gone)


def simulate_latents(config: SimulationConfig, index: int) -> tuple[Latents, Scanner, dict[str, str]]:
    """Latents, scanner and TSPO genotype of one subject, without any image."""
    draws = _generator(config.seed, index, "latents").standard_normal(len(DRAWS))
    by_burden = {t.how_simulated().burden: t.index for t in simulated_tracers().values()}
    hidden = np.array(
        [
            _generator(config.seed, index, "hidden", by_burden[name]).standard_normal()
            for name in ("amyloid", "tau", "inflammation")
        ]
    )
    latents = structural_model(config.site.population, draws, hidden)
    scanners = config.site.scanners
    scanner = scanners[min(int(latents.uniform["scanner"] * len(scanners)), len(scanners) - 1)]
    genotype = {
        genotype.gene: str(
            genotype_of(genotype_frequency(tracer, config.site.population), latents.uniform["genotype"])
        )
        for tracer in simulated_tracers().values()
        if (genotype := tracer.how_simulated().genotype) is not None
    }
    return latents, scanner, genotype


def _simulate_pet(
    tracer: TracerSpec, config: SimulationConfig, index: int, latents: Latents, scanner: Scanner,
    tissue: tuple[Anatomy, Volume],
) -> SimulatedPet:  # fmt: skip
    anatomy, lesion = tissue
    grid = config.grid
    hidden = _generator(config.seed, index, "hidden", tracer.index, 1)
    expected, true = regional_suvr(tracer, config.site.population, latents, hidden)
    reference = reference_mask(tracer, anatomy)
    activity = activity_map(true, tracer, anatomy, lesion) * (1 + TEXTURE_SD * texture(grid, hidden))
    noise_free = point_spread(activity, grid, scanner.psf_fwhm_mm)
    visible = point_spread(activity_map(expected, tracer, anatomy, lesion), grid, scanner.psf_fwhm_mm)
    noise_free /= noise_free[reference].mean()
    visible /= visible[reference].mean()
    noise_seed = config.seed if config.noise_seed is None else config.noise_seed
    measured = noise_free + pet_noise(
        noise_free, scanner, grid, _generator(noise_seed, index, "noise", tracer.index)
    )
    measured /= measured[reference].mean()
    return SimulatedPet(activity, noise_free, visible, measured, expected, true)


def simulate_subject(config: SimulationConfig, index: int) -> SimulatedSubject:
    """One subject in memory; depends on the configuration's seed and ``index`` alone."""
    latents, scanner, genotype = simulate_latents(config, index)
    anatomy = build_anatomy(latents, config.grid, _generator(config.seed, index, "anatomy"))
    lesion = build_lesions(anatomy, float(latents.lesion_ml), _generator(config.seed, index, "lesions"))
    t1w, flair = simulate_mri(anatomy, lesion, latents, scanner, _generator(config.seed, index, "mri"))
    pet = {
        name: _simulate_pet(tracer, config, index, latents, scanner, (anatomy, lesion))
        for name, tracer in simulated_tracers().items()
    }
    return SimulatedSubject(
        subject_label(index),
        latents,
        genotype,
        scanner,
        anatomy,
        lesion,
        t1w,
        flair,
        pet,
        missing_tracers(config, index),
    )
