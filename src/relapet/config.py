"""One run's settings: composed of the stages' own Config classes, from a preset, a file and single settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from relapet.data.dataset import DataConfig
from relapet.errors import InputError
from relapet.methods import MethodConfig
from relapet.setting_files import compose, presets
from relapet.settings import fault
from relapet.synthesis.config import SampleConfig
from relapet.tracers import get_tracer
from relapet.training.config import TrainConfig

__all__ = ["RunConfig", "describe", "load_config", "presets"]


class RunConfig(BaseModel):
    """All settings of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: MethodConfig = Field(description="the method and its networks")
    data: DataConfig = Field(DataConfig(), description="volumes, split, augmentation")
    train: TrainConfig = Field(TrainConfig(), description="the training loop")
    sample: SampleConfig = Field(SampleConfig(), description="how volumes are synthesised")

    @model_validator(mode="after")
    def _check(self) -> Self:
        wanted, there = 3 if self.data.template else 2, self.method.generator.condition_channels
        if wanted != there:
            raise ValueError(
                f"data.template is {str(self.data.template).lower()}, but method.generator.condition_channels is "
                f"{there}; set it to {wanted}"
            )
        last = max((get_tracer(name) for name in self.data.tracers), key=lambda tracer: tracer.index)
        for network in ("generator", "discriminator"):
            slots = getattr(self.method, network).tracer_slots
            if last.index >= slots:
                raise ValueError(
                    f"data.tracers has {last.name}, for which the model has no room; set "
                    f"method.{network}.tracer_slots={last.index + 1} or more"
                )
        return self


def load_config(
    preset: str | None = None, file: Path | None = None, settings: Sequence[str] = ()
) -> RunConfig:
    """Compose a RunConfig: the preset, then the file over it, then ``key.key=value`` settings over both.

    A preset or a file may name another preset that it is ``based_on``. Raises InputError naming the preset, the
    file or the key that is wrong.
    """
    try:
        return RunConfig.model_validate(compose(preset, file, settings))
    except ValidationError as error:
        raise InputError(fault(error, RunConfig)) from error


def describe(config: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Every setting of a config as (dotted key, value, meaning)."""
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            yield from describe(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value, field.description or ""
