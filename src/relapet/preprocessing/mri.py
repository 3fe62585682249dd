"""The MRI of one visit: brain mask, bias field, FLAIR -> T1w, T1w -> template, scaled and resampled once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from relapet.errors import SubjectError
from relapet.files import temporary_folder
from relapet.imaging.bids import write_image
from relapet.imaging.checks import load_anatomical
from relapet.imaging.grid import Grid
from relapet.imaging.nifti import open_image
from relapet.imaging.template import load_template
from relapet.imaging.transforms import Step, apply, apply_like
from relapet.preprocessing.brain import extract_brain, volume_litres
from relapet.preprocessing.intensity import correct_bias, scale_by_white_matter
from relapet.preprocessing.names import Names
from relapet.preprocessing.raw import RawVisit
from relapet.preprocessing.registration import (
    isotropic,
    register_linear,
    register_syn,
    similarity,
    to_file_axes,
)
from relapet.preprocessing.steps import VisitLog
from relapet.types import Json, Mask, Volume

_WORK = Grid("work", 2.0, (88, 104, 88))
"""Where the template is registered: 2 mm, the field of view and 8 mm more on every side."""
_REGISTER_MM = 2.0
_MARGIN_MM = 8.0
"""How far around the brain a rigid registration looks, mm: the edge of the brain is its best landmark."""
_MIN_NATS = 0.2
"""Least information, nats, that a FLAIR and a T1w of one person share inside the brain at 2 mm.

Measured on all 16 pairs of four sessions of three people (Lesjak 2017): the six of one person share 0.24 to 0.58
nats, the ten of two people 0.02 to 0.16. How many times more a FLAIR shares than its mirror image does tells
exchanged sides, but not two people: 1.9 to 2.4 within a person, but 0.1 to 6.8 between two, where one of the
two registrations goes astray.
"""
_MIRROR_GAIN = 1.25
"""Times more information that a mirrored FLAIR shares with the T1w where one of the two has its sides exchanged."""
_SCALED: Json = {"SkullStripped": True, "Units": "arbitrary", "Scaling": "white matter's median is 1"}
"""What the sidecar of a model-ready MRI says."""
_MIN_DICE = 0.85
_MIN_TEMPLATE_NATS = 0.25
"""Least information, nats, that a registered T1w shares with the template inside its brain at 2 mm.

