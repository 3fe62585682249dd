"""What every simulated brain is bent from: the 1 mm template, split by whose tissue each voxel holds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from relapet.imaging.grid import Grid
from relapet.imaging.resample import FWHM_PER_SD
from relapet.imaging.template import load_atlas, load_template
from relapet.simulation.regions import carries_all, carries_white, indices_of, is_cortex, lobe_of_label
from relapet.types import Labels, Volume

SOURCE_GRID = Grid("source", 1.0, (176, 208, 184))
"""1 mm, wider than every output grid's brain, so that a bent brain never leaves it."""
TEMPLATE_T1_LEVELS = (60.0, 165.0, 215.0)
"""Signal of fluid, grey and white matter in the template's T1 (0-255)."""


@dataclass(frozen=True)
class Sources:
    """Template images on SOURCE_GRID, continuous ones smoothed to ``voxel_size`` (mm) against aliasing."""

    voxel_size: float
    t1: Volume
    grey: Volume
    white: Volume
    csf: Volume
    brain: Volume
    grey_label: Labels
    """Label whose uptake the grey fraction of a voxel carries."""
    white_label: Labels
    """Label whose uptake the white fraction of a voxel carries."""
    dseg: Labels
    """Desikan-Killiany labels, the cortical ones spread over the whole grey ribbon."""
    pial: Volume
    """Weight of tissue loss: high next to sulcal fluid, mean 1 over each label's grey matter."""
    ventricle_distance: Volume
    """Distance to the lateral ventricles, mm."""


def _nearest_label(labels: Labels, allowed: npt.NDArray[np.bool_]) -> Labels:
    """The label of the nearest voxel whose label is allowed."""
    nearest = ndimage.distance_transform_edt(~allowed, return_distances=False, return_indices=True)
    return np.asarray(labels[tuple(nearest)], dtype=np.int32)


def _pial_weight(outside: Volume, grey: Volume, grey_label: Labels) -> Volume:
    near = ndimage.gaussian_filter(outside, 1.5)
    indices = np.unique(grey_label)
    weighted = ndimage.sum_labels(near * grey, grey_label, indices)
    mass = ndimage.sum_labels(grey, grey_label, indices)
    mean = np.ones(grey_label.max() + 1)
    mean[indices] = np.maximum(weighted / np.maximum(mass, 1e-6), 1e-3)
    return np.asarray(np.minimum(near / mean[grey_label], 2.5), dtype=np.float32)


@lru_cache(maxsize=1)
def _labels() -> tuple[Labels, Labels, Labels, Volume, Volume]:
    """Grey carrier, white carrier, refined segmentation, pial weight, ventricle distance; at 1 mm."""
    template, raw = load_template(SOURCE_GRID), load_atlas(SOURCE_GRID).labels
    lobes = lobe_of_label()
    deep = np.isin(raw, [i for i in lobes if carries_all(i)])
    cortex = np.isin(raw, [i for i in lobes if is_cortex(i)])
    cerebellar = np.isin(raw, indices_of("Cerebellum-Cortex"))
    white = np.isin(raw, [i for i in lobes if carries_white(i)])
    fluid = np.isin(raw, [i for i, lobe in lobes.items() if lobe == "csf"])
    grey_label = _nearest_label(raw, deep | cortex | cerebellar)
    white_label = np.where(deep, raw, _nearest_label(raw, white)).astype(np.int32)
    # The atlas ribbon is thinner than the template's: grey voxels outside nuclei take the nearest parcel.
    ribbon = template.brain & (template.grey > 0.5) & ~deep & ~fluid & ~cerebellar
    beside_cerebellar_cortex = np.isin(raw, indices_of("Cerebellum-White-Matter", "4th-Ventricle"))
    dseg = np.where(ribbon & ~beside_cerebellar_cortex, grey_label, np.where(template.brain, raw, 0)).astype(
        np.int32
    )
    ventricles = np.isin(raw, indices_of("Lateral-Ventricle"))
    distance = ndimage.distance_transform_edt(~ventricles).astype(np.float32)
    outside = np.clip(1 - template.grey - template.white, 0, 1)
    pial = _pial_weight(outside, template.grey, grey_label)
    return grey_label, white_label, dseg, pial, distance


@lru_cache(maxsize=4)
def load_sources(voxel_size: float) -> Sources:
    """The template's images, continuous ones smoothed from 1 mm voxels to ``voxel_size`` (mm)."""
    template = load_template(SOURCE_GRID)
    grey_label, white_label, dseg, pial, distance = _labels()
    sigma = np.sqrt(max(voxel_size**2 - 1.0, 0.0)) / FWHM_PER_SD

    def smoothed(data: Volume) -> Volume:
        return np.asarray(ndimage.gaussian_filter(data, sigma), dtype=np.float32) if sigma else data

    return Sources(
        voxel_size,
        smoothed(template.t1),
        smoothed(template.grey),
        smoothed(template.white),
        smoothed(template.csf),
        smoothed(template.brain.astype(np.float32)),
        grey_label,
        white_label,
        dseg,
        pial,
        distance,
    )
