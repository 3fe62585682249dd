"""White-matter hyperintensities up to a stated load: periventricular caps and bands, deep ellipsoids.

Sizes and places after Kim et al., Biol Psychiatry 2008, and Griffanti et al., NeuroImage 2018: most of the
volume is periventricular (within 10 mm of the ventricles), deep lesions measure 2 to 12 mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from relapet.simulation.anatomy import Anatomy
from relapet.simulation.regions import indices_of
from relapet.simulation.sources import SOURCE_GRID, load_sources
from relapet.types import Volume

_PERIVENTRICULAR_SHARE = 0.65
_DEEP_DISTANCE_MM = (9.0, 40.0)
_MEDIAN_RADIUS_MM, _LOG_RADIUS_SD = 1.9, 0.40
_MAX_DEEP = 250
_CEREBRAL_WHITE = "Cerebral-White-Matter"


@dataclass(frozen=True)
class _Ellipsoid:
    """One deep lesion: centre (3,) in template mm and semi-axes (3,) in mm."""

    centre: npt.NDArray[np.float64]
    axes: npt.NDArray[np.float64]


@lru_cache(maxsize=1)
def _deep_places() -> npt.NDArray[np.float64]:
    """Template coordinates (N, 3), mm, of pure cerebral white matter away from the ventricles."""
    sources = load_sources(1.0)
    low, high = _DEEP_DISTANCE_MM
    distance = sources.ventricle_distance
    cerebral = np.isin(sources.dseg, indices_of(_CEREBRAL_WHITE))
    eligible = cerebral & (sources.white > 0.9) & (distance > low) & (distance < high)
    return np.asarray(np.argwhere(eligible) + SOURCE_GRID.affine[:3, 3], dtype=np.float64)


def _deep_lesions(volume_mm3: float, rng: np.random.Generator) -> list[_Ellipsoid]:
    """Deep lesions, of log-normal size, that add up to a volume."""
    radius = _MEDIAN_RADIUS_MM * np.exp(_LOG_RADIUS_SD * rng.standard_normal(_MAX_DEEP))
    shape = np.exp(0.25 * rng.standard_normal((_MAX_DEEP, 3)))
    axes = radius[:, None] * shape / np.prod(shape, axis=1, keepdims=True) ** (1 / 3)
    places = _deep_places()
    centres = places[rng.integers(0, len(places), _MAX_DEEP)] + rng.uniform(-0.5, 0.5, (_MAX_DEEP, 3))
    count = min(int(np.searchsorted(np.cumsum(4 / 3 * np.pi * radius**3), volume_mm3)), _MAX_DEEP)
    return [_Ellipsoid(centres[i], axes[i]) for i in range(count)]


def _voxel_of(anatomy: Anatomy, template_point: npt.NDArray[np.float64]) -> tuple[int, int, int]:
    """The voxel that the map takes to a template point: a fixed-point search, the map being near identity."""
    grid = anatomy.grid
    guess = (template_point - grid.affine[:3, 3]) / grid.voxel_size
    voxel = (0, 0, 0)
    for _ in range(4):
        i, j, k = (int(np.clip(round(g), 0, n - 1)) for g, n in zip(guess, grid.shape, strict=True))
        voxel = (i, j, k)
        guess = np.array(voxel) + (template_point - anatomy.template_mm[:, i, j, k]) / grid.voxel_size
    return voxel


def _add_ellipsoid(lesion: Volume, anatomy: Anatomy, ellipsoid: _Ellipsoid) -> None:
    """Add one soft ellipsoid that keeps its volume whatever the voxel size."""
    voxel_size = anatomy.grid.voxel_size
    blur = 0.45 * voxel_size
    wide = np.sqrt(ellipsoid.axes**2 + blur**2)
    amplitude = float(np.prod(ellipsoid.axes / wide))
    reach = int(np.ceil(1.8 * wide.max() / voxel_size)) + 2
    i, j, k = (slice(max(v - reach, 0), v + reach + 1) for v in _voxel_of(anatomy, ellipsoid.centre))
    offset = anatomy.template_mm[:, i, j, k] - ellipsoid.centre.reshape(3, 1, 1, 1)
    radius = np.sqrt(((offset / wide.reshape(3, 1, 1, 1)) ** 2).sum(axis=0))
    edge = 0.12 + 0.25 * blur / float(wide.mean())
    lesion[i, j, k] = np.maximum(lesion[i, j, k], amplitude / (1 + np.exp((radius - 1) / edge)))


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
    """Lesion fraction of each voxel in [0, 1], about ``volume_ml`` in all, in cerebral white matter alone."""
    share = min((1 - _PERIVENTRICULAR_SHARE) * float(np.exp(0.3 * rng.standard_normal())), 0.7)
    volume_mm3 = 1000 * volume_ml
    lesion = _periventricular(anatomy, volume_mm3 * (1 - share), rng)
    for ellipsoid in _deep_lesions(volume_mm3 * share, rng):
        _add_ellipsoid(lesion, anatomy, ellipsoid)
    room = np.minimum(anatomy.white * 1.3, 1.0) * np.isin(anatomy.white_label, indices_of(_CEREBRAL_WHITE))
    return np.asarray(np.clip(lesion * room, 0, 1), dtype=np.float32)
