"""A simulated subject's anatomy: the template bent by a diffeomorphism, thinned, its labels moved along.

The pull-back map phi = exp(v) of a stationary velocity field v (Arsigny et al., MICCAI 2006) takes each point
of the subject to template space. v = smooth random field + fields with a prescribed divergence, so that a
region's volume changes by a stated factor: div v = -log(factor) (Karacali and Davatzikos, IEEE TMI 2006).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from relapet.imaging.grid import Grid
from relapet.imaging.resample import FWHM_PER_SD
from relapet.imaging.template import atlas_names
from relapet.simulation.latents import Latents
from relapet.simulation.regions import (
    AMYLOID_ATROPHY,
    CORTICAL_LOBES,
    TAU_ATROPHY,
    base_name,
    indices_of,
    lobe_of_label,
    signature,
)
from relapet.simulation.sources import SOURCE_GRID, TEMPLATE_T1_LEVELS, load_sources
from relapet.types import Labels, Mask, Volume

VELOCITY_GRID = Grid("velocity", 4.0, (48, 56, 48))
_SQUARINGS = 6
_RANDOM_FIELDS = ((16.0, 1.4), (6.0, 0.5))
"""Smoothness (SD of the kernel, mm) and displacement (SD, mm) of the random part of v."""
_SCALE_SD = 0.01
"""Between-subject SD of each axis's residual scale after registration to the template."""
_TAU_LOSS, _AMYLOID_LOSS, _TRAIT_LOSS = 0.40, 0.10, 0.05
"""Cortical tissue lost at burden 1 where the signature is 1, and per SD of a lobe's thickness trait."""
_TAU_LOG_VOLUME = -0.45
"""Logarithm of the medial temporal volume factor at tau burden 1."""
_SURROUNDING_MM = 12.0
"""SD of the kernel that says how far around a growing region the tissue gives way, mm."""
_VENTRICLE_GAIN = 1.8
"""The velocity lattice blurs narrow horns: this much more divergence gives the stated volume (measured)."""


@dataclass(frozen=True)
class Anatomy:
    """One subject's tissue on a grid. Fractions in [0, 1]; labels are Desikan-Killiany indices."""

    grid: Grid
    template_mm: npt.NDArray[np.float32]
    """Template coordinates of each voxel, (3, X, Y, Z), mm: the true transform."""
    t1: Volume
    """Template T1 texture after bending and tissue loss, template units (0-255)."""
    grey: Volume
    white: Volume
    csf: Volume
    brain: Mask
    grey_label: Labels
    white_label: Labels
    dseg: Labels
    ventricle_distance: Volume


def _lattice_points(grid: Grid) -> npt.NDArray[np.float32]:
    axes = [grid.affine[i, 3] + grid.voxel_size * np.arange(n) for i, n in enumerate(grid.shape)]
    return np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)


def _field_of_divergence(divergence: Volume) -> npt.NDArray[np.float32]:
    """The curl-free field (3, X, Y, Z), mm, with this divergence: the gradient of its potential, by FFT."""
    spacing = VELOCITY_GRID.voxel_size
    k = np.meshgrid(
        *(2 * np.pi * fft.fftfreq(n, spacing) for n in divergence.shape[:2]),
        2 * np.pi * fft.rfftfreq(divergence.shape[2], spacing),
        indexing="ij",
    )
    squared = k[0] ** 2 + k[1] ** 2 + k[2] ** 2
    squared[0, 0, 0] = 1.0
    spectrum = fft.rfftn(divergence) / -squared
    spectrum[0, 0, 0] = 0.0
    components = [fft.irfftn(1j * component * spectrum, divergence.shape) for component in k]
    return np.stack(components).astype(np.float32)


@lru_cache(maxsize=1)
def _growth_fields() -> dict[str, npt.NDArray[np.float32]]:
    """Velocity field per unit of log volume, for ventricles and medial temporal lobe.

    What grows is paid for by its surroundings, so that the head stays as large as it is.
    """
    sources = load_sources(1.0)
    regions = {
        "ventricles": indices_of("Lateral-Ventricle", "choroid-plexus"),
        "medial_temporal": indices_of("Hippocampus", "Amygdala"),
    }
    points = _lattice_points(VELOCITY_GRID) - SOURCE_GRID.affine[:3, 3].reshape(3, 1, 1, 1)
    spacing = VELOCITY_GRID.voxel_size
    fields = {}
    for name, indices in regions.items():
        mask = np.isin(sources.dseg, indices).astype(np.float32)
        region = ndimage.map_coordinates(
            ndimage.gaussian_filter(mask, spacing / FWHM_PER_SD), points, order=1
        )
        near = ndimage.gaussian_filter(region, _SURROUNDING_MM / spacing) * np.clip(1 - region, 0, 1)
        fields[name] = _field_of_divergence(near * (region.sum() / near.sum()) - region)
    return fields


