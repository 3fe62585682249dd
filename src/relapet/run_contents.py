"""What a run folder says of itself, and whether it holds what it says: each fault is named with its file and field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    field_validator,
    model_validator,
)

from relapet.errors import InputError
from relapet.imaging.grid import GRIDS, SPACE, get_grid
from relapet.model.interface import DataFacts
from relapet.settings import Settings, refusal, shortened
from relapet.tracers import TracerSpec
from relapet.types import Volume

RUN_FORMAT = 2
"""Version of the run folder's content; raised when an older relapet could not read it right."""

PUBLISHED_TRACER_SLOTS = 4
"""Classes of the published network, of which it uses three."""
_MOST_SLOTS = 1000
"""More tracers than there will be; each slot costs memory."""


class TracerRecord(BaseModel):
    """How one tracer was presented to the model."""

    model_config = ConfigDict(frozen=True)

    label: str
    index: int = Field(ge=0)
    suvr_window: tuple[FiniteFloat, FiniteFloat]
    """What -1 and 1 of the output mean. Under min-max scaling that is the training volumes' mean range."""

    @field_validator("suvr_window")
    @classmethod
    def _rises(cls, window: tuple[float, float]) -> tuple[float, float]:
        if window[0] >= window[1]:
            raise ValueError(f"the window {list(window)} does not rise")
        return window


class SettingChange(BaseModel):
    """A setting that is another one since training went on."""

    model_config = ConfigDict(frozen=True)

    setting: str
    """Dotted name."""
    before: Any
    after: Any
    when: str
    """UTC, ISO 8601."""


class Adjustment(Settings):
    """What validation participants say of one tracer's maps and samples."""

    trust: float = Field(ge=0, le=1, description="share that is kept of what the model adds to its prior")
    spread: float = Field(gt=0, le=10, description="factor by which samples lie about the mean map")


class Manifest(BaseModel):
    """What a run was trained on and with."""

    model_config = ConfigDict(frozen=True)

    run_format: int = Field(ge=1)
    created: str
    versions: dict[str, str]
    git_revision: str | None
    method: str
    space: str
    grid: str
    tracers: dict[str, TracerRecord] = Field(min_length=1)
    inputs: tuple[Literal["T1w", "FLAIR"], ...] = Field(("T1w", "FLAIR"), min_length=1)
    """Modalities that the model sees; any other is background to it."""
    required_inputs: tuple[str, ...]
    """Modalities without which the model cannot be used: T1w, FLAIR."""
    mri_scaling: Literal["robust", "minmax"] = "robust"
    """See `relapet.data.volumes.scale_mri`."""
    pet_scaling: Literal["suvr_window", "minmax"] = "suvr_window"
    """minmax: each training volume was scaled by its own range, so that the output is no SUVr."""
    prior: Literal["none", "mean", "linear"]
    """What the model was told of each PET beforehand."""
    tracer_slots: int = Field(ge=1, le=_MOST_SLOTS)
    """Rows of the tracer embedding."""
    split: dict[str, list[str]]
    seeds: dict[str, int]
    checksums: dict[str, str]
    """SHA-256 of every file that was trained or validated on, by its path within the derivative."""
    origin: str | None = None
    """Where the weights are from, where they were not trained in this folder."""
    trained_on: Literal["simulated"] | None = None
    """simulated: some of the people that it learned from are; None where no file says so."""
    left_out: dict[str, str] = {}
    """Visits that were to be trained or validated on and could not be read, and why."""
    changes: tuple[SettingChange, ...] = ()
    """Settings that were changed where training went on, in order."""

    @field_validator("grid")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in GRIDS:
            raise ValueError(f"the grid {shortened(name)} is none of {', '.join(GRIDS)}")
        return name

    @field_validator("space")
    @classmethod
    def _is_ours(cls, name: str) -> str:
        if name != SPACE:
            raise ValueError(f"the space {shortened(name)} is not {SPACE}")
        return name

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        indices = [record.index for record in self.tracers.values()]
        if len(set(indices)) < len(indices) or max(indices) >= self.tracer_slots:
            raise ValueError(f"the tracers' indices {indices} are not distinct or not below tracer_slots")
        if not set(self.required_inputs) <= set(self.inputs):
            raise ValueError("required_inputs has what inputs has not")
        return self

    def facts(self) -> DataFacts:
        """What the size of the networks follows from."""
        grid = get_grid(self.grid)
        return DataFacts(
            tracers=len(self.tracers),
            tracer_slots=self.tracer_slots,
            prior=self.prior != "none",
            shape=grid.shape,
            voxel_mm=grid.voxel_size,
        )


def tracer_slots(tracers: Sequence[TracerSpec]) -> int:
    """Rows that an embedding of these tracers needs; never fewer than the four of the published network."""
    return max(PUBLISHED_TRACER_SLOTS, *(tracer.index + 1 for tracer in tracers))


def fault_of_manifest(error: ValidationError) -> str:
    """The first fault of a manifest: its field and what is wrong with it."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "value_error":
        reason = str(first["ctx"]["error"])
        return f"{key}: {reason}" if key else reason
    if first["type"] == "missing":
        return f"{key} is missing"
    return f"{key} {refusal(first).rstrip('.')}"


def check_finite(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Raise InputError, naming file and array, where any holds NaN or infinity."""
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(
                f"{path} holds NaN or infinity in {name}; copy the run folder again or train again."
            )


def check_maps(path: Path, maps: Mapping[str, Volume], manifest: Manifest) -> None:
    """Raise InputError where a file lacks a finite map, on the run's grid, of a tracer of the manifest."""
    shape = get_grid(manifest.grid).shape
    for name in manifest.tracers:
        if name not in maps or maps[name].shape != shape or maps[name].dtype.kind != "f":
            raise InputError(
                f"{path} has no map of {name} on the grid {manifest.grid}; copy the run folder again or train again."
            )
    check_finite(path, maps)
