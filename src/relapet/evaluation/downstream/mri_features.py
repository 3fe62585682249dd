"""Plain numbers of one visit's MRI by VOI, from the images alone: no segmentation is asked of the user.

They are what a regression on routine MRI could know: signal, and how much of a VOI looks like grey matter
or like fluid (atrophy), with lesion-like FLAIR hyperintensity. They are no volumetry.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from skimage.filters import threshold_multiotsu

from relapet.errors import InputError, SubjectError, VolumeError
from relapet.evaluation.scores.voi import RegionAtlas, brain_mask, default_atlas, sum_regions
from relapet.imaging.bids import VisitFiles, index_derivative
from relapet.imaging.nifti import load_volume
from relapet.types import Mask, Volume

_LESION_SDS = 3.0
"""FLAIR this many robust SD above the brain's median is lesion-like."""
_MAD_TO_SD = 1.4826  # of a Gaussian


@dataclass(frozen=True)
class _Images:
    t1w: Volume
    flair: Volume
    brain: Mask
    voxel_ml: float


def mri_feature_table(derivative: Path, atlas: RegionAtlas | None = None) -> pd.DataFrame:
    """One row a visit that has T1w and FLAIR: subject, session and features named ``<kind>:<VOI or total>``.

    Kinds: t1w and flair (VOI mean over the brain's median), grey and fluid (mean tissue-like fraction of
    the VOI), volume (mL, whole brain). Raises InputError where no visit has both images.
    """
    atlas = atlas or default_atlas()
    rows = []
    for files in index_derivative(derivative):
        if files.t1w is None or files.flair is None:
            continue
        keys = {"subject": files.visit.subject, "session": files.visit.session or ""}
        rows.append(keys | visit_features(files, atlas))
    if not rows:
        raise InputError(
            f"{derivative} holds no visit with both T1w and FLAIR; preprocess or simulate it first."
        )
    return pd.DataFrame(rows)


def visit_features(files: VisitFiles, atlas: RegionAtlas) -> dict[str, float]:
    """The features of one visit; raises SubjectError where its images cannot be used."""
    if files.t1w is None or files.flair is None:
        raise SubjectError(f"{files.visit.stem} lacks T1w or FLAIR; both are needed.")
    t1w, flair = load_volume(files.t1w), load_volume(files.flair)
    affine = t1w.affine
    if flair.shape != t1w.shape or not np.allclose(flair.affine, affine, atol=1e-2):
        raise VolumeError(f"{files.flair} is on another grid than {files.t1w}; preprocess both together.")
    if files.mask is None:
        brain = brain_mask(t1w.shape, affine)
    else:
        mask = load_volume(files.mask)
        if mask.shape != t1w.shape:
            raise VolumeError(f"{files.mask} is on another grid than {files.t1w}; preprocess both together.")
        brain = np.asarray(mask.dataobj) > 0.5
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    images = _Images(np.asarray(t1w.dataobj), np.asarray(flair.dataobj), brain, voxel_ml)
    for path, image in ((files.t1w, images.t1w), (files.flair, images.flair)):
        if not brain.any() or np.median(image[brain]) <= 0:
            raise VolumeError(f"{path} is empty in the brain mask; check the image and its mask.")
    labels = np.where(brain, atlas.labels(t1w.shape, affine), 0)
    grey, fluid, lesion = tissue_like(images.t1w, images.flair, brain)
    maps = {
        "t1w": images.t1w / np.float32(np.median(images.t1w[brain])),
        "flair": images.flair / np.float32(np.median(images.flair[brain])),
        "grey": grey,
        "fluid": fluid,
    }
    features = {
        f"{kind}:{voi}": mean
        for kind, volume in maps.items()
        for voi, mean in sum_regions(volume, labels, atlas.names).vois().items()
    }
    totals = {"brain": brain, "grey": grey, "fluid": fluid, "lesion": lesion}
    return features | {f"volume:{name}": float(v.sum()) * voxel_ml for name, v in totals.items()}


def tissue_like(t1w: Volume, flair: Volume, brain: Mask) -> tuple[Volume, Volume, Mask]:
    """Grey-like and fluid-like fraction of each voxel, and lesion-like voxels, all ``(X, Y, Z)``.

    T1w intensities fall into three classes by Otsu's multilevel threshold (Otsu, IEEE Trans SMC 9:62,
    1979; Liao et al., J Inf Sci Eng 17:713, 2001). Between the medians of neighbouring classes the fraction
    is linear, as where two tissues share a voxel (Shattuck et al., NeuroImage 13:856, 2001). Lesion-like:
    brighter on FLAIR than the median of what is not fluid by 3 robust SD (1.4826 median absolute deviations).
    """
    inside = t1w[brain]
    low, high = np.percentile(inside, (0.5, 99.5))
    clipped = np.clip(inside, low, high)
    thresholds = threshold_multiotsu(clipped, classes=3, nbins=128)
    groups = np.digitize(clipped, thresholds)
    centres = [float(np.median(clipped[groups == group])) for group in range(3)]
    grey, fluid = np.zeros(t1w.shape, np.float32), np.zeros(t1w.shape, np.float32)
    grey[brain] = np.interp(inside, centres, [0.0, 1.0, 0.0])
    fluid[brain] = np.interp(inside, centres, [1.0, 0.0, 0.0])
    solid: npt.NDArray[np.float32] = flair[brain & (fluid < 0.5)]
    median = float(np.median(solid))
    spread = _MAD_TO_SD * float(np.median(np.abs(solid - median)))
    lesion = brain & (fluid < 0.5) & (flair > median + _LESION_SDS * spread)
    return grey, fluid, lesion
