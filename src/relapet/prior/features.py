"""What the prior looks at in an MRI: local means around each voxel, and the whole image by regions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from relapet.prior.anatomy import Anatomy, Lattice
from relapet.threads import side_by_side
from relapet.types import Volume

Inputs = tuple[str, ...]
"""Names of the MRI that a fit uses, in the order of `MODALITIES`."""
MODALITIES = ("T1w", "FLAIR")
"""Channels of an MRI ``(2, X, Y, Z)`` in order."""
INPUT_SETS: tuple[Inputs, ...] = (("T1w", "FLAIR"), ("T1w",), ("FLAIR",))
"""Each set of inputs that a subject may have, the fullest first."""
ABSENT = -1.0
"""Value of a channel whose modality is absent, everywhere; the least value of one that is there."""
_FLUID = (-0.7, -0.3)
"""Scaled T1w (tissue about 0) that is all fluid, and that is none."""
_LESION = (0.2, 0.6)
"""Scaled FLAIR (tissue about 0) that is no lesion, and that is all lesion."""
_QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Of a region's voxels, by which two whole MRIs are compared."""


def present_inputs(mri: Volume) -> Inputs:
    """The modalities that an MRI ``(2, X, Y, Z)`` holds."""
    return tuple(name for name, channel in zip(MODALITIES, mri, strict=True) if (channel > ABSENT).any())


def base_names(inputs: Inputs) -> tuple[str, ...]:
    """The images that local features are means of: T1w, its fluid fraction, FLAIR."""
    return tuple(name for given in inputs for name in ((given, "fluid") if given == "T1w" else (given,)))


def base_images(mri: Volume, inputs: Inputs) -> Volume:
    """Scaled T1w, fluid fraction and scaled FLAIR, as far as ``inputs`` has them, ``(B, X, Y, Z)``."""
    images = []
    for name in inputs:
        channel = mri[MODALITIES.index(name)]
        images.append(channel)
        if name == "T1w":
            none, full = _FLUID[1], _FLUID[0]
            images.append(np.clip((channel - none) / (full - none), 0, 1))
    return np.asarray(images, dtype=np.float32)


def cube_sizes(cubes_mm: tuple[float, ...], spacing_mm: float, voxel_mm: float) -> tuple[int, ...]:
    """Edges in voxels, odd: one lattice spacing (the voxel itself on a coarse grid), then each cube."""
    return tuple(max(1, 1 + 2 * round((edge / voxel_mm - 1) / 2)) for edge in (spacing_mm, *cubes_mm))


def local_features(bases: Volume, sizes: tuple[int, ...], lattice: Lattice | None = None) -> Volume:
    """Means over cubes: ``(F, X, Y, Z)``, or ``(F, voxels)`` of a lattice; F = bases x sizes, sizes fastest."""

    def mean(wanted: tuple[Volume, int]) -> npt.NDArray[np.float32]:
        volume, size = wanted
        for axis in range(3):
            if size > 1:
                volume = ndimage.uniform_filter1d(volume, size, axis=axis, mode="nearest")
            if lattice is not None:  # what is not on the lattice needs no mean along the axes to come
                volume = volume[(slice(None),) * axis + (lattice.along,)]
        return volume if lattice is None else volume[lattice.mask]

    wanted = [(image, size) for image in bases for size in sizes]
    return np.asarray(side_by_side(mean, wanted), dtype=np.float32)


def whole_features(mri: Volume, inputs: Inputs, anatomy: Anatomy) -> npt.NDArray[np.float32]:
    """The whole MRI in numbers by region, ``(P,)``: quantiles of each modality, and the mean of lesion-like FLAIR.

    Quantiles tell tissue's own signal (the middle of a region) from how much of it is fluid (its low end); a mean
    mixes the two.
    """
    order, counts = anatomy.by_region, anatomy.region_sizes
    ends = np.cumsum(counts)
    starts = ends - counts
    parts = []
    for name in inputs:
        values = mri[MODALITIES.index(name)][anatomy.brain][order]
        rising = np.concatenate(
            [np.sort(values[a:b]) for a, b in zip(starts, ends, strict=True)] or [values[:0]]
        )
        parts += [rising[starts + (share * (counts - 1)).round().astype(np.intp)] for share in _QUANTILES]
        if name == "FLAIR":
            lesion = np.clip((values - _LESION[0]) / (_LESION[1] - _LESION[0]), 0, 1)
            parts.append(np.add.reduceat(lesion, starts) / counts if len(counts) else lesion[:0])
    return np.concatenate(parts, dtype=np.float32)


def whole_length(inputs: Inputs, anatomy: Anatomy) -> int:
    """How many numbers `whole_features` gives."""
    each = len(_QUANTILES) * len(inputs) + ("FLAIR" in inputs)
    return each * len(anatomy.region_sizes)
