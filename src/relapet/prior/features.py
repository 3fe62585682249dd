"""What the prior looks at in an MRI: local means around each voxel, and the whole image by regions and blocks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from relapet.prior.anatomy import Anatomy, Lattice
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
    result = []
    for image in bases:
        for size in sizes:
            mean = image
            for axis in range(3):
                if size > 1:
                    mean = ndimage.uniform_filter1d(mean, size, axis=axis, mode="nearest")
                if lattice is not None:  # what is not on the lattice needs no mean along the axes to come
                    mean = mean[(slice(None),) * axis + (lattice.along,)]
            result.append(mean if lattice is None else mean[lattice.mask])
    return np.asarray(result, dtype=np.float32)


def whole_features(mri: Volume, inputs: Inputs, anatomy: Anatomy) -> npt.NDArray[np.float32]:
    """The whole MRI in numbers, ``(P,)``: means by region, also of lesion-like FLAIR, then means by 8 mm block."""
    images = [image[anatomy.brain] for image in base_images(mri, inputs)]
    lesions = []
    if "FLAIR" in inputs:
        flair = mri[MODALITIES.index("FLAIR")][anatomy.brain]
        lesions.append(np.clip((flair - _LESION[0]) / (_LESION[1] - _LESION[0]), 0, 1))
    parts = ((anatomy.region_index, [*images, *lesions]), (anatomy.block_index, images))
    return np.concatenate([_means(index, chosen) for index, chosen in parts if index.max(initial=0)])


def part_lengths(inputs: Inputs, anatomy: Anatomy) -> tuple[int, int]:
    """How many of `whole_features` are by region, and how many by block."""
    bases = len(base_names(inputs))
    regions = (bases + ("FLAIR" in inputs)) * int(anatomy.region_index.max(initial=0))
    return regions, bases * int(anatomy.block_index.max(initial=0))


def _means(index: npt.NDArray[np.intp], images: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    counts = np.bincount(index)[1:]
    return np.concatenate([np.bincount(index, image)[1:] / counts for image in images]).astype(np.float32)
