"""PET frames, and their timing and unit as the BIDS sidecar states them: which frames make the tracer's image.

Field names: Brain Imaging Data Structure 1.10, positron emission tomography. Times there are seconds from
TimeZero; here minutes after injection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from relapet.errors import InputError, SubjectError, VolumeError
from relapet.files import read_json
from relapet.imaging.bids import sidecar_path
from relapet.imaging.checks import open_scan
from relapet.imaging.nifti import printable, read_voxels, require_contrast
from relapet.tracers import TracerSpec
from relapet.types import Json

_ACTIVITY = {"bq/ml": "Bq/mL", "bqml": "Bq/mL", "kbq/ml": "kBq/mL", "mbq/ml": "MBq/mL", "uci/ml": "uCi/mL"}
_UPTAKE = {"g/ml": "SUV", "suv": "SUV", "suvr": "SUVR", "unitless": "SUVR"}
UNITS = {**_ACTIVITY, **_UPTAKE}
"""Units taken, in lower case; any of them cancels in SUVr, and SUVR is taken as it is."""
_MIN_SHARE = 0.5
"""Least share of the tracer's window that the frames must cover."""


@dataclass(frozen=True)
class Frames:
    """The frames chosen for one tracer's static image."""

    index: tuple[int, ...]
    weight: tuple[float, ...]
    """What each frame is multiplied by in the mean; the weights of decay-corrected frames sum to 1."""
    start_minutes: float
    end_minutes: float
    covered: float
    """Share of the tracer's window that the frames cover."""


def read_sidecar(pet: Path) -> Json:
    """The sidecar of a PET; raises SubjectError where it is missing or unreadable."""
    path = sidecar_path(pet)
    if not path.is_file():
        raise SubjectError(
            f"{pet} has no sidecar {path.name}; add one with Units, FrameTimesStart and FrameDuration."
        )
    try:
        return read_json(path)
    except InputError as error:
        raise SubjectError(str(error)) from error


def unit_of(sidecar: Json, pet: Path) -> str:
    """The image's unit (Bq/mL, kBq/mL, SUV, SUVR ...); raises SubjectError for none or one that is unknown."""
    stated = sidecar.get("Units")
    if stated is None:
        raise SubjectError(f"{sidecar_path(pet)} has no Units; add one of Bq/mL, kBq/mL, g/mL (SUV) or SUVR.")
    unit = UNITS.get(str(stated).lower().replace(" ", ""))
    if unit is None:
        raise SubjectError(
            f"{sidecar_path(pet)}: Units is {stated!r}; give one of Bq/mL, kBq/mL, g/mL (SUV) or SUVR."
        )
    return unit


def load_frames(path: Path, index: Sequence[int]) -> tuple[nib.Nifti1Image, ...]:
    """Load some frames of a 3-D or 4-D PET as float32 in RAS+, keeping no others.

    Raises VolumeError, naming the file, where it is unreadable, too large, constant, not finite or nowhere above 0.
    """
    image = open_scan(path)
    frames = []
    for i in index:
        data = read_voxels(path, image, i if len(image.shape) == 4 else None)
        if data.max() <= 0:
            raise VolumeError(
                f"{printable(path)}, frame {i}: no voxel is above 0; leave this scan out or convert it again."
            )
        require_contrast(data, path)
        frames.append(nib.as_closest_canonical(nib.Nifti1Image(data, image.affine)))
    return tuple(frames)


def choose_frames(sidecar: Json, pet: Path, count: int, tracer: TracerSpec) -> Frames:
    """The frames of which at least half lies in the tracer's window, and their weights in the mean.

    A frame's weight is its duration. Frames that are not decay-corrected are brought to the injection: a
    frame's counts per second are multiplied by  lambda d exp(lambda t0) / (1 - exp(-lambda d)),  t0 its start
    after injection and d its duration. Raises SubjectError where the sidecar lacks a time or says other than
    the image, and where the frames leave the window empty.
    """
    starts, durations = _times(sidecar, pet, count)
    low, high = tracer.window_minutes
    inside = np.minimum(starts + durations, high) - np.maximum(starts, low)
    index = np.flatnonzero(inside >= 0.5 * durations - 1e-6)
    covered = float(np.clip(inside[index], 0, None).sum() / (high - low))
    if covered < _MIN_SHARE:
        raise SubjectError(
            f"{pet}: frames cover {starts.min():.0f} to {(starts + durations).max():.0f} min after injection, too "
            f"little ({covered:.0%}) of {low:.0f} to {high:.0f} min, the window of {tracer.ligand}; correct "
            "FrameTimesStart, FrameDuration and InjectionStart, or leave this scan out."
        )
    weight = durations[index] / durations[index].sum()
    if not _flag(sidecar, "ImageDecayCorrected", pet):
        weight = weight * decay_factor(starts[index], durations[index], tracer.half_life_minutes)
    return Frames(
        tuple(int(i) for i in index),
        tuple(float(w) for w in weight),
        float(starts[index].min()),
        float((starts + durations)[index].max()),
        covered,
    )


def decay_factor(
    start: npt.NDArray[np.float64], duration: npt.NDArray[np.float64], half_life: float
) -> npt.NDArray[np.float64]:
    """What a frame's mean activity is multiplied by to undo decay since injection; all in minutes."""
    rate = np.log(2) / half_life
    return np.asarray(rate * duration * np.exp(rate * start) / -np.expm1(-rate * duration))


def _times(sidecar: Json, pet: Path, count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    injection = _number(sidecar, "InjectionStart", pet)
    columns = []
    for key in ("FrameTimesStart", "FrameDuration"):
        value = sidecar.get(key)
        if not isinstance(value, list) or not all(isinstance(v, int | float) for v in value):
            raise SubjectError(f"{sidecar_path(pet)} has no list {key} (seconds); add it.")
        if len(value) != count:
            raise SubjectError(
                f"{sidecar_path(pet)}: {key} has {len(value)} values where the image has {count} frames; correct it."
            )
        columns.append(np.array(value, dtype=float) / 60)
    if (columns[1] <= 0).any():
        raise SubjectError(f"{sidecar_path(pet)}: FrameDuration holds 0 or less; correct it.")
    return columns[0] - injection / 60, columns[1]


def _number(sidecar: Json, key: str, pet: Path) -> float:
    value: Any = sidecar.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise SubjectError(f"{sidecar_path(pet)} has no number {key} (seconds); add it.")
    return float(value)


def _flag(sidecar: Json, key: str, pet: Path) -> bool:
    value = sidecar.get(key)
    if not isinstance(value, bool):
        raise SubjectError(f"{sidecar_path(pet)} has no {key} (true or false); add it.")
    return value
