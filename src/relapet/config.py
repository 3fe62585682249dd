"""One run's settings: composed of the stages' own Config classes, from a preset, a file and single settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from importlib.resources import files
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from relapet.data.data_config import DataConfig
from relapet.errors import InputError
from relapet.methods import METHODS
from relapet.model.interface import MethodConfig
from relapet.synthesis.sample_config import SampleConfig
from relapet.training.train_config import TrainConfig

if TYPE_CHECKING:
    AnyMethodConfig = MethodConfig
else:  # one row in METHODS is all that a new method needs
    AnyMethodConfig = Annotated[
        reduce(or_, (method.Config for method in METHODS.values())), Field(discriminator="name")
    ]


class RunConfig(BaseModel):
    """All settings of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: AnyMethodConfig = Field(description="the method and its networks")
    data: DataConfig = Field(DataConfig(), description="volumes, split, augmentation")
    train: TrainConfig = Field(TrainConfig(), description="the training loop")
    sample: SampleConfig = Field(SampleConfig(), description="how volumes are synthesised")

    @model_validator(mode="after")
    def _check(self) -> Self:
        needed = self.method.needs_prior
        if needed is not None and self.data.prior != needed:
            raise ValueError(
                f"data.prior is {self.data.prior}, but the method {self.method.name} needs "
                f"{needed}; set data.prior={needed}"
            )
        return self


def presets() -> dict[str, Path]:
    """The packaged presets by name."""
    folder = Path(str(files("relapet"))) / "presets"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_config(
    preset: str | None = None, file: Path | None = None, settings: Sequence[str] = ()
) -> RunConfig:
    """Compose a RunConfig: the preset, then the file over it, then ``key.key=value`` settings over both.

    A preset or a file may name another preset that it is ``based_on``. Raises InputError naming the preset, the
    file or the key that is wrong.
    """
    content: dict[str, Any] = {}
    if preset is not None:
        content = _read_preset(preset)
    if file is not None:
        content = _merge(content, _with_base(_read_yaml(file)))
    for setting in settings:
        content = _merge(content, _parse_setting(setting))
    try:
        return RunConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(
            str(part) for part in first["loc"] if part not in METHODS
        )  # pydantic's tag of the union
        # A check over several settings names them itself.
        fault = f"Setting {key}: {first['msg']}" if key else first["msg"].removeprefix("Value error, ")
        raise InputError(f"{fault}; see relapet info presets for all settings.") from error


def describe(config: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Every setting of a config as (dotted key, value, meaning)."""
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            yield from describe(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value, field.description or ""


def _read_preset(name: str) -> dict[str, Any]:
    known = presets()
    if name not in known:
        raise InputError(f"Unknown preset {name!r}; there are: {', '.join(known)}.")
    return _with_base(_read_yaml(known[name]))


def _with_base(content: dict[str, Any]) -> dict[str, Any]:
    base = content.pop("based_on", None)
    return content if base is None else _merge(_read_preset(str(base)), content)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} is not a readable YAML file ({error}); correct it.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no settings; write them as key: value.")
    return content


def _parse_setting(setting: str) -> dict[str, Any]:
    key, equals, value = setting.partition("=")
    if not equals or not key:
        raise InputError(f"--set {setting!r} is not of the form key=value, for example train.steps=2000.")
    content: Any = yaml.safe_load(value)
    for part in reversed(key.split(".")):
        content = {part: content}
    return dict(content)


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged
