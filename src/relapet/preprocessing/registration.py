"""Registration by ANTs: each result is a transform file (`relapet.imaging.transforms` applies it).

Registrations sample with a fixed seed. Sources: rigid and affine by mutual information of Mattes et al. 2003
(doi:10.1109/TMI.2003.809072); SyN by local cross-correlation: Avants et al. 2008 (doi:10.1016/j.media.2007.06.004).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from relapet.files import temporary_folder
from relapet.imaging.resample import resample, voxel_size
from relapet.imaging.transforms import Step, apply_like, load_ants, to_ants

_CORRELATION_RADIUS = 2
"""Radius, voxels, within which nonlinear registration correlates intensities."""


@dataclass(frozen=True)
class Warp:
    """Both directions of a nonlinear registration, each one composite transform file (ITK .h5)."""

    forward: Path
    """Brings the moving image into the fixed space."""
    inverse: Path
    """Brings the fixed image into the moving space."""


def _as_mask(mask: nib.Nifti1Image | None) -> Any:
    return None if mask is None else to_ants(mask)


def isotropic(image: nib.Nifti1Image, size_mm: float) -> nib.Nifti1Image:
    """Resample linearly to cubic voxels over the same field of view, blurred where that is coarser."""
    spacing = voxel_size(image.affine)
    shape = np.maximum(1, np.rint(np.array(image.shape[:3]) * spacing / size_mm)).astype(int)
    affine = image.affine.copy()
    affine[:3, :3] *= size_mm / spacing
    # Keep the centre of the field of view where it was.
    centre = image.affine @ np.append((np.array(image.shape[:3]) - 1) / 2, 1)
    affine[:3, 3] = centre[:3] - affine[:3, :3] @ ((shape - 1) / 2)
    data = resample(image, (int(shape[0]), int(shape[1]), int(shape[2])), affine)
    return nib.Nifti1Image(data, affine)


def write_identity(out: Path) -> Path:
    """Write the transform that changes nothing."""
    ants = load_ants()
    ants.write_transform(ants.new_ants_transform(transform_type="AffineTransform"), str(out))
    return out


def to_file_axes(data: npt.NDArray[Any], raw: nib.Nifti1Image) -> npt.NDArray[Any]:
    """Turn RAS+ data ``(X, Y, Z)`` back into the axis order and directions of the file that it came from."""
    to_raw = nib.orientations.ornt_transform([[0, 1], [1, 1], [2, 1]], nib.io_orientation(raw.affine))
    return np.asarray(nib.apply_orientation(data, to_raw))


def similarity(fixed: nib.Nifti1Image, moving: nib.Nifti1Image, mask: nib.Nifti1Image) -> float:
    """Mutual information (nats, larger is better) of two images on one grid within a mask."""
    inside = np.asarray(mask.dataobj) > 0
    a, b = np.asarray(fixed.dataobj)[inside], np.asarray(moving.dataobj)[inside]
    a, b = (np.clip(x, *np.percentile(x, [1, 99])) for x in (a, b))
    joint = np.histogram2d(a, b, bins=32)[0] / a.size
    product = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    seen = joint > 0
    return float((joint[seen] * np.log(joint[seen] / product[seen])).sum())


def _linear(kind: str, pair: tuple[Any, Any, Any], start: Path | None, coarse: bool, folder: Path) -> Path:
    fixed, moving, mask = pair
    levels: dict[str, Any] = {
        "aff_iterations": (200, 100) if coarse else (200, 100, 50),
        "aff_shrink_factors": (4, 3) if coarse else (3, 2, 1),
        "aff_smoothing_sigmas": (3, 2) if coarse else (2, 1, 0),
    }
    result = load_ants().registration(
        fixed, moving, type_of_transform=kind, mask=mask, initial_transform=None if start is None else str(start),
        outprefix=f"{folder}/{kind}{'Coarse' if coarse else ''}{'' if start is None else start.stem}",
        aff_random_sampling_rate=0.25, **levels,
    )  # fmt: skip
    return Path(result["fwdtransforms"][0])


def register_linear(
    fixed: nib.Nifti1Image, moving: nib.Nifti1Image, out: Path, kind: str, mask: nib.Nifti1Image | None = None
) -> Path:
    """Register rigidly (``Rigid``) or affinely (``Affine``); write the transform, moving to fixed, as ITK text.

    Starts both from the headers as they are and from the centres of mass, and refines what fits better, for
    headers of one session agree and headers of two cameras need not.
    """
    ants = load_ants()
    pair = (to_ants(fixed), to_ants(moving), _as_mask(mask))
    ones = nib.Nifti1Image(np.ones(fixed.shape[:3], np.float32), fixed.affine)
    region = ones if mask is None else mask
    with temporary_folder(out.parent) as folder:
        identity = write_identity(folder / "identity.mat")
        starts = [_linear("Rigid", pair, start, True, folder) for start in (identity, None)]
        fits = [similarity(fixed, apply_like(fixed, moving, [Step(start)]), region) for start in starts]
        best = starts[int(np.argmax(fits))]
        final = _linear(kind, pair, best, False, folder)
        ants.write_transform(ants.read_transform(str(final)), str(out))
    return out


def register_motion(fixed: nib.Nifti1Image, moving: nib.Nifti1Image, out: Path) -> Path:
    """Register a frame rigidly to another frame of the same scan, from where it lies; write the transform."""
    ants = load_ants()
    with temporary_folder(out.parent) as temporary:
        result = ants.registration(
            to_ants(fixed), to_ants(moving), type_of_transform="Rigid",
            initial_transform=str(write_identity(temporary / "identity.mat")),
            outprefix=f"{temporary}/motion", aff_random_sampling_rate=0.5, aff_iterations=(100, 50),
            aff_shrink_factors=(2, 1), aff_smoothing_sigmas=(1, 0),
        )  # fmt: skip
        ants.write_transform(ants.read_transform(result["fwdtransforms"][0]), str(out))
    return out


def register_syn(
    fixed: nib.Nifti1Image,
    moving: nib.Nifti1Image,
    affine: Path,
    out: Warp,
    iterations: tuple[int, ...],
    mask: nib.Nifti1Image | None = None,
) -> Warp:
    """Register nonlinearly (SyN) from an affine start; write both directions as composite transforms.

    Judged by local cross-correlation, which thin gyri beside fluid need: with mutual information the same
    iterations left the cingulate cortex 2 mm from its place and its PiB off by 19 %, with this 3 %.
    """
    with temporary_folder(out.forward.parent) as temporary:  # a rename does not leave a file system
        result = load_ants().registration(
            to_ants(fixed), to_ants(moving), type_of_transform="SyNOnly", initial_transform=str(affine),
            mask=_as_mask(mask), outprefix=f"{temporary}/syn", reg_iterations=iterations,
            syn_metric="CC", syn_sampling=_CORRELATION_RADIUS, write_composite_transform=True,
        )  # fmt: skip
        Path(result["fwdtransforms"]).replace(out.forward)
        Path(result["invtransforms"]).replace(out.inverse)
    return out
