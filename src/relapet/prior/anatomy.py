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

    def planes(self, values: npt.NDArray[np.floating]) -> Volume:
        """Values ``(voxels,)`` of the lattice as ``(lattice points along x, Y, Z)``, linear between points, 0 outside.

        `slab` brings them to the grid along x too, a few voxels at a time: what is made of them then stays in the
        processor's cache, where whole volumes would go through memory at every step.
        """
        coarse = np.zeros(self.mask.shape, dtype=np.float32)
        coarse[self.mask] = values
        return self._between(self._between(coarse, 2), 1)

    def slab(self, planes: Volume, rows: slice) -> Volume:
        """Some of the grid's voxels along x of what `planes` gave, ``(rows, Y, Z)``."""
        return self._between(planes, 0, rows)

    def _between(self, coarse: Volume, axis: int, voxels: slice = slice(None)) -> Volume:
        """Some of the grid's voxels along an axis from the lattice's points along it, constant beyond the ends.

        Without products of matrices: several threads are at it at once, and a library's own would get in their way.
        """
        before, after, share = self._ends[axis]
        found: Volume = np.take(coarse, before[voxels], axis=axis)
        if self.stride > 1:
            step = np.take(coarse, after[voxels], axis=axis)
            step -= found
            step *= share[voxels].reshape([-1 if k == axis else 1 for k in range(3)])
            found += step
        return found

    @cached_property
    def _ends(self) -> tuple[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]], ...]:
        """By axis, of each voxel the lattice points before and after it, and how far it lies between them, 0 to 1."""
        found = []
        for n, m in zip(self.shape, self.mask.shape, strict=True):
            position = np.clip((np.arange(n) - self.stride // 2) / self.stride, 0, m - 1)
            before = np.minimum(position.astype(np.intp), max(m - 2, 0))
            share = (position - before).astype(np.float32)
            found.append((before, np.minimum(before + 1, m - 1), share))
        return tuple(found)

    def to_grid(self, values: npt.NDArray[np.floating]) -> Volume:
        """Values ``(voxels,)`` of the lattice as a volume ``(X, Y, Z)``, linear between points, 0 outside."""
        return self.slab(self.planes(values), slice(None))