Four real sessions (Lesjak 2017) share 0.59 to 0.73 nats. Phantoms (a ball, a layered ball, a cylinder of rods) reach
a Dice of 0.90 to 0.94 with the template's brain, but share 0.05 to 0.11 nats.
"""


@dataclass(frozen=True)
class Mri:
    """The MRI of one visit as later steps need it."""

    t1w: nib.Nifti1Image
    """Bias-corrected T1w with cubic voxels of 2 mm, RAS+, head included."""
    region: nib.Nifti1Image
    """The brain and its surroundings on the grid of ``t1w``."""
    own_brain: Mask
    """The brain on the grid of ``t1w``."""
    t1w_ready: Volume
    """Model-ready T1w on the chosen grid, ``(X, Y, Z)``, white matter 1."""
    flair_ready: Volume | None
    brain: Mask
    """Brain on the chosen grid."""
    measures: Json
    warnings: tuple[str, ...]


def process_mri(
    raw: RawVisit, names: Names, grid: Grid, syn_iterations: tuple[int, ...], log: VisitLog
) -> Mri:
    """Make the model-ready MRI of one visit and write it with its transforms.

    Raises SubjectError where an image is no head or a registration fails.
    """
    names.native_t1w.parent.mkdir(parents=True, exist_ok=True)
    t1w_raw = load_anatomical(raw.t1w)
    log.begin("finding the brain")
    log.say(f"T1w {raw.t1w.name}: {t1w_raw.shape}")
    mask = extract_brain(t1w_raw, str(raw.t1w))
    measures: Json = {"BrainLitres": round(volume_litres(mask, t1w_raw), 4)}
    log.say(f"brain mask: {measures['BrainLitres']:.2f} L")
    log.begin("correcting the bias field")
    t1w = correct_bias(t1w_raw, mask)
    _save_native(raw, names, t1w, mask)
    small = isotropic(t1w, _REGISTER_MM)
    brain = _mask_onto(small, mask, t1w)
    region = _image(ndimage.distance_transform_edt(~brain) * _REGISTER_MM <= _MARGIN_MM, small)
    log.begin("registering the T1w to the template")
    dice, nats = _to_template(small, brain, names, syn_iterations)
    measures["DiceWithTemplate"] = round(dice, 4)
    measures["InformationWithTemplateNats"] = round(nats, 3)
    log.say(f"T1w to template: Dice {dice:.3f}, shares {nats:.2f} nats")
    _check_template(dice, nats, raw.t1w)
    warnings: list[str] = []
    flair = None
    if raw.flair is None:
        warnings.append(f"{raw.visit.stem} has no FLAIR; a model that needs one cannot be applied.")
    else:
        log.begin("registering the FLAIR to the T1w")
        flair = _flair(raw.flair, names, small, region, brain)
        measures["FlairInformationNats"] = round(flair.nats, 3)
        measures["FlairInformationOverMirrored"] = round(flair.gain, 3)
        log.say(f"FLAIR to T1w: shares {flair.nats:.2f} nats, {flair.gain:.2f} times its mirror image's")
        warnings += flair_warnings(flair.nats, flair.gain, raw.flair)
    log.begin("writing the model-ready MRI")
    ready = _ready(raw, names, grid, (t1w, mask), None if flair is None else flair.image)
    return Mri(small, region, brain, *ready, measures, tuple(warnings))


@dataclass(frozen=True)
class _Flair:
    image: nib.Nifti1Image
    nats: float
    gain: float


def _image(data: Mask | Volume, like: nib.Nifti1Image) -> nib.Nifti1Image:
    return nib.Nifti1Image(np.asarray(data, dtype=np.float32), like.affine)


def _mask_onto(target: nib.Nifti1Image, mask: Mask, source: nib.Nifti1Image) -> Mask:
    return np.asarray(np.asarray(apply_like(target, _image(mask, source), ()).dataobj) > 0.5)


def _save_native(raw: RawVisit, names: Names, t1w: nib.Nifti1Image, mask: Mask) -> None:
    file = open_image(raw.t1w)
    data = np.asarray(t1w.dataobj)
    sources = [raw.uri(raw.t1w)]
    record: Json = {"SkullStripped": False, "Sources": sources}
    write_image(names.native_t1w, to_file_axes(data, file), file.affine, record, code=1)
    record = {"Type": "Brain", "Sources": sources}
    write_image(names.native_mask, to_file_axes(mask.astype(np.uint8), file), file.affine, record, code=1)


def _to_template(
    t1w: nib.Nifti1Image, brain: Mask, names: Names, iterations: tuple[int, ...]
) -> tuple[float, float]:
    """Register to the template; returns the Dice overlap of the two brains and the information shared, nats."""
    template = load_template(_WORK)
    fixed = nib.Nifti1Image(np.where(template.brain, template.t1, 0).astype(np.float32), _WORK.affine)
    data = np.asarray(t1w.dataobj)
    # Bright vessels and what the mask left of the skull take no part.
    moving = _image(np.where(brain, np.minimum(data, np.percentile(data[brain], 99)), 0), t1w)
    with temporary_folder(names.warp.forward.parent) as folder:
        affine = register_linear(fixed, moving, folder / "affine.mat", "Affine")
        register_syn(fixed, moving, affine, names.warp, iterations)
    to_template = [Step(names.warp.forward)]
    warped = apply(_image(brain, t1w), _WORK.shape, _WORK.affine, to_template) > 0.5
    dice = float(2 * (warped & template.brain).sum() / max(1, warped.sum() + template.brain.sum()))
    return dice, similarity(fixed, apply_like(fixed, moving, to_template), _image(template.brain, fixed))


def _check_template(dice: float, nats: float, t1w: Path) -> None:
    if dice < _MIN_DICE:
        raise SubjectError(
            f"{t1w}: after registration the brain overlaps the template's with a Dice of only {dice:.2f} (0.95 is "
            "usual); look at its pictures and check that the file is a T1w of a whole head."
        )
    if nats < _MIN_TEMPLATE_NATS:
        raise SubjectError(
            f"{t1w} has a head's shape but hardly resembles the template inside (they share {nats:.2f} nats, 0.5 is "
            "usual); check that it is the T1w of a head, not of a phantom."
        )


def _flair(path: Path, names: Names, t1w: nib.Nifti1Image, region: nib.Nifti1Image, brain: Mask) -> _Flair:
    """Register the FLAIR rigidly and correct its bias field inside the T1w's brain."""
    flair = load_anatomical(path)
    small = isotropic(flair, _REGISTER_MM)
    register_linear(t1w, small, names.flair_to_t1w, "Rigid", region)
    inside = _image(brain, t1w)
    found = similarity(t1w, apply_like(t1w, small, [Step(names.flair_to_t1w)]), inside)
    mirrored = _image(np.asarray(small.dataobj)[::-1].copy(), small)
    with temporary_folder(names.flair_to_t1w.parent) as folder:
        other = register_linear(t1w, mirrored, folder / "mirrored.mat", "Rigid", region)
        chance = similarity(t1w, apply_like(t1w, mirrored, [Step(other)]), inside)
    in_flair = apply(inside, flair.shape, flair.affine, [Step(names.flair_to_t1w, inverted=True)]) > 0.5
    if not in_flair.any():
        raise SubjectError(
            f"{path} does not overlap the T1w's brain after registration; check that it is a FLAIR."
        )
    return _Flair(correct_bias(flair, in_flair), found, max(found, 1e-6) / max(chance, 1e-6))


