"""Scanners and sites: every number that makes two sites' images differ, so that domain shift is a dial."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from relapet.errors import InputError
from relapet.imaging.grid import Grid
from relapet.imaging.resample import FWHM_PER_SD, sample
from relapet.settings import meant
from relapet.simulation.latents import Population
from relapet.types import Volume


@dataclass(frozen=True)
class Scanner:
    """One PET camera and the MRI protocol next to it."""

    name: str
    psf_fwhm_mm: float
    """Full width at half maximum of the reconstructed PET point spread, mm."""
    pet_noise: float
    """SD of one 1 mm voxel at SUVr 1, as a fraction; grows as the root of uptake."""
    noise_fwhm_mm: float
    """Correlation length of the PET noise after reconstruction and filtering, mm."""
    pet_drift: float
    """SD of slow errors (scatter, attenuation, motion; 70 mm wide), as a fraction."""
    t1_levels: tuple[float, float, float]
    """T1w signal of fluid, grey and white matter; the template's are 60, 165, 215."""
    flair_levels: tuple[float, float, float, float]
    """FLAIR signal of fluid, grey matter, white matter and white-matter lesions."""
    flair_slice_mm: float
    """FLAIR slice thickness, mm."""
    mri_noise: float
    """SD of Rician noise in a 1 mm voxel, as a fraction of white matter's signal."""
    bias_sd: float
    """SD of the logarithm of the residual receive field (100 mm wide)."""


@dataclass(frozen=True)
class Site:
    """Who is enrolled and on which scanners."""

    name: str
    population: Population
    scanners: tuple[Scanner, ...]


_RESEARCH_SCANNER = Scanner(
    name="research-1",
    psf_fwhm_mm=6.0,
    pet_noise=0.085,
    noise_fwhm_mm=5.0,
    pet_drift=0.012,
    t1_levels=(55.0, 160.0, 215.0),
    flair_levels=(30.0, 150.0, 118.0, 235.0),
    flair_slice_mm=1.0,
    mri_noise=0.025,
    bias_sd=0.02,
)

SITES: dict[str, Site] = {
    "research": Site(
        "research",
        Population(
            age_mean=58.0, age_sd=7.0, age_range=(45.0, 70.0), male_fraction=1.0, exposure_mean=12.0,
            amyloid_shift=-0.55, tau_shift=-0.15, excluded_genotypes=("LAB",),
        ),
        (_RESEARCH_SCANNER,),
    ),
    "adni": Site(
        "adni",
        Population(
            age_mean=73.5, age_sd=7.5, age_range=(55.0, 90.0), male_fraction=0.52,
            amyloid_shift=-0.30, tau_shift=0.10, excluded_genotypes=("LAB",),
        ),
        (
            Scanner(
                name="adni-1", psf_fwhm_mm=8.0, pet_noise=0.075, noise_fwhm_mm=6.5, pet_drift=0.015,
                t1_levels=(70.0, 150.0, 205.0), flair_levels=(40.0, 140.0, 105.0, 205.0),
                flair_slice_mm=3.0, mri_noise=0.035, bias_sd=0.03,
            ),
            Scanner(
                name="adni-2", psf_fwhm_mm=8.0, pet_noise=0.085, noise_fwhm_mm=6.0, pet_drift=0.015,
                t1_levels=(60.0, 170.0, 230.0), flair_levels=(35.0, 160.0, 130.0, 240.0),
                flair_slice_mm=5.0, mri_noise=0.03, bias_sd=0.04,
            ),
            Scanner(
                name="adni-3", psf_fwhm_mm=8.0, pet_noise=0.065, noise_fwhm_mm=7.0, pet_drift=0.018,
                t1_levels=(80.0, 155.0, 195.0), flair_levels=(45.0, 145.0, 120.0, 215.0),
                flair_slice_mm=1.2, mri_noise=0.045, bias_sd=0.03,
            ),
        ),
    ),
}  # fmt: skip


def get_site(name: str) -> Site:
    """Look a site up by name; raise InputError listing the known ones."""
    try:
        return SITES[name]
    except KeyError:
        raise InputError(
            f"Unknown site {name!r}; choose one of {', '.join(SITES)}{meant(name, SITES)}."
        ) from None


def override_scanners(site: Site, **changes: Any) -> Site:
    """The same site with settings of all its scanners replaced; raises InputError for an unknown setting."""
    known = {field.name for field in fields(Scanner)}
    unknown = sorted(set(changes) - known)
    if unknown:
        raise InputError(f"A scanner has no setting {unknown[0]!r}; choose among {', '.join(sorted(known))}.")
    return replace(site, scanners=tuple(replace(scanner, **changes) for scanner in site.scanners))


def point_spread(activity: Volume, grid: Grid, fwhm_mm: float) -> Volume:
    """Blur activity on ``grid`` to the scanner's resolution; the voxel's own width counts towards it.

    Fractions on the grid were averaged over a voxel already (FWHM sqrt(voxel^2 - 1 mm^2)).
    """
    own_squared = max(grid.voxel_size**2 - 1.0, 0.0)
    sigma = np.sqrt(max(fwhm_mm**2 - own_squared, 0.0)) / FWHM_PER_SD / grid.voxel_size
    return np.asarray(ndimage.gaussian_filter(activity, sigma, truncate=3.5), dtype=np.float32)


def slow_field(grid: Grid, width_mm: float, rng: np.random.Generator) -> Volume:
    """A smooth random field, unit SD, correlated over about ``width_mm``; the same field on every grid."""
    spacing, margin = width_mm / 4, 120.0
    count = int(np.ceil(2 * margin / spacing)) + 1
    coarse = ndimage.gaussian_filter(rng.standard_normal((count,) * 3), 4 / FWHM_PER_SD, mode="wrap")
    coarse *= (2 * np.sqrt(np.pi) * 4 / FWHM_PER_SD) ** 1.5  # unit SD after the filter
    return sample_field(coarse, spacing, margin, grid)


def sample_field(coarse: npt.NDArray[Any], spacing: float, margin: float, grid: Grid) -> Volume:
    """A lattice of ``spacing`` mm, its first point ``margin`` mm before the origin, sampled on a grid."""
    to_coarse = np.diag([*[grid.voxel_size / spacing] * 3, 1.0])
    to_coarse[:3, 3] = (grid.affine[:3, 3] + margin) / spacing
    return sample(coarse, to_coarse, grid.shape, mode="nearest")


def pet_noise(noise_free: Volume, scanner: Scanner, grid: Grid, rng: np.random.Generator) -> Volume:
    """What acquisition adds to a noise-free map: correlated noise, SD ~ root of uptake, and slow drift.

    Averaging over voxels of size v lowers the SD by (f^2 / (f^2 + v^2))^(3/4), f the correlation length.
    """
    width = np.sqrt(scanner.noise_fwhm_mm**2 + max(grid.voxel_size**2 - 1.0, 0.0))
    sigma = width / FWHM_PER_SD / grid.voxel_size
    noise = ndimage.gaussian_filter(rng.standard_normal(grid.shape, dtype=np.float32), sigma, truncate=3)
    noise /= np.float32(noise.std())
    sd = scanner.pet_noise * (scanner.noise_fwhm_mm / width) ** 1.5
    drift = scanner.pet_drift * slow_field(grid, 70.0, rng)
    uptake = np.maximum(noise_free, 0)
    # Outside the head a reconstruction keeps a little noise.
    return np.asarray(noise * sd * np.sqrt(np.maximum(uptake, 0.02)) + drift * uptake, dtype=np.float32)
