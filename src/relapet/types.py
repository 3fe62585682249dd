"""Shape, axis and unit aliases shared by every stage, and the few protocols between them.

Axes are always ``(X, Y, Z)`` in RAS+ orientation (x grows to the right, y to anterior, z to superior);
tensors add batch and channel in front: ``(B, C, X, Y, Z)``. Lengths are mm, times minutes, PET is SUVr.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Volume = npt.NDArray[np.float32]
"""One image, ``(X, Y, Z)``."""
Mask = npt.NDArray[np.bool_]
"""One boolean image, ``(X, Y, Z)``."""
Labels = npt.NDArray[np.int32]
"""One label image, ``(X, Y, Z)``."""
Affine = npt.NDArray[np.float64]
"""Voxel index to RAS mm, ``(4, 4)``."""
Json = dict[str, Any]
"""The content of a JSON sidecar."""
