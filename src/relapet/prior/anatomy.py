"""Where the prior works: the brain, its regions, and the coarse lattice on which coefficients live."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from relapet.imaging.grid import Grid
from relapet.imaging.template import load_atlas, load_template
from relapet.types import Labels, Mask, Volume

_RIM_MM = 6.0
"""Width of the rim: without it, a model of what the prior leaves would learn the rim first."""


@dataclass(frozen=True)
class Anatomy:
    """Brain mask and region labels (0: none) on a grid, both ``(X, Y, Z)``, with the voxel's edge in mm."""

    brain: Mask
    regions: Labels
    voxel_mm: float

    @classmethod
    def of_grid(cls, grid: Grid) -> Anatomy:
        """The template's brain with a rim that other brains reach into, and the Desikan-Killiany regions on a grid."""
        template, steps = load_template(grid), max(1, round(_RIM_MM / grid.voxel_size))
        return cls(
            ndimage.binary_dilation(template.brain, iterations=steps),
            load_atlas(grid).labels,
            grid.voxel_size,
        )

    @cached_property
    def by_region(self) -> npt.NDArray[np.intp]:
        """Places among the brain's voxels of those that have a region, region by region."""
        labels = self.regions[self.brain]
        order = np.argsort(labels, kind="stable")
        return order[np.count_nonzero(labels <= 0) :]

    @cached_property
    def region_sizes(self) -> npt.NDArray[np.intp]:
        """Voxels of each region in the brain, in the order of `by_region`."""
        labels = self.regions[self.brain]
        return np.unique(labels[labels > 0], return_counts=True)[1]


@dataclass(frozen=True)
class Lattice:
    """Every ``stride``-th voxel of a grid; coefficients live on those in ``mask``, ``(x, y, z)`` of the lattice."""

    shape: tuple[int, int, int]
    stride: int
    mask: Mask

    @classmethod
    def of(cls, anatomy: Anatomy, spacing_mm: float) -> Lattice:
        """The lattice of about ``spacing_mm`` that covers the brain."""
        return cls.with_stride(anatomy, max(1, round(spacing_mm / anatomy.voxel_mm)))

    @classmethod
    def with_stride(cls, anatomy: Anatomy, stride: int) -> Lattice:
        """The lattice of every ``stride``-th voxel that covers the brain."""
        along = slice(stride // 2, None, stride)
        mask = anatomy.brain[along, along, along]
        # Between lattice points coefficients are interpolated, so the outermost brain needs a neighbour outside.
        if stride > 1:
            mask = ndimage.binary_dilation(mask, np.ones((3, 3, 3), dtype=bool))
        return cls(anatomy.brain.shape, stride, mask)

    @property
    def voxels(self) -> int:
        """Number of lattice points in the mask."""
        return int(self.mask.sum())

    @property
    def along(self) -> slice:
        """The lattice's voxels along one axis."""
        return slice(self.stride // 2, None, self.stride)

    def sample(self, volume: Volume) -> npt.NDArray[np.float32]:
        """A volume's values at the lattice's points in the mask, ``(voxels,)``."""
        return volume[self.along, self.along, self.along][self.mask]

    @cached_property
    def _weights(self) -> tuple[Volume, ...]:
        """Linear interpolation along each axis, ``(voxels, lattice points)``; constant beyond the ends."""
        result = []
        for n, m in zip(self.shape, self.mask.shape, strict=True):
            position = np.clip((np.arange(n) - self.stride // 2) / self.stride, 0, m - 1)
            low = np.minimum(position.astype(np.intp), max(m - 2, 0))
            high = np.minimum(low + 1, m - 1)
            weights = np.zeros((n, m), dtype=np.float32)
            np.add.at(weights, (np.arange(n), low), 1 - (position - low))
            np.add.at(weights, (np.arange(n), high), position - low)
            result.append(weights)
        return tuple(result)

    def to_grid(self, values: npt.NDArray[np.floating]) -> Volume:
        """Values ``(voxels,)`` of the lattice as a volume ``(X, Y, Z)``, linear between points, 0 outside."""
        coarse = np.zeros(self.mask.shape, dtype=np.float32)
        coarse[self.mask] = values
        if self.stride == 1:
            return coarse
        for axis, weights in enumerate(self._weights):
            coarse = np.moveaxis(np.tensordot(weights, coarse, axes=(1, axis)), 0, axis)
        return np.ascontiguousarray(coarse)
