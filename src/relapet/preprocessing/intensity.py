"""Intensities: the receive field divided out (N4) and each MRI scaled by its own white matter."""

from __future__ import annotations

import nibabel as nib
import numpy as np

from relapet.errors import SubjectError
from relapet.imaging.resample import resample, sample
from relapet.imaging.transforms import load_ants, to_ants
from relapet.preprocessing.registration import isotropic
from relapet.types import Mask, Volume

_ITERATIONS = [50, 50, 30, 20]
_FIT_MM = 4.0
_SPLINE_MM = 200
"""Distance of the bias field's spline knots, mm; fields vary over the size of the head."""
_CEILING = 3.0
"""Multiple of the white matter's median at which intensities are cut (vessels, fat; lesions stay below)."""
_MIN_WHITE_VOXELS = 50
"""Fewest white-matter voxels from which a median is taken."""


def correct_bias(image: nib.Nifti1Image, mask: Mask) -> nib.Nifti1Image:
    """Divide out the receive field by N4 fitted inside ``mask``; arbitrary units in and out.

    The field is fitted on a copy with cubic voxels, for thick slices leave too few planes, and carried to the
    image's own grid: the image itself is not interpolated. Source: Tustison et al. 2010,
    doi:10.1109/TMI.2010.2046908.
    """
    data = np.maximum(np.asarray(image.dataobj, dtype=np.float32), 0)
    coarse = isotropic(nib.Nifti1Image(data, image.affine), _FIT_MM)
    inside = resample(nib.Nifti1Image(mask.astype(np.float32), image.affine), coarse.shape, coarse.affine)
    field = (
        load_ants()
        .n4_bias_field_correction(
            to_ants(coarse),
            mask=to_ants(nib.Nifti1Image((inside > 0.5).astype(np.float32), coarse.affine)),
            shrink_factor=1,
            convergence={"iters": _ITERATIONS, "tol": 1e-6},
            spline_param=_SPLINE_MM,
            return_bias_field=True,
        )
        .numpy()
    )
    to_field = np.linalg.inv(coarse.affine) @ image.affine
    fine = sample(field, to_field, image.shape, mode="nearest")
    return nib.Nifti1Image((data / np.maximum(fine, 1e-3)).astype(np.float32), image.affine)


def scale_by_white_matter(data: Volume, white: Mask, brain: Mask, name: str) -> Volume:
    """Divide by the median of white matter and zero what lies outside the brain: white matter becomes 1.

    The median is blind to lesions and to a tenth of misplaced voxels. Raises SubjectError, naming ``name``,
    where white matter is missing or dark.
    """
    values = data[white & brain]
    middle = float(np.median(values)) if values.size >= _MIN_WHITE_VOXELS else 0.0
    if middle <= 0:
        raise SubjectError(
            f"{name} shows no white matter where the template has it, so its registration failed; look at its picture "
            "and check that the file is a whole head."
        )
    return np.where(brain, np.clip(data / middle, 0, _CEILING), 0).astype(np.float32)
