"""Brain extraction: deepbet in a process of its own, or the brain that an extracted image already shows.

deepbet (Fisch et al. 2024, doi:10.1016/j.compbiomed.2024.108845) carries its weights in its wheel and needs
torch, so it is run by its own command and never imported. On the four thick-slice sessions of the public
"open_ms_data" set (Lesjak 2017) it masked every T1w in about 5 s with the volume that it found on the same
session's FLAIR (within 4 %); affine masking with the brain-only MNI template agreed with it by a Dice of 0.96
to 0.97 in three sessions and failed in the fourth.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from relapet.errors import SubjectError
from relapet.imaging.resample import sample
from relapet.preprocessing.registration import isotropic
from relapet.types import Mask

LITRES = (0.8, 2.2)
"""Plausible volume of a brain mask in the subject's own space (adults: 1.0 to 1.7 L; the MNI brain: 1.9 L)."""
_TIMEOUT_S = 900
_DEEPBET = "deepbet.ui.cli"


def extract_brain(t1w: nib.Nifti1Image, name: str) -> Mask:
    """The brain mask ``(X, Y, Z)`` of a T1w, on its grid; ``name`` names the file in messages.

    Raises SubjectError where the result is no brain's size and where deepbet is needed and missing.
    """
    mask = _already_extracted(t1w)
    if mask is None:
        mask = _deepbet(t1w, name)
    litres = volume_litres(mask, t1w)
    if not LITRES[0] <= litres <= LITRES[1]:
        raise SubjectError(
            f"{name}: the brain found has {litres:.2f} L where adults have 1.0 to 1.7 L; check that the file is a "
            "T1w of a whole head."
        )
    return mask


def volume_litres(mask: Mask, image: nib.Nifti1Image) -> float:
    """Volume of a mask on an image's grid, litres."""
    return float(mask.sum()) * abs(float(np.linalg.det(image.affine[:3, :3]))) / 1e6


def _largest_piece(mask: Mask) -> Mask:
    pieces, count = ndimage.label(mask)
    if count == 0:
        return mask
    return np.asarray(pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:])))


def _already_extracted(t1w: nib.Nifti1Image) -> Mask | None:
    """The brain of an image whose outside is exactly 0, or None where more than a brain is not 0."""
    inside = np.asarray(t1w.dataobj) != 0
    litres = volume_litres(inside, t1w)
    if not LITRES[0] <= litres <= LITRES[1]:
        return None
    filled = np.asarray(ndimage.binary_fill_holes(_largest_piece(inside)))
    # A head with a dark skull is many pieces or a shell: its filled volume is not that of its largest piece.
    return filled if LITRES[0] <= volume_litres(filled, t1w) <= min(LITRES[1], 1.15 * litres) else None


def _deepbet(t1w: nib.Nifti1Image, name: str) -> Mask:
    if find_spec("deepbet") is None:
        raise SubjectError(
            f"{name} shows a whole head, and brain extraction needs deepbet; run: pip install 'relapet[preprocess]'."
        )
    with tempfile.TemporaryDirectory() as temporary:
        head, brain, mask = (Path(temporary) / f"{part}.nii.gz" for part in ("head", "brain", "mask"))
        head = head.with_suffix("")  # uncompressed: deepbet refuses files that compress to under 100 kB
        # deepbet was trained on cubic voxels and takes the nearest one: thick slices are interpolated first.
        cubic = isotropic(t1w, 1.0)
        nib.save(cubic, head)
        command = [
            sys.executable,
            "-P",  # else a Python file of the working folder, perhaps of a data set, could be imported
            "-m",
            _DEEPBET,
            "-i",
            str(head),
            "-o",
            str(brain),
            "-m",
            str(mask),
            "--no_gpu",
            "--no-skip_broken",
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            raise SubjectError(
                f"{name}: brain extraction took over {_TIMEOUT_S} s; try it again alone."
            ) from None
        if done.returncode != 0 or not mask.is_file():
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise SubjectError(
                f"{name}: brain extraction found no brain ({reason}); check that the file is a T1w of a whole head."
            )
        found = nib.load(mask)
        return _on_grid(np.asarray(found.dataobj) > 0, found.affine, t1w)


def _on_grid(mask: Mask, affine: np.ndarray, image: nib.Nifti1Image) -> Mask:
    to_mask = np.linalg.inv(affine) @ image.affine
    fraction = sample(mask.astype(np.float32), to_mask, image.shape[:3])
    return _largest_piece(np.asarray(fraction > 0.5))
