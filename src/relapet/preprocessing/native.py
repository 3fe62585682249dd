"""Back to the subject: a map in template space on the T1w's own grid, by the inverse transform."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from relapet.imaging.bids import Visit
from relapet.imaging.derivatives import WayBack, find_way_back
from relapet.imaging.nifti import load_volume, save_volume
from relapet.preprocessing.names import Names
from relapet.preprocessing.spatial import Step, apply
from relapet.types import Volume


def to_native(derivatives: Path, visit: Visit, image: nib.Nifti1Image, order: int = 1) -> nib.Nifti1Image:
    """Bring a template-space image onto the T1w's own grid (same voxels as the raw T1w), interpolated once.

    ``order`` 1 is linear, 0 nearest neighbour for masks and labels. Raises SubjectError where ``derivatives``
    keeps no inverse transform of the visit.
    """
    return bring_back(image, find_way_back(Path(derivatives), visit), order)


def bring_back(image: nib.Nifti1Image, back: WayBack, order: int = 1) -> nib.Nifti1Image:
    """Bring an image in the MNI space that ``back`` leads from onto the T1w's own grid, interpolated once."""
    own = nib.load(back.t1w)
    return nib.Nifti1Image(apply(image, own.shape, own.affine, [Step(back.transform)], order), own.affine)


def to_template(
    derivatives: Path, visit: Visit, image: nib.Nifti1Image, like: nib.Nifti1Image, order: int = 1
) -> nib.Nifti1Image:
    """Bring an image in the T1w's space onto the grid of ``like`` in template space, interpolated once."""
    names = Names(Path(derivatives), visit)
    find_way_back(names.root, visit)
    return nib.Nifti1Image(
        apply(image, like.shape, like.affine, [Step(names.warp.forward)], order), like.affine
    )


def write_native(derivatives: Path, visit: Visit, source: Path, out: Path, order: int = 1) -> Volume:
    """Write a template-space map on the T1w's own grid; returns its data ``(X, Y, Z)`` as on disk."""
    native = to_native(derivatives, visit, load_volume(source), order)
    data = np.asarray(native.dataobj)
    save_volume(out, data, native.affine, np.float32 if order else np.int16, code=1)
    return data
