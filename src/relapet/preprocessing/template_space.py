"""Bringing images that already are in an MNI space onto a model's grid, by their affines alone."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from scipy import ndimage

from relapet.cohort.grid import Grid
from relapet.cohort.nifti import resample_to_grid
from relapet.cohort.template import load_template
from relapet.errors import SubjectError
from relapet.types import Mask, Volume

_LITRES = (0.8, 2.3)
"""Plausible volume of a brain mask in MNI space (the template's own is 1.9 L)."""
_LEAST_INSIDE, _LEAST_COVERED = 0.9, 0.5
"""Least share of the brain that lies inside the template's, and of the template's that it covers.

The template's mask reaches the skull; a tightly extracted atrophied brain covers 60 % of it but lies inside. A
shift of 20 mm takes a fifth of a brain outside.
"""


@dataclass(frozen=True)
class ReadyImages:
    """MRI on a model's grid: ``(X, Y, Z)`` each, arbitrary units; an absent modality is None."""

    t1w: Volume | None
    flair: Volume | None
    mask: Mask
    grid: Grid


def bring_to_grid(
    t1w: nib.Nifti1Image | None,
    flair: nib.Nifti1Image | None,
    mask: nib.Nifti1Image | None,
    grid: Grid,
    name: str,
) -> ReadyImages:
    """Resample brain-extracted MRI in any MNI space onto ``grid``; ``name`` names the visit in messages.

    Without a mask, the brain is where the brain-extracted T1w (or FLAIR) is not 0. Raises SubjectError where
    T1w and FLAIR lie on different grids, where the head is not brain-extracted, and where the brain does not
    lie on the template's.
    """
    reference = t1w if t1w is not None else flair
    if reference is None:
        raise SubjectError(f"{name} has neither T1w nor FLAIR; add them or exclude the subject.")
    for label, other in (("FLAIR", flair), ("brain mask", mask)):
        if other is not None and not _same_grid(reference, other):
            raise SubjectError(
                f"{name}: the {label} lies on another grid {other.shape} than the T1w {reference.shape}; "
                "resample both to one grid, or run relapet preprocess on the raw scans."
            )
    if mask is None:
        mask = brain_of_extracted(reference, name)
    fraction = resample_to_grid(
        nib.Nifti1Image((np.asarray(mask.dataobj) > 0.5).astype(np.float32), mask.affine), grid
    )
    brain = fraction > 0.5
    template = load_template(grid).brain
    common = float((brain & template).sum())
    inside, covered = common / max(brain.sum(), 1), common / template.sum()
    if inside < _LEAST_INSIDE or covered < _LEAST_COVERED:
        raise SubjectError(
            f"{name}: {inside:.0%} of the brain lie inside the MNI template's brain and cover {covered:.0%} of it "
            f"(at least {_LEAST_INSIDE:.0%} and {_LEAST_COVERED:.0%} are usual), so its affine is not that of MNI "
            "space; run relapet preprocess on the raw scans."
        )
    return ReadyImages(
        None if t1w is None else resample_to_grid(t1w, grid),
        None if flair is None else resample_to_grid(flair, grid),
        brain,
        grid,
    )


def brain_of_extracted(image: nib.Nifti1Image, name: str) -> nib.Nifti1Image:
    """The brain mask of a brain-extracted image: where it is not 0, holes filled, largest piece.

    Raises SubjectError where what is not 0 is no brain's size: then the head is still in the image.
    """
    data = np.abs(np.asarray(image.dataobj, dtype=np.float32))
    # Resampling leaves faint ringing outside the brain.
    inside = data > 0.02 * np.percentile(data[data > 0], 98) if (data > 0).any() else data > 0
    inside = ndimage.binary_opening(inside, iterations=2)
    pieces, count = ndimage.label(inside)
    if count:
        sizes = np.bincount(pieces.ravel())[1:]
        inside = pieces == 1 + int(np.argmax(sizes))
    inside = ndimage.binary_fill_holes(ndimage.binary_closing(inside, iterations=3))
    litres = float(inside.sum()) * abs(np.linalg.det(image.affine[:3, :3])) / 1e6
    if not _LITRES[0] <= litres <= _LITRES[1]:
        raise SubjectError(
            f"{name}: {litres:.2f} L of the T1w are not 0, where a brain has {_LITRES[0]} to {_LITRES[1]} L; "
            "give a desc-brain_mask beside it, or run relapet preprocess on the raw scans."
        )
    return nib.Nifti1Image(inside.astype(np.uint8), image.affine)


def _same_grid(a: nib.Nifti1Image, b: nib.Nifti1Image) -> bool:
    return tuple(a.shape) == tuple(b.shape) and bool(np.allclose(a.affine, b.affine, atol=1e-2))
