"""What a fitted prior consists of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from relapet.prior.across import Standard
from relapet.prior.anatomy import Anatomy, Lattice
from relapet.prior.features import Inputs
from relapet.types import Volume

Arrays = dict[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class GlobalFit:
    """The global part of one tracer: SUVr += scores ``(P,)`` @ loadings ``(P, J)`` @ components ``(J, voxels)``."""

    loadings: npt.NDArray[np.float32]
    components: npt.NDArray[np.float16]


@dataclass(frozen=True)
class TracerFit:
    """The fit of one tracer to one set of inputs, on the lattice."""

    shift: npt.NDArray[np.float32]
    """``(voxels,)``, SUVr."""
    coefficients: npt.NDArray[np.float16]
    """``(F, voxels)``."""
    reach: npt.NDArray[np.float16]
    """``(voxels,)``: the most that the local features may change, SUVr."""
    across: GlobalFit | None


@dataclass(frozen=True)
class Contents:
    """Everything that `relapet.prior.fitted.FittedPrior` predicts with."""

    anatomy: Anatomy
    lattice: Lattice
    sizes: tuple[int, ...]
    """Edges of the cubes that local features are means over, voxels."""
    mean: dict[str, Volume]
    """Mean SUVr of each tracer over the training subjects."""
    base_mean: dict[str, Volume]
    """Mean scaled T1w, fluid fraction and scaled FLAIR over the training subjects that have them."""
    standards: dict[Inputs, Standard]
    fits: dict[tuple[Inputs, str], TracerFit]
