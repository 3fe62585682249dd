"""White-matter hyperintensities up to a stated load: periventricular caps and bands, deep ellipsoids.

Sizes and places after Kim et al., Biol Psychiatry 2008, and Griffanti et al., NeuroImage 2018: most of the
volume is periventricular (within 10 mm of the ventricles), deep lesions measure 2 to 12 mm.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from relapet.cohort.anatomy import Anatomy
from relapet.cohort.sources import SOURCE_GRID, load_sources
from relapet.types import Volume

_PERIVENTRICULAR_SHARE = 0.65
_DEEP_DISTANCE_MM = (9.0, 40.0)
_MEDIAN_RADIUS_MM, _LOG_RADIUS_SD = 1.9, 0.40
_MAX_DEEP = 250


def _deep_lesions(volume_mm3: float, rng: np.random.Generator) -> tuple[npt.NDArray[np.float64], ...]:
    """Centres (N, 3) in template mm and semi-axes (N, 3) in mm of deep lesions that add up to a volume."""
    radius = _MEDIAN_RADIUS_MM * np.exp(_LOG_RADIUS_SD * rng.standard_normal(_MAX_DEEP))
    shape = np.exp(0.25 * rng.standard_normal((_MAX_DEEP, 3)))
    axes = radius[:, None] * shape / np.prod(shape, axis=1, keepdims=True) ** (1 / 3)
    cumulative = np.cumsum(4 / 3 * np.pi * radius**3)
    count = min(int(np.searchsorted(cumulative, volume_mm3)), _MAX_DEEP)
    sources = load_sources(1.0)
    low, high = _DEEP_DISTANCE_MM
    eligible = (
        ((sources.dseg == 2) | (sources.dseg == 41))
        & (sources.white > 0.9)
        & (sources.ventricle_distance > low)
        & (sources.ventricle_distance < high)
    )
    places = np.argwhere(eligible)
    chosen = places[rng.integers(0, len(places), _MAX_DEEP)]
    centres = chosen + SOURCE_GRID.affine[:3, 3] + rng.uniform(-0.5, 0.5, (_MAX_DEEP, 3))
    return centres[:count], axes[:count]


def _add_ellipsoid(
    lesion: Volume, template_mm: npt.NDArray[np.float32], index: tuple[int, ...], centre: npt.NDArray[np.float64],
    axes: npt.NDArray[np.float64], voxel_size: float,
) -> None:  # fmt: skip
    """Add one soft ellipsoid that keeps its volume whatever the voxel size."""
    blur = 0.45 * voxel_size
    wide = np.sqrt(axes**2 + blur**2)
    amplitude = float(np.prod(axes / wide))
    reach = int(np.ceil(1.8 * wide.max() / voxel_size)) + 2
    box = tuple(slice(max(i - reach, 0), i + reach + 1) for i in index)
    offset = (template_mm[(slice(None), *box)] - centre.reshape(3, 1, 1, 1)) / wide.reshape(3, 1, 1, 1)
    rho = np.sqrt((offset**2).sum(axis=0))
    edge = 0.12 + 0.25 * blur / float(wide.mean())
    lesion[box] = np.maximum(lesion[box], amplitude / (1 + np.exp((rho - 1) / edge)))


def _periventricular(anatomy: Anatomy, volume_mm3: float, rng: np.random.Generator) -> Volume:
    """A halo around the lateral ventricles, thicker at the horns, whose width is solved for the volume."""
    spacing = 8.0
    # Uneven on a lattice that no output grid changes, sampled where the voxels came from.
    noise = ndimage.gaussian_filter(rng.standard_normal((24, 28, 24)), 1.1)
    noise /= noise.std()
    where = (anatomy.template_mm + np.float32(96.0)) / np.float32(spacing)
    uneven = ndimage.map_coordinates(noise, where, order=1, mode="nearest")
    y = anatomy.template_mm[1]
    horns = np.exp(-(((y - 28) / 14) ** 2)) + np.exp(-(((y + 55) / 18) ** 2))
    thickness = np.exp(0.45 * uneven + 0.7 * horns)
    depth = anatomy.ventricle_distance / thickness
    near = (anatomy.ventricle_distance < 22) & (anatomy.white > 0.05) & anatomy.brain
    voxel_mm3 = anatomy.grid.voxel_size**3
    weights, depths = anatomy.white[near], depth[near]
    edge = 0.25 + 0.1 * anatomy.grid.voxel_size

    def halo(width: float) -> npt.NDArray[np.float64]:
        return np.asarray(1 / (1 + np.exp(np.clip((depths - width) / edge, -60, 60))), dtype=np.float64)

    low, high = -3.0, 15.0
    for _ in range(24):
        width = (low + high) / 2
        enough = float((halo(width) * weights).sum()) * voxel_mm3 > volume_mm3
        low, high = (low, width) if enough else (width, high)
    lesion = np.zeros(anatomy.grid.shape, dtype=np.float32)
    lesion[near] = halo(low)
    return lesion


def build_lesions(anatomy: Anatomy, volume_ml: float, rng: np.random.Generator) -> Volume:
    """Lesion fraction of each voxel in [0, 1] for a total volume in ml, confined to cerebral white matter."""
    deep_volume = volume_ml * 1000 * (1 - _PERIVENTRICULAR_SHARE) * float(np.exp(0.3 * rng.standard_normal()))
    lesion = _periventricular(anatomy, volume_ml * 1000 - min(deep_volume, volume_ml * 700), rng)
    centres, axes = _deep_lesions(deep_volume, rng)
    if len(centres):
        # The voxel that came from nearest to the centre: the map is close to the identity, so a search box does.
        grid = anatomy.grid
        for centre, semi_axes in zip(centres, axes, strict=True):
            guess = (centre - grid.affine[:3, 3]) / grid.voxel_size
            for _ in range(3):
                index = tuple(
                    int(np.clip(round(g), 0, n - 1)) for g, n in zip(guess, grid.shape, strict=True)
                )
                guess = (
                    np.array(index) + (centre - anatomy.template_mm[(slice(None), *index)]) / grid.voxel_size
                )
            index = tuple(int(np.clip(round(g), 0, n - 1)) for g, n in zip(guess, grid.shape, strict=True))
            _add_ellipsoid(lesion, anatomy.template_mm, index, centre, semi_axes, grid.voxel_size)
    cerebral = np.isin(anatomy.white_label, [2, 41])
    return np.asarray(
        np.clip(lesion * np.minimum(anatomy.white * 1.3, 1.0) * cerebral, 0, 1), dtype=np.float32
    )
