"""The voxel grids in template space: one field of view of 160 x 180 x 160 mm, at several voxel sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relapet.errors import InputError
from relapet.settings import meant
from relapet.types import Affine

SPACE = "MNI152NLin2009aSym"
"""BIDS label of the template space in which every model-ready file lives."""

# The field of view of the published release: a 181x217x181 MNI volume cropped by (11,10 | 20,17 | 0,21).
_FIRST_EDGE_MM = np.array([-79.5, -106.5, -72.5])
_EXTENT_MM = np.array([160.0, 180.0, 160.0])


@dataclass(frozen=True)
class Grid:
    """A regular RAS+ grid: shape ``(X, Y, Z)`` and isotropic voxel size in mm."""

    name: str
    voxel_size: float
    shape: tuple[int, int, int]

    @property
    def affine(self) -> Affine:
        """Voxel index to template mm; the grid is centred on the field of view's centre."""
        centre = _FIRST_EDGE_MM + _EXTENT_MM / 2
        first_voxel = centre - self.voxel_size * (np.array(self.shape) - 1) / 2
        affine = np.diag([self.voxel_size] * 3 + [1.0])
        affine[:3, 3] = first_voxel
        return affine

    def matches(self, shape: tuple[int, ...], affine: Affine, tolerance_mm: float = 1e-2) -> bool:
        """Whether an image of this shape and affine lies on this grid."""
        return tuple(shape) == self.shape and bool(np.allclose(affine, self.affine, atol=tolerance_mm))


GRIDS: dict[str, Grid] = {
    "1mm": Grid("1mm", 1.0, (160, 180, 160)),
    "2.5mm": Grid("2.5mm", 2.5, (64, 72, 64)),
    # 3, 4 and 8 mm do not divide the field of view into multiples of 8: padded evenly on both sides.
    "3mm": Grid("3mm", 3.0, (56, 64, 56)),
    "4mm": Grid("4mm", 4.0, (40, 48, 40)),
    # For trying out a method or a test: coarser than PET itself.
    "8mm": Grid("8mm", 8.0, (24, 24, 24)),
}


def get_grid(name: str) -> Grid:
    """Look a grid up by name; raise InputError listing the known ones."""
    try:
        return GRIDS[name]
    except KeyError:
        raise InputError(
            f"Unknown grid {name!r}; choose one of {', '.join(GRIDS)}{meant(name, GRIDS)}."
        ) from None


def find_grid(shape: tuple[int, ...], affine: Affine) -> Grid | None:
    """The known grid on which an image of this shape and affine lies, or None."""
    return next((grid for grid in GRIDS.values() if grid.matches(shape, affine)), None)
