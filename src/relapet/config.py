"""One run's settings: composed of the stages' own Config classes, from a preset, a file and single settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from relapet.data.data_config import DataConfig
from relapet.errors import InputError
from relapet.methods import METHODS
from relapet.model.interface import MethodConfig
from relapet.runs import RunFolder
from relapet.setting_files import compose, presets, with_single
from relapet.settings import Settings, fault
from relapet.synthesis.sample_config import SampleConfig
from relapet.training.train_config import TrainConfig

if TYPE_CHECKING:
    AnyMethodConfig = MethodConfig
else:  # one row in METHODS is all that a new method needs
    AnyMethodConfig = Annotated[
        reduce(or_, (method.Config for method in METHODS.values())), Field(discriminator="name")
    ]

__all__ = ["RunConfig", "describe", "load_config", "load_resumed", "presets", "settings_yaml"]


class RunConfig(Settings):
    """All settings of a run."""

    method: AnyMethodConfig = Field(description="the method and its networks")
    data: DataConfig = Field(DataConfig(), description="volumes, split, augmentation")
    train: TrainConfig = Field(TrainConfig(), description="the training loop")
    sample: SampleConfig = Field(SampleConfig(), description="how volumes are synthesised")

    @model_validator(mode="after")
    def _check(self) -> Self:
        priors = self.method.priors
        if self.data.prior not in priors:
            raise ValueError(
                f"data.prior is {self.data.prior}, but the method {self.method.name} needs "
                f"{' or '.join(priors)}; set data.prior={priors[-1]}"
            )
        most = self.method.most_sample_steps
        if most is not None and self.sample.steps > most:
            raise ValueError(f"sample.steps is {self.sample.steps}; the method takes {most} steps at most")
        least = self.method.least_steps
        if self.train.steps < least:
            raise ValueError(
                f"train.steps is {self.train.steps}, in which the method {self.method.name} does not get to its last "
                f"phase; set {least} or more, or let the phases before take fewer"
            )
        return self


def load_config(
    preset: str | None = None, file: Path | None = None, settings: Sequence[str] = ()
) -> RunConfig:
    """Compose a RunConfig: the preset, then the file over it, then ``key.key=value`` settings over both.

    A preset or a file may name another preset that it is ``based_on``. Raises InputError naming the preset, the
    file or the key that is wrong.
    """
    return _checked(compose(preset, file, settings))


def load_resumed(run: RunFolder, settings: Sequence[str] = ()) -> RunConfig:
    """The settings that a run goes on with: its own, ``key.key=value`` settings over them.

    Raises InputError for a folder without settings, and where any is wrong.
    """
    return _checked(with_single(run.read_settings(), settings))


def _checked(content: Mapping[str, Any]) -> RunConfig:
    try:
        return RunConfig.model_validate(content)
    except ValidationError as error:
        raise InputError(fault(error, RunConfig)) from error


def settings_yaml(config: BaseModel, indent: str = "") -> str:
    """Every setting as YAML with its meaning behind it; `load_config` of that file gives the same settings."""
    lines = []
    for name, field in type(config).model_fields.items():
        value, meaning = getattr(config, name), field.description or ""
        if isinstance(value, BaseModel):
            lines += [f"{indent}{name}:  # {meaning}", settings_yaml(value, indent + "  ")]
        else:
            plain = config.model_dump(mode="json", include={name})[name]
            text = yaml.safe_dump(plain, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
            lines.append(f"{indent}{name}: {text}  # {meaning}")
    return "\n".join(lines)


def describe(config: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Every setting of a config as (dotted key, value, meaning)."""
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            yield from describe(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value, field.description or ""
