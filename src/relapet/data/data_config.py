"""Settings of the data: which volumes are trained on, and how they are split and varied."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from relapet.data.augment import AugmentConfig
from relapet.data.items import PetScaling
from relapet.data.volumes import MriScaling
from relapet.errors import InputError
from relapet.prior.config import PriorConfig
from relapet.settings import Distinct, Settings
from relapet.tracers import get_tracer

Modality = Literal["T1w", "FLAIR"]
PriorName = Literal["none", "mean", "linear"]


def _by_name(tracers: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(get_tracer(tracer).name for tracer in tracers)
    except InputError as error:
        raise ValueError(str(error)) from error  # which pydantic gives the setting's name


class DataConfig(Settings):
    """Which volumes are trained on, and how they are split and varied."""

    tracers: Annotated[tuple[str, ...], AfterValidator(_by_name), Distinct] = Field(
        ("pbr28", "pib", "tau"), min_length=1, description="tracers to learn, under any of their names"
    )
    inputs: Annotated[tuple[Modality, ...], Distinct] = Field(
        ("T1w", "FLAIR"), min_length=1, description="MRI that the model sees; one left out is background"
    )
    grid: Literal["1mm", "2.5mm", "3mm", "4mm", "8mm"] | None = Field(
        None,
        description="voxel grid; needed for derivatives of other pipelines, else that of the derivatives",
    )
    pet_scaling: PetScaling = Field(
        "suvr_window",
        description="suvr_window: each tracer's fixed window; minmax: each volume's own range, which loses SUVr",
    )
    mri_scaling: MriScaling = Field(
        "robust", description="robust: by the brain's inner percentiles; minmax: by each volume's own range"
    )
    validation_fraction: float = Field(0.1, ge=0, lt=1, description="share of subjects for validation")
    test_fraction: float = Field(0.2, ge=0, lt=1, description="share of subjects held out, never trained on")
    prior: PriorName = Field(
        "none",
        description="what the model is told of each PET beforehand: none; mean: the tracer's mean over the training "
        "participants; linear: closed-form regression from the MRI, cross-fitted by participant",
    )
    linear: PriorConfig = Field(PriorConfig(), description="fit of the linear prior")
    split_seed: int = Field(0, ge=0, description="seed of the split by subject")
    augment: AugmentConfig = Field(AugmentConfig(), description="variation of training pairs")

    @model_validator(mode="after")
    def _withhold_only_one_of_two(self) -> Self:
        if len(set(self.inputs)) < 2 and self.augment.drop_t1w + self.augment.drop_flair > 0:
            raise ValueError("augment.drop_t1w and augment.drop_flair must be 0 with a single input")
        return self

    @property
    def required_inputs(self) -> tuple[Modality, ...]:
        """The MRI without which the model cannot be used: its inputs, but those that training withholds at times."""
        drop = {"T1w": self.augment.drop_t1w, "FLAIR": self.augment.drop_flair}
        return tuple(modality for modality in self.inputs if drop[modality] == 0)
