"""What a fitted prior consists of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from relapet.prior.anatomy import Anatomy, Lattice
from relapet.prior.features import Inputs
from relapet.prior.kernel import Projection, SubjectKernel
from relapet.types import Volume

Arrays = dict[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class GlobalFit:
    """The global part of one tracer: SUVr += coordinates ``(J,)`` @ components ``(J, voxels)``."""

    kernel: SubjectKernel
    components: npt.NDArray[np.float16]


@dataclass(frozen=True)
class TracerFit:
    """The fit of one tracer to one set of inputs, on the lattice: shift ``(voxels,)``, coefficients ``(F, voxels)``."""

    shift: npt.NDArray[np.float32]
    coefficients: npt.NDArray[np.float16]
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
    projections: dict[Inputs, Projection]
    fits: dict[tuple[Inputs, str], TracerFit]
