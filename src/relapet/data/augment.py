"""Augmentation of one training pair: the draw is one step, its application another that is deterministic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage
from scipy.spatial.transform import Rotation

from relapet.data.volumes import BACKGROUND
from relapet.types import Volume


class AugmentConfig(BaseModel):
    """How much a training pair may be varied."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flip_probability: float = Field(0.0, ge=0, le=1, description="chance of mirroring left and right")
    contrast: float = Field(0.0, ge=0, le=1, description="SD of log gamma, gain and offset of each MRI")
    shift_mm: float = Field(0.0, ge=0, description="SD of a random translation along each axis, mm")
    turn_degrees: float = Field(0.0, ge=0, description="SD of a random rotation about each axis, degrees")
    stretch: float = Field(0.0, ge=0, le=0.5, description="SD of the log scale along each axis")
    drop_t1w: float = Field(0.0, ge=0, le=1, description="chance that T1w is withheld (FLAIR is then kept)")
    drop_flair: float = Field(0.0, ge=0, le=1, description="chance that FLAIR is withheld (T1w is then kept)")


@dataclass(frozen=True)
class AugmentDraw:
    """One draw: what is done to one pair."""

    flip: bool
    gamma: tuple[float, float]
    gain: tuple[float, float]
    offset: tuple[float, float]
    matrix: tuple[tuple[float, ...], ...]
    """Affine about the grid's centre, (3, 4), mm; from the new volume to the old."""
    drop: int | None
    """Channel that is withheld, 0 T1w or 1 FLAIR."""


def draw(config: AugmentConfig, rng: np.random.Generator) -> AugmentDraw:
    """Draw the parameters; always the same number of random numbers, so that one setting never shifts another."""
    flip = bool(rng.random() < config.flip_probability)
    gamma, gain, offset = np.clip(rng.standard_normal((3, 2)), -2, 2) * config.contrast
    chance = rng.random()
    shift, turn, stretch = np.clip(rng.standard_normal((3, 3)), -2, 2)
    turned = Rotation.from_euler("xyz", turn * config.turn_degrees, degrees=True).as_matrix()
    linear = turned @ np.diag(np.exp(stretch * config.stretch))
    matrix = np.column_stack([linear, shift * config.shift_mm])
    drop = None
    if chance < config.drop_t1w:
        drop = 0
    elif chance < config.drop_t1w + config.drop_flair:
        drop = 1
    return AugmentDraw(
        flip,
        (float(np.exp(gamma[0])), float(np.exp(gamma[1]))),
        (float(np.exp(gain[0])), float(np.exp(gain[1]))),
        (float(offset[0]), float(offset[1])),
        tuple(tuple(float(value) for value in row) for row in matrix),
        drop,
    )


def apply(condition: Volume, pet: Volume, params: AugmentDraw, voxel_mm: float) -> tuple[Volume, Volume]:
    """Apply a draw to condition ``(2 or 3, X, Y, Z)`` and PET ``(X, Y, Z)``, both in [-1, 1]; returns new arrays.

    MRI and PET move together; a template channel is mirrored with them but else stays where the template is.
    """
    out = condition.copy()
    for channel, (gamma, gain, offset) in enumerate(
        zip(params.gamma, params.gain, params.offset, strict=True)
    ):
        # Never both: where the other is absent this one stays.
        if channel == params.drop and (condition[1 - channel] > BACKGROUND).any():
            out[channel] = BACKGROUND
            continue
        brain = condition[channel] > BACKGROUND
        unit = (condition[channel][brain] + 1) / 2
        out[channel][brain] = np.clip((unit**gamma * 2 - 1) * gain + offset, -1, 1)
    matrix = np.array(params.matrix)
    if not np.array_equal(matrix, np.eye(3, 4)):
        out[:2] = [_move(channel, matrix, voxel_mm) for channel in out[:2]]
        pet = _move(pet, matrix, voxel_mm)
    if params.flip:
        # Every grid is centred within 0.5 mm of the midline, so mirroring the array mirrors the brain.
        out, pet = out[:, ::-1], pet[::-1]
    return np.ascontiguousarray(out), np.ascontiguousarray(pet)


def _move(volume: Volume, matrix: npt.NDArray[np.float64], voxel_mm: float) -> Volume:
    centre = (np.array(volume.shape) - 1) / 2
    linear, shift = matrix[:, :3], matrix[:, 3] / voxel_mm
    moved = ndimage.affine_transform(
        volume, linear, centre - linear @ centre + shift, order=1, mode="constant", cval=BACKGROUND
    )
    return np.asarray(moved, dtype=np.float32)
