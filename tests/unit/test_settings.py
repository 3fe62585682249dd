"""Settings are frozen, checked for every caller, and refused in one plain sentence."""

from __future__ import annotations

import pickle
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError

from relapet.errors import InputError
from relapet.imaging.grid import GRIDS
from relapet.preprocessing.pipeline import PreprocessConfig
from relapet.settings import Distinct, Settings, changed, fault
from relapet.simulation.as_scanned import AsScannedConfig, Position
from relapet.simulation.cohort import SimulationConfig


class One(Settings):
    name: Literal["one"] = "one"
    channels: tuple[int, ...] = (8, 8)


class Other(Settings):
    name: Literal["other"] = "other"
    weight: float = Field(1.0, gt=0)


class Loop(Settings):
    steps: int = Field(3, ge=1)
    seconds: float | None = None
    precision: Literal["32-true", "16-mixed"] = "32-true"
    tracers: Annotated[tuple[str, ...], Distinct] = ("pib",)


class Whole(Settings):
    method: Annotated[One | Other, Field(discriminator="name")] = One()
    train: Loop = Loop()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"train": {"stps": 3}}, "There is no setting train.stps; did you mean train.steps?"),
        ({"steps": 3}, "There is no setting `steps`; did you mean train.steps?"),
        ({"trian": {"steps": 3}}, "There is no setting `trian`; did you mean `train`?"),
        ({"method": {"name": "one", "weight": 1}}, "There is no setting method.weight; did you mean"),
        ({"train": {"steps": 0}}, "train.steps is 0; give 1 or more."),
        ({"train": {"steps": 2.5}}, "train.steps is 2.5; give a whole number."),
        ({"train": {"steps": 10**30}}, "train.steps: the number is too large; give a smaller one."),
        ({"train": {"seconds": float("inf")}}, "train.seconds is inf; give a finite number."),
        ({"train": {"seconds": "x"}}, "train.seconds is 'x'; give a number."),
        ({"train": {"precision": "8"}}, "train.precision is '8'; give one of '32-true' or '16-mixed'."),
        ({"train": {"tracers": "pib"}}, "train.tracers is 'pib'; give a list, such as [a, b]."),
        ({"train": {"tracers": ["tau", "tau"]}}, "train.tracers: tau is named twice; name each once."),
        ({"train": 3}, "`train` is 3; it is a group of settings, so give its parts as KEY.PART=VALUE."),
        ({"method": {"name": "none"}}, "method.name is 'none'; give one of 'one', 'other'."),
        ({"method": {}}, "The setting method.name is missing; give it."),
        ({"method": {"name": "other", "weight": 0}}, "method.weight is 0; give more than 0."),
        ({"method": {"name": "one", "channels": [1, "a"]}}, "method.channels is 'a'; give a whole number."),
    ],
)
def test_a_fault_is_one_plain_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        Whole(**values)
    assert str(refused.value).startswith(sentence)
    assert "\n" not in str(refused.value)
    with pytest.raises(ValidationError) as error:  # pydantic's own way in, as within other settings
        Whole.model_validate(values)
    assert fault(error.value, Whole) == str(refused.value)


def test_a_copy_is_checked_as_the_first_was() -> None:
    loop = Loop().changed(steps=5, precision="16-mixed")
    assert (loop.steps, loop.precision, loop.tracers) == (5, "16-mixed", ("pib",))
    with pytest.raises(InputError, match="`steps` is 0; give 1 or more"):
        loop.changed(steps=0)
    with pytest.raises(InputError, match="no setting `stps`; did you mean `steps`"):
        changed(loop, {"stps": 1})
    with pytest.raises(ValidationError):
        loop.steps = 4  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(loop)) == loop
    assert hash(loop) == hash(Loop(steps=5, precision="16-mixed"))


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        (SimulationConfig, {"subject": 3}, "did you mean `subjects`"),
        (SimulationConfig, {"subjects": 2.5}, "`subjects` is 2.5; give a whole number"),
        (SimulationConfig, {"missing_rate": float("nan")}, "`missing_rate` is nan"),
        (SimulationConfig, {"grid": "4mm"}, "`grid` is '4mm'"),
        (Position, {"head_degrees": float("inf")}, "`head_degrees` is inf; give a finite number"),
        (Position, {"head_mm": -1}, "`head_mm` is -1; give 0 or more"),
        (AsScannedConfig, {"simulation": SimulationConfig(), "frames": 0}, "`frames` is 0; give 1 or more"),
        (PreprocessConfig, {"fwhm_mm": -5, "scanner_fwhm_mm": -6}, "`fwhm_mm` is -5; give more than 0"),
        (PreprocessConfig, {"fwhm_mm": float("nan"), "scanner_fwhm_mm": 6}, "`fwhm_mm` is nan"),
        (PreprocessConfig, {"fwhm_mm": 8}, "`fwhm_mm` needs the scanner's own resolution too"),
        (PreprocessConfig, {"n_proc": 2}, "did you mean `n_procs`"),
    ],
)
def test_every_stage_refuses_what_it_cannot_use(kind: type, values: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as refused:
        kind(**values)
    assert words in str(refused.value)
    assert "--" not in str(refused.value)


def test_the_stages_settings_keep_their_values() -> None:
    config = AsScannedConfig(simulation=SimulationConfig(subjects=2, grid=GRIDS["4mm"]))
    assert config.simulation.grid is GRIDS["4mm"]
    assert config.position.head_degrees == 6.0
    assert PreprocessConfig(fwhm_mm=8, scanner_fwhm_mm=6).settings.fwhm_mm == 8.0
    for kind in (SimulationConfig, AsScannedConfig, Position, PreprocessConfig):
        assert [name for name, field in kind.model_fields.items() if not field.description] == []
