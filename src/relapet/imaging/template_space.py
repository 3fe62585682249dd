"""Bringing images that already are in an MNI space onto a model's grid, by their affines alone."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import nibabel.affines
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from relapet.errors import SubjectError
from relapet.imaging.grid import Grid
from relapet.imaging.resample import resample_to_grid
from relapet.imaging.template import load_template
from relapet.types import Affine, Mask, Volume

_LITRES = (0.8, 2.3)
"""Plausible volume of a brain mask in MNI space (the template's own is 1.9 L)."""
_MIN_INSIDE, _MIN_COVERED = 0.9, 0.5
"""Least share of the brain that lies inside the template's, and of the template's that it covers.

The template's mask reaches the skull; a tightly extracted atrophied brain covers 60 % of it but lies inside. A
shift of 20 mm takes a fifth of a brain outside.
"""

_SAME_EXTENT = 0.05
"""Largest deviation of the brain's extent from the template's that counts as registered."""


@dataclass(frozen=True)
class ReadyImages:
    """MRI on a model's grid: ``(X, Y, Z)`` each, arbitrary units; an absent modality is None."""

    t1w: Volume | None
    flair: Volume | None
    mask: Mask
    grid: Grid
    fit: Affine
    """Template mm in the image's own header to template mm, (4, 4): identity, or a scale and shift."""


def bring_to_grid(
    t1w: nib.Nifti1Image | None,
    flair: nib.Nifti1Image | None,
    mask: nib.Nifti1Image | None,
    grid: Grid,
    name: str,
) -> ReadyImages:
    """Resample MRI in any MNI space, masked, onto ``grid``; ``name`` names the visit in messages.

    A brain that was aligned to MNI space without being scaled to it (rigidly) is scaled: see `fit_extent`.
    Without a mask, which a whole head needs, the brain is where the brain-extracted T1w (or FLAIR) is not 0.
    Raises SubjectError where T1w and FLAIR lie on different grids, where the head is not brain-extracted and has
    no mask, and where the brain does not lie on the template's.
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
    else:
        # Before resampling, which would blur the skull of a whole head into the brain's edge.
        t1w, flair = (None if image is None else _masked(image, mask) for image in (t1w, flair))
    binary = nib.Nifti1Image((np.asarray(mask.dataobj) > 0.5).astype(np.float32), mask.affine)
    brain = resample_to_grid(binary, grid) > 0.5
    template = load_template(grid).brain
    common = float((brain & template).sum())
    inside, covered = common / max(brain.sum(), 1), common / template.sum()
    if inside < _MIN_INSIDE or covered < _MIN_COVERED:
        raise SubjectError(
            f"{name}: {inside:.0%} of the brain lie inside the MNI template's brain and cover {covered:.0%} of it "
            f"(at least {_MIN_INSIDE:.0%} and {_MIN_COVERED:.0%} are usual), so its affine is not that of MNI "
            "space; run relapet preprocess on the raw scans."
        )
    on_grid = [None if image is None else resample_to_grid(image, grid) for image in (t1w, flair)]
    shown = next(volume for volume in on_grid if volume is not None)
    try:
        fit = fit_extent(shown, brain, grid)
    except ValueError as error:
        raise SubjectError(f"{name}: {error}; check the image and its mask.") from error
    if not np.array_equal(fit, np.eye(4)):
        on_grid = [
            None if image is None else resample_to_grid(_moved(image, fit), grid) for image in (t1w, flair)
        ]
        brain = resample_to_grid(_moved(binary, fit), grid) > 0.5
    return ReadyImages(on_grid[0], on_grid[1], brain, grid, fit)


def fit_extent(image: Volume, brain: Mask, grid: Grid) -> Affine:
    """Scale and shift ``(4, 4)`` along each axis that give the brain's tissue the template's extent.

    Closed form: centroid and SD of the tissue's voxels in mm. Identity where the extent already is within
    5 % of the template's along every axis, as after any affine or non-linear registration. Raises ValueError where
    no tissue can be told, as in a negative image.
    """
    template = load_template(grid)
    places = [
        _tissue_mm(volume, mask, grid) for volume, mask in ((image, brain), (template.t1, template.brain))
    ]
    own, wanted = (place.std(axis=0) if len(place) else np.zeros(3) for place in places)
    if len(places[0]) < 2 or not own.all():
        raise ValueError("the MRI shows no tissue inside the brain")
    scale = wanted / own
    fit = np.eye(4)
    if np.abs(scale - 1).max() > _SAME_EXTENT:
        fit[:3, :3] = np.diag(scale)
        fit[:3, 3] = places[1].mean(axis=0) - scale * places[0].mean(axis=0)
    return fit


def _tissue_mm(volume: Volume, mask: Mask, grid: Grid) -> npt.NDArray[np.float64]:
    # Fluid is left out: brain masks differ most in how much of it they keep.
    tissue = mask & (volume > 0.4 * np.percentile(volume[mask], 98))
    return np.asarray(nib.affines.apply_affine(grid.affine, np.argwhere(tissue)))


def _masked(image: nib.Nifti1Image, mask: nib.Nifti1Image) -> nib.Nifti1Image:
    inside = np.asarray(mask.dataobj) > 0.5
    return nib.Nifti1Image(np.where(inside, np.asarray(image.dataobj), 0).astype(np.float32), image.affine)


def _moved(image: nib.Nifti1Image, fit: Affine) -> nib.Nifti1Image:
    return nib.Nifti1Image(np.asarray(image.dataobj), fit @ image.affine)


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
