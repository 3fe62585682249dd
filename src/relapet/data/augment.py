"""Augmentation of one training item: the draw is one step, its application another that is deterministic."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy import ndimage
from scipy.spatial.transform import Rotation

from relapet.data.items import TrainingItem
from relapet.data.volumes import BACKGROUND
from relapet.settings import Settings
from relapet.types import Volume


class AugmentConfig(Settings):
    """How much a training item may be varied."""

    flip_probability: float = Field(0.0, ge=0, le=1, description="chance of mirroring left and right")
    contrast: float = Field(0.0, ge=0, le=1, description="SD of log gamma, gain and offset of each MRI")
    shift_mm: float = Field(0.0, ge=0, description="SD of a random translation along each axis, mm")
    turn_degrees: float = Field(0.0, ge=0, description="SD of a random rotation about each axis, degrees")
    stretch: float = Field(0.0, ge=0, le=0.5, description="SD of the log scale along each axis")
    drop_t1w: float = Field(0.0, ge=0, le=1, description="chance that T1w is withheld (FLAIR is then kept)")
    drop_flair: float = Field(0.0, ge=0, le=1, description="chance that FLAIR is withheld (T1w is then kept)")


class Items(Protocol):
    """A random-access sequence of training items."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def item(self, index: int, withheld: int | None = None) -> TrainingItem:
        """One item; its prior is that of a visit whose MRI channel ``withheld`` is absent."""
        ...

    def name(self, index: int) -> str:
        """Visit and tracers of an item."""
        ...

    def same_tracer(self, index: int) -> list[int]:
        """The items that hold the tracer of this one."""
        ...


@dataclass(frozen=True)
class AugmentDraw:
    """One draw: what is done to one item."""

    flip: bool
    gamma: tuple[float, float]
    gain: tuple[float, float]
    offset: tuple[float, float]
    matrix: tuple[tuple[float, ...], ...]
    """Affine about the grid's centre, (3, 4), mm; from the new volume to the old."""
    drop: int | None
    """MRI that is withheld, 0 T1w or 1 FLAIR."""


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


def apply(item: TrainingItem, params: AugmentDraw) -> TrainingItem:
    """The item with a draw applied, in new arrays.

    MRI and PET move together, and with them a prior made from this person's MRI. A prior that is the same for everyone
    is mirrored with them but else stays where the template is.
    """
    mri, pet, prior = _contrast(item.mri, params), item.pet, item.prior
    matrix = np.array(params.matrix)
    if not np.array_equal(matrix, np.eye(3, 4)):
        mri, pet = _moved(mri, matrix, item.voxel_mm), _moved(pet, matrix, item.voxel_mm)
        if prior is not None and item.prior_is_personal:
            prior = _moved(prior, matrix, item.voxel_mm)
    if params.flip:
        # Every grid is centred within 0.5 mm of the midline, so mirroring the array mirrors the brain.
        mri, pet = _mirrored(mri), _mirrored(pet)
        prior = None if prior is None else _mirrored(prior)
    return replace(item, mri=mri, pet=pet, prior=prior)


def vary(items: Items, index: int, config: AugmentConfig, rng: np.random.Generator) -> TrainingItem:
    """An item with one random variation applied; its prior never knows more of the MRI than the model then sees."""
    params = draw(config, rng)
    return apply(items.item(index, params.drop), params)


def _contrast(mri: Volume, params: AugmentDraw) -> Volume:
    out = mri.copy()
    for channel, (gamma, gain, offset) in enumerate(
        zip(params.gamma, params.gain, params.offset, strict=True)
    ):
        # Never both: where the other is absent this one stays.
        if channel == params.drop and (mri[1 - channel] > BACKGROUND).any():
            out[channel] = BACKGROUND
            continue
        brain = mri[channel] > BACKGROUND
        unit = (mri[channel][brain] + 1) / 2
        out[channel][brain] = np.clip((unit**gamma * 2 - 1) * gain + offset, -1, 1)
    return out


def _mirrored(volumes: Volume) -> Volume:
    return np.ascontiguousarray(volumes[:, ::-1])


def _moved(volumes: Volume, matrix: npt.NDArray[np.float64], voxel_mm: float) -> Volume:
    return np.stack([_move(volume, matrix, voxel_mm) for volume in volumes])


def _move(volume: Volume, matrix: npt.NDArray[np.float64], voxel_mm: float) -> Volume:
    centre = (np.array(volume.shape) - 1) / 2
    linear, shift = matrix[:, :3], matrix[:, 3] / voxel_mm
    moved = ndimage.affine_transform(
        volume, linear, centre - linear @ centre + shift, order=1, mode="constant", cval=BACKGROUND
    )
    return np.asarray(moved, dtype=np.float32)