def _random_velocity(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    spacing = VELOCITY_GRID.voxel_size
    velocity = np.zeros((3, *VELOCITY_GRID.shape), dtype=np.float32)
    for smoothness, displacement in _RANDOM_FIELDS:
        sigma = smoothness / spacing
        # SD of smoothed white noise: (2 sqrt(pi) sigma)^(-3/2)
        gain = displacement * (2 * np.sqrt(np.pi) * sigma) ** 1.5
        for component in velocity:
            noise = rng.standard_normal(VELOCITY_GRID.shape, dtype=np.float32)
            component += gain * ndimage.gaussian_filter(noise, sigma, mode="wrap", truncate=3)
    scale = _SCALE_SD * rng.standard_normal(3).astype(np.float32)
    return velocity + scale.reshape(3, 1, 1, 1) * _lattice_points(VELOCITY_GRID)


def _exponential(velocity: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Displacement u (mm) of exp(v) by scaling and squaring: u <- u + u(x + u)."""
    displacement = velocity / np.float32(2**_SQUARINGS)
    voxels = np.indices(VELOCITY_GRID.shape, dtype=np.float32)
    for _ in range(_SQUARINGS):
        where = voxels + displacement / np.float32(VELOCITY_GRID.voxel_size)
        displacement = displacement + np.stack(
            [ndimage.map_coordinates(u, where, order=1, mode="nearest") for u in displacement]
        )
    return displacement


def tissue_loss(latents: Latents) -> dict[int, float]:
    """Fraction of grey matter lost in each cortical and medial temporal label; negative is thicker."""
    tau, amyloid = signature(TAU_ATROPHY), signature(AMYLOID_ATROPHY)
    lobes = lobe_of_label()
    return {
        index: float(
            latents.cortical_loss
            + _TAU_LOSS * tau.get(index, 0.0) * latents.visible_burden["tau"]
            + _AMYLOID_LOSS * amyloid.get(index, 0.0) * latents.visible_burden["amyloid"]
            - _TRAIT_LOSS * latents.traits[f"thickness_{lobes[index]}"]
        )
        for index, name in atlas_names().items()
        if lobes[index] in CORTICAL_LOBES and base_name(name) not in {"Hippocampus", "Amygdala"}
    }


def template_map(latents: Latents, grid: Grid, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Template coordinates (3, X, Y, Z), mm, of every voxel of ``grid``."""
    fields = _growth_fields()
    velocity = _random_velocity(rng)
    velocity += np.float32(_VENTRICLE_GAIN * latents.ventricle_growth) * fields["ventricles"]
    velocity += np.float32(_TAU_LOG_VOLUME * latents.visible_burden["tau"]) * fields["medial_temporal"]
    displacement = _exponential(velocity)
    points = _lattice_points(grid)
    first = VELOCITY_GRID.affine[:3, 3].astype(np.float32).reshape(3, 1, 1, 1)
    where = (points - first) / np.float32(VELOCITY_GRID.voxel_size)
    moved = [ndimage.map_coordinates(u, where, order=1, mode="nearest") for u in displacement]
    return np.asarray(points + np.stack(moved), dtype=np.float32)


def build_anatomy(latents: Latents, grid: Grid, rng: np.random.Generator) -> Anatomy:
    """Bend the template to one subject on ``grid`` and thin its cortex."""
    sources = load_sources(grid.voxel_size)
    template_mm = template_map(latents, grid, rng)
    where = template_mm - SOURCE_GRID.affine[:3, 3].astype(np.float32).reshape(3, 1, 1, 1)

    def linear(data: Volume) -> Volume:
        return np.asarray(ndimage.map_coordinates(data, where, order=1), dtype=np.float32)

    shape = SOURCE_GRID.shape
    nearest = tuple(np.clip(np.rint(w).astype(np.intp), 0, n - 1) for w, n in zip(where, shape, strict=True))
    grey, white, csf, t1 = (linear(d) for d in (sources.grey, sources.white, sources.csf, sources.t1))
    grey_label = sources.grey_label[nearest]
    table = np.zeros(int(sources.grey_label.max()) + 1, dtype=np.float32)
    loss = tissue_loss(latents)
    table[list(loss)] = list(loss.values())
    fraction = table[grey_label] * sources.pial[nearest]
    moved = np.where(fraction > 0, np.minimum(fraction, 0.9) * grey, np.maximum(fraction, -0.9) * csf)
    csf_level, grey_level, _ = TEMPLATE_T1_LEVELS
    brain = linear(sources.brain) > 0.5
    return Anatomy(
        grid,
        template_mm,
        (t1 - moved * np.float32(grey_level - csf_level)).astype(np.float32),
        (grey - moved).astype(np.float32),
        white,
        (csf + moved).astype(np.float32),
        brain,
        grey_label,
        sources.white_label[nearest],
        np.where(brain, sources.dseg[nearest], 0).astype(np.int32),
        sources.ventricle_distance[nearest],
    )
