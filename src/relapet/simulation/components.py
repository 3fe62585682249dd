"""The tissue components of a PET map, and the matrix between their uptake and what a scanner measures.

A region's measured mean mixes its own uptake with its neighbours': measured = G uptake, with the geometric
transfer matrix G of Rousset et al. (J Nucl Med 1998). Solved once on the undeformed template, it turns tables
of measured SUVr into tissue uptake.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from relapet.imaging.grid import GRIDS, Grid
from relapet.imaging.resample import FWHM_PER_SD
from relapet.simulation.regions import lobe_of_label
from relapet.simulation.scanner import point_spread, sample_field
from relapet.simulation.sources import SOURCE_GRID, load_sources
from relapet.types import Labels, Volume

Array = npt.NDArray[np.float64]

TABLE_PSF_MM = 6.0
"""Resolution at which the uptake tables' SUVr count as measured, mm."""
TEXTURE_FWHM_MM = 16.0
"""Width of the smooth random field of uptake inside regions, mm."""
FLUID = 24
"""Atlas index (CSF) under which all fluid is one component."""
_GRID = GRIDS["2.5mm"]
_RIDGE = 0.05
"""Tikhonov weight: keeps the uptake of small regions near the table's value."""
_TEXTURE_FIELDS = 40


@dataclass(frozen=True)
class Components:
    """Which labels carry uptake, and how they mix."""

    labels: tuple[int, ...]
    """Atlas index of each component; the last is all fluid."""
    unmix: Array
    """Measured SUVr -> tissue uptake, (C, C)."""
    volume: Array
    """Voxels of each component's label on the template."""
    texture_sd: Array
    """SD, over subjects, of each label's mean of a texture field of unit SD."""


def texture(grid: Grid, rng: np.random.Generator) -> Volume:
    """A smooth random field of unit SD, TEXTURE_FWHM_MM wide; the same on every grid."""
    spacing, margin = 4.0, 120.0
    sigma = TEXTURE_FWHM_MM / FWHM_PER_SD / spacing
    count = int(2 * margin / spacing) + 1
    noise = ndimage.gaussian_filter(rng.standard_normal((count,) * 3, dtype=np.float32), sigma, truncate=3)
    # SD of smoothed white noise: (2 sqrt(pi) sigma)^(-3/2)
    return sample_field(noise * np.float32((2 * np.sqrt(np.pi) * sigma) ** 1.5), spacing, margin, grid)


def _template_tissue() -> tuple[list[Volume], list[Labels], Labels]:
    """Grey, white and fluid fractions, grey and white carriers, and segmentation on the calibration grid."""
    sources = load_sources(_GRID.voxel_size)
    axes = [
        np.rint(_GRID.affine[i, 3] + _GRID.voxel_size * np.arange(n) - SOURCE_GRID.affine[i, 3]).astype(
            np.intp
        )
        for i, n in enumerate(_GRID.shape)
    ]
    at = np.ix_(*(np.clip(axis, 0, n - 1) for axis, n in zip(axes, SOURCE_GRID.shape, strict=True)))
    fractions = [sources.grey[at], sources.white[at], sources.csf[at]]
    return fractions, [sources.grey_label[at], sources.white_label[at]], sources.dseg[at]


@lru_cache(maxsize=1)
def load_components() -> Components:
    """Components, transfer matrix and texture SD on the undeformed template."""
    (grey, white, csf), (grey_label, white_label), dseg = _template_tissue()
    tissue = sorted({int(i) for i in (*np.unique(grey_label), *np.unique(white_label))})
    labels = (*tissue, FLUID)
    fluid = [index for index, lobe in lobe_of_label().items() if lobe == "csf"]
    regions = np.where(np.isin(dseg, fluid), FLUID, dseg)
    volume = np.asarray(ndimage.sum_labels(np.ones(_GRID.shape), regions, labels))
    transfer = np.zeros((len(labels), len(labels)))
    for column, label in enumerate(labels):
        own = csf if label == FLUID else grey * (grey_label == label) + white * (white_label == label)
        seen = point_spread(own.astype(np.float32), _GRID, TABLE_PSF_MM)
        transfer[:, column] = ndimage.sum_labels(seen, regions, labels) / volume
    identity = np.eye(len(labels))
    ridge = transfer.T @ transfer + _RIDGE**2 * identity
    unmix = identity + np.linalg.solve(ridge, transfer.T @ (identity - transfer))
    rng = np.random.default_rng(0)  # a property of the template: the same in every cohort
    fields = (texture(_GRID, rng) for _ in range(_TEXTURE_FIELDS))
    means = np.stack([ndimage.sum_labels(field, regions, labels) / volume for field in fields])
    return Components(labels, unmix, volume, means.std(axis=0))
