"""The numbers a network sees: MRI relative to its tissue's median, PET in the tracer's SUVr window, both [-1, 1]."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from relapet.errors import InputError, SubjectError, VolumeError
from relapet.imaging.bids import VisitFiles
from relapet.imaging.grid import GRIDS, Grid, find_grid
from relapet.imaging.measured import is_model_ready, load_suvr
from relapet.imaging.nifti import load_volume, require_contrast
from relapet.imaging.template_space import bring_to_grid
from relapet.tracers import TracerSpec
from relapet.types import Mask, Volume

Window = tuple[float, float]
"""SUVr that become -1 and 1."""
MriScaling = Literal["robust", "minmax"]
MODALITIES = ("T1w", "FLAIR")
"""The MRI channels in order."""
BACKGROUND = -1.0
"""Value outside the brain, and everywhere in a modality that is absent."""
_MOST_SUVR = 1e4
"""Far above any uptake, and below what the cache's float16 holds."""
_TISSUE = 0.4
"""Voxels brighter than this share of the 98th percentile are tissue, not fluid."""


def scale_mri(volume: Volume, mask: Mask, scaling: MriScaling = "robust") -> Volume:
    """Scale one MRI ``(X, Y, Z)`` of any unit to [-1, 1] inside ``mask``, `BACKGROUND` outside.

    ``robust``: ``x / m - 1``, clipped, with m the median of brain tissue: tissue lies about 0, fluid towards -1,
    lesions on FLAIR up to +0.8. Zero stays the darkest. Fluid is kept out of m, so that a tight and a generous
    brain mask give the same scale.
    ``minmax``: the least value of the masked volume to -1, the greatest to 1, as the published release does.
    Raises ValueError for a constant image.
    """
    masked = np.where(mask, volume, 0)
    inside = volume[mask]
    bright = np.percentile(inside, 98) if inside.size else 0.0
    if bright <= 0 or float(inside.min()) == float(inside.max()):
        raise ValueError("the image is constant inside the brain mask")
    if scaling == "minmax":
        low, high = float(masked.min()), float(masked.max())
        scaled = (masked - (low + high) / 2) / ((high - low) / 2)
    else:
        scaled = masked / np.median(inside[inside > _TISSUE * bright]) - 1
    return np.where(mask, np.clip(scaled, -1, 1), BACKGROUND).astype(np.float32)


def withhold(mri: Volume, channel: int | None) -> Volume:
    """The MRI ``(2, X, Y, Z)`` without one channel (None: as it is); where the other is absent, that one stays."""
    if channel is None or not (mri[1 - channel] > BACKGROUND).any():
        return mri
    left = mri.copy()
    left[channel] = BACKGROUND
    return left


def suvr_to_model(suvr: Volume, window: Window) -> Volume:
    """SUVr to [-1, 1] by a window; what lies outside it is clipped."""
    low, high = window
    return np.clip((suvr - low) / (high - low) * 2 - 1, -1, 1).astype(np.float32)


def model_to_suvr(values: Volume, window: Window) -> Volume:
    """[-1, 1] back to SUVr; the inverse of `suvr_to_model`."""
    low, high = window
    return ((values + 1) / 2 * (high - low) + low).astype(np.float32)


def own_range(suvr: Volume) -> Window:
    """A volume's least and greatest SUVr, the published release's window; raises ValueError where they are equal."""
    low, high = float(suvr.min()), float(suvr.max())
    if high <= low:
        raise ValueError("the PET is constant")
    return low, high


def load_on_grid(path: Path, grid: Grid) -> Volume:
    """Load a model-ready volume; raises VolumeError where it does not lie on ``grid``."""
    image = load_volume(path)
    if not grid.matches(image.shape, image.affine):
        raise VolumeError(
            f"{path} has shape {image.shape} and does not lie on the {grid.name} grid {grid.shape}; "
            "make the derivatives anew with one --grid."
        )
    return np.asarray(image.dataobj, dtype=np.float32)


def load_pet(path: Path, tracer: TracerSpec, grid: Grid) -> Volume:
    """Measured SUVr on a grid: a model-ready map as it is, another pipeline's PET made so (see `load_suvr`)."""
    suvr = (
        require_contrast(load_on_grid(path, grid), path)
        if is_model_ready(path)
        else load_suvr(path, tracer, grid)
    )
    most = float(np.abs(suvr).max())
    if most > _MOST_SUVR:
        raise VolumeError(
            f"{path} holds values up to {most:.3g}, which are no SUVr; check its unit and its voxels."
        )
    return suvr


def load_mri(files: VisitFiles, grid: Grid, scaling: MriScaling = "robust") -> Volume:
    """The MRI of one visit as a model sees it: T1w and FLAIR scaled, ``(2, X, Y, Z)``; an absent one is background."""
    *volumes, mask = _load_images(files, grid)
    channels = []
    for path, volume in zip((files.t1w, files.flair), volumes, strict=True):
        if volume is None:
            channels.append(np.full(grid.shape, BACKGROUND, dtype=np.float32))
            continue
        try:
            channels.append(scale_mri(volume, mask, scaling))
        except ValueError as error:
            raise VolumeError(f"{path}: {error}; check the image and its mask.") from error
    return np.stack(channels)


def _load_images(files: VisitFiles, grid: Grid) -> tuple[Volume | None, Volume | None, Mask]:
    """T1w, FLAIR and brain mask on a grid; another pipeline's are masked and resampled."""
    if files.mask is None:
        raise SubjectError(f"{files.visit.stem} has no brain mask; run relapet preprocess on it.")
    paths = (files.t1w, files.flair)
    if files.foreign:
        t1w, flair = (None if path is None else load_volume(path) for path in paths)
        ready = bring_to_grid(t1w, flair, load_volume(files.mask), grid, files.visit.stem)
        return ready.t1w, ready.flair, ready.mask
    t1w, flair = (None if path is None else load_on_grid(path, grid) for path in paths)
    return t1w, flair, load_on_grid(files.mask, grid) > 0.5


def derivative_grid(files: VisitFiles) -> Grid:
    """The known grid of a visit's T1w (or FLAIR).

    Raises VolumeError for any other, InputError for another pipeline's, which has none of relapet's grids.
    """
    if files.foreign:
        raise InputError(
            f"{files.visit.folder(Path(), 'anat')} is another pipeline's, on a grid of its own; set data.grid, for "
            "example data.grid=2.5mm."
        )
    path = files.t1w or files.flair
    if path is None:
        raise SubjectError(f"{files.visit.stem} has neither T1w nor FLAIR; add them or exclude the subject.")
    image = load_volume(path)
    grid = find_grid(image.shape, image.affine)
    if grid is None:
        raise VolumeError(
            f"{path} with shape {image.shape} lies on none of relapet's grids ({', '.join(GRIDS)}); "
            "make the derivatives with relapet preprocess or relapet simulate."
        )
    return grid