def flair_warnings(nats: float, gain: float, flair: Path) -> list[str]:
    """Warnings about a FLAIR that shares ``nats`` with the T1w, ``gain`` times what its mirror image does."""
    if nats / gain >= max(_MIN_NATS, _MIRROR_GAIN * nats):
        return [
            f"{flair} fits the T1w better when mirrored ({1 / gain:.1f} times): one of the two has left and right "
            "exchanged in its header; find out which and correct it."
        ]
    if nats < _MIN_NATS:
        return [
            f"{flair} hardly fits the T1w (they share {nats:.2f} nats, 0.25 to 0.6 is usual); make sure that both are "
            "of one person and look at the registration's picture."
        ]
    return []


def _ready(
    raw: RawVisit, names: Names, grid: Grid, t1w: tuple[nib.Nifti1Image, Mask], flair: nib.Nifti1Image | None
) -> tuple[Volume, Volume | None, Mask]:
    """Resample T1w, FLAIR and mask onto the chosen grid, scale, and write them."""
    image, mask = t1w
    to_template = Step(names.warp.forward)
    brain = apply(_image(mask, image), grid.shape, grid.affine, [to_template]) > 0.5
    white = load_template(grid).white > 0.9

    def ready(source: nib.Nifti1Image, steps: list[Step], name: str) -> Volume:
        return scale_by_white_matter(apply(source, grid.shape, grid.affine, steps), white, brain, name)

    sources = [raw.uri(raw.t1w)]
    t1w_ready = ready(image, [to_template], str(raw.t1w))
    write_image(names.visit.t1w(names.root), t1w_ready, grid.affine, {**_SCALED, "Sources": sources})
    write_image(names.visit.mask(names.root), brain, grid.affine, {"Type": "Brain", "Sources": sources})
    flair_ready = None
    if flair is not None and raw.flair is not None:
        flair_ready = ready(flair, [Step(names.flair_to_t1w), to_template], str(raw.flair))
        record: Json = {**_SCALED, "Sources": [raw.uri(raw.flair), *sources]}
        write_image(names.visit.flair(names.root), flair_ready, grid.affine, record)
    return t1w_ready, flair_ready, np.asarray(brain)
