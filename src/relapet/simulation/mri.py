"""The two MRI contrasts of a simulated subject, brain-only, in the scanner's arbitrary units."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from relapet.imaging.resample import FWHM_PER_SD
from relapet.simulation.anatomy import Anatomy
from relapet.simulation.latents import Latents
from relapet.simulation.regions import AMYLOID_ATROPHY, INFLAMMATION_FLAIR, LOBES, lobe_of_label, signature
from relapet.simulation.scanner import Scanner, slow_field
from relapet.simulation.sources import TEMPLATE_T1_LEVELS
from relapet.types import Volume

_LESION_T1_LOSS = 45.0
_FLAIR_TEXTURE = -0.35
"""How much of the T1 texture FLAIR shows, inverted."""
_FLAIR_INFLAMMATION, _FLAIR_TRAIT, _T1_TRAIT = 0.12, 0.04, 0.04
"""Relative FLAIR brightening at full inflammation; relative signal per SD of a lobe's trait."""
_T1_AMYLOID = 0.15
"""Relative T1w brightening of cortex with amyloid: the grey-white boundary blurs."""
_GAIN_SD = 0.15


def _table(values: dict[int, float], size: int) -> Volume:
    table = np.zeros(size, dtype=np.float32)
    table[list(values)] = list(values.values())
    return table


def _regional(anatomy: Anatomy, values: dict[int, float]) -> Volume:
    """A value by label as a map, by what share of the voxel each label's tissue fills."""
    table = _table(values, int(max(anatomy.grey_label.max(), anatomy.white_label.max())) + 1)
    signal = anatomy.grey * table[anatomy.grey_label] + anatomy.white * table[anatomy.white_label]
    # Signal fades over a few millimetres: no lobe ends at a wall.
    return np.asarray(ndimage.gaussian_filter(signal, 2.0 / anatomy.grid.voxel_size), dtype=np.float32)


def flair_signal(latents: Latents) -> dict[int, float]:
    """Relative FLAIR brightening of each label."""
    limbic, lobes = signature(INFLAMMATION_FLAIR), lobe_of_label()
    inflamed = latents.visible_burden["inflammation"]
    return {
        index: float(
            _FLAIR_INFLAMMATION * limbic.get(index, 0.25 if lobe != "white" else 0.0) * inflamed
            + _FLAIR_TRAIT * latents.traits[f"flair_{lobe}"]
        )
        for index, lobe in lobes.items()
        if lobe in LOBES
    }


def t1_signal(latents: Latents) -> dict[int, float]:
    """Relative T1w signal of each label: iron in grey matter, myelin in white."""
    amyloid = signature(AMYLOID_ATROPHY)
    return {
        index: float(
            _T1_TRAIT * latents.traits[f"t1_{lobe}"]
            + _T1_AMYLOID * amyloid.get(index, 0.0) * latents.visible_burden["amyloid"]
        )
        for index, lobe in lobe_of_label().items()
        if lobe in LOBES
    }


def _acquire(signal: Volume, anatomy: Anatomy, scanner: Scanner, rng: np.random.Generator) -> Volume:
    """Receive field, Rician noise (less in larger voxels), gain and brain mask."""
    gain = np.exp(_GAIN_SD * rng.standard_normal())
    bias = np.exp(scanner.bias_sd * slow_field(anatomy.grid, 100.0, rng))
    sd = scanner.mri_noise * scanner.t1_levels[2] * anatomy.grid.voxel_size**-1.5
    noise = rng.standard_normal((2, *anatomy.grid.shape), dtype=np.float32) * np.float32(sd)
    magnitude = np.hypot(signal * bias + noise[0], noise[1]) * gain
    return np.where(anatomy.brain, magnitude, 0).astype(np.float32)


def simulate_mri(
    anatomy: Anatomy, lesion: Volume, latents: Latents, scanner: Scanner, rng: np.random.Generator
) -> tuple[Volume, Volume]:
    """T1w and FLAIR of one subject: the scanner's contrast, the template's texture, lesions, traits."""
    tissues = (anatomy.csf, anatomy.grey, anatomy.white)
    template_mean = sum(level * tissue for level, tissue in zip(TEMPLATE_T1_LEVELS, tissues, strict=True))
    texture = (anatomy.t1 - template_mean) * (sum(tissues) > 0.3)
    t1_mean = sum(level * tissue for level, tissue in zip(scanner.t1_levels, tissues, strict=True))
    t1 = (t1_mean + texture) * (1 + _regional(anatomy, t1_signal(latents))) - _LESION_T1_LOSS * lesion
    *flair_tissue, lesion_level = scanner.flair_levels
    flair = sum(level * tissue for level, tissue in zip(flair_tissue, tissues, strict=True))
    flair = (flair + _FLAIR_TEXTURE * texture) * (1 + _regional(anatomy, flair_signal(latents)))
    flair += lesion * (lesion_level - flair)
    slice_sigma = np.sqrt(max(scanner.flair_slice_mm**2 - anatomy.grid.voxel_size**2, 0.0)) / FWHM_PER_SD
    flair = (
        ndimage.gaussian_filter1d(flair, slice_sigma / anatomy.grid.voxel_size, axis=2)
        if slice_sigma
        else flair
    )
    return (
        _acquire(np.maximum(t1, 0).astype(np.float32), anatomy, scanner, rng),
        _acquire(np.maximum(flair, 0).astype(np.float32), anatomy, scanner, rng),
    )
