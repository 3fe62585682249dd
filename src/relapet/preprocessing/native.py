"""Back to the subject: a map in template space on the T1w's own grid, by the inverse transform."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from relapet.cohort.bids import Visit
from relapet.cohort.nifti import load_volume, save_volume
from relapet.errors import SubjectError
from relapet.preprocessing.names import Names
from relapet.preprocessing.spatial import Step, apply
from relapet.types import Volume


def to_native(derivatives: Path, visit: Visit, image: nib.Nifti1Image, order: int = 1) -> nib.Nifti1Image:
    """Bring a template-space image onto the T1w's own grid (same voxels as the raw T1w), interpolated once.

    ``order`` 1 is linear, 0 nearest neighbour for masks and labels. Raises SubjectError where ``derivatives``
    keeps no inverse transform of the visit.
    """
    names = Names(Path(derivatives), visit)
    shape, affine = _native_grid(names)
    data = apply(image, shape, affine, [Step(names.warp.inverse)], order)
    return nib.Nifti1Image(data, affine)


def to_template(
    derivatives: Path, visit: Visit, image: nib.Nifti1Image, like: nib.Nifti1Image, order: int = 1
) -> nib.Nifti1Image:
    """Bring an image in the T1w's space onto the grid of ``like`` in template space, interpolated once."""
    names = Names(Path(derivatives), visit)
    _native_grid(names)
    return nib.Nifti1Image(
        apply(image, like.shape, like.affine, [Step(names.warp.forward)], order), like.affine
    )


def write_native(derivatives: Path, visit: Visit, source: Path, out: Path, order: int = 1) -> Volume:
    """Write a template-space map on the T1w's own grid; returns its data ``(X, Y, Z)`` as on disk."""
    native = to_native(derivatives, visit, load_volume(source), order)
    data = np.asarray(native.dataobj)
    save_volume(out, data, native.affine, np.float32 if order else np.int16, code=1)
    return data


def _native_grid(names: Names) -> tuple[tuple[int, int, int], np.ndarray]:
    for path in (names.native_t1w, names.warp.forward, names.warp.inverse):
        if not path.is_file():
            raise SubjectError(
                f"{path} does not exist, so {names.visit.stem} has no way back to its own T1w; run relapet preprocess "
                "on its raw scans."
            )
    image = nib.load(names.native_t1w)
    return image.shape, image.affine
