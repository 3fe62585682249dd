"""The region whose mean uptake SUVr divide by: where it lies in template space, and an image's mean in it."""

from __future__ import annotations

from typing import Any

import numpy as np

from relapet.errors import SubjectError
from relapet.imaging.grid import Grid
from relapet.imaging.template import Atlas
from relapet.tracers import TracerSpec
from relapet.types import Mask, Volume

_MIN_SEEN = 0.8
"""Least share of the reference region that must lie in the PET's field of view."""


def template_reference(tracer: TracerSpec, atlas: Atlas, grid: Grid) -> Mask:
    """The tracer's reference region in template space."""
    mask = atlas.mask(tracer.reference_region.labels)
    top = tracer.reference_region.z_max_mm
    if top is None:
        return mask
    heights = grid.affine[2, 2] * np.arange(grid.shape[2]) + grid.affine[2, 3]
    return np.asarray(mask & (heights < top))


def reference_mean(pet: Volume, region: Mask, tracer: TracerSpec, name: str) -> float:
    """Mean uptake in the reference region, in the image's unit.

    Raises SubjectError, naming ``name``, where the region is empty, cut off or without uptake.
    """
    values: Any = pet[region]
    where = tracer.reference_region.name
    if values.size == 0:
        raise SubjectError(
            f"{name}: no voxel of the reference region ({where}) lies in the T1w's field of view."
        )
    seen = float((values != 0).mean())
    if seen < _MIN_SEEN:
        raise SubjectError(
            f"{name}: only {seen:.0%} of the reference region ({where}) lies in the PET's field of view; leave this "
            "scan out, or check the registration's picture."
        )
    mean = float(values.mean())
    if mean <= 0:
        raise SubjectError(
            f"{name}: mean uptake in the reference region ({where}) is {mean:.3g}; check the image."
        )
    return mean
