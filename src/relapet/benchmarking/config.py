"""What is compared: methods by their presets, for which seeds, and the budget that all of them get."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from relapet.config import RunConfig, load_config
from relapet.data.data_config import PriorName
from relapet.errors import InputError
from relapet.evaluation.config import EvaluationConfig
from relapet.evaluation.trees import CEILINGS
from relapet.methods import METHODS as KNOWN_METHODS
from relapet.settings import Distinct, Settings, shortened

METHODS = (
    *(
        "tracer_mean",
        "linear",
        "regression",
        "crps",
        "pix2pix",
        "cyclegan",
        "ddpm",
        "ficd",
        "ddgan",
        "rectified_flow",
    ),
    *("bridge", "latent", "fast"),
)
"""Compared where no others are named."""
_PRIORS = PriorName.__args__  # type: ignore[attr-defined]
_STEPS = ("_start", "_steps")
"""How a method's settings end that count training steps."""
_WARMUP, _WINDOW = 10, 10
"""Warm-up and moving average take at most the tenth part of a training."""


class BenchmarkConfig(Settings):
    """What is compared, and for what budget; one of both budgets must be given."""

    methods: Annotated[tuple[str, ...], Distinct] = Field(
        METHODS,
        min_length=1,
        description="presets or YAML files of settings; NAME+none, NAME+mean or NAME+linear is NAME with that prior",
    )
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Distinct] = Field(
        (0,), min_length=1, description="seeds of training; each is a training of every method"
    )
    budget_seconds: float | None = Field(
        None,
        gt=0,
        description="training time of each: processor seconds of one thread on a CPU, elapsed ones on a GPU",
    )
    budget_samples: int | None = Field(
        None, ge=1, description="training volumes that each sees; a visit with three tracers at once is three"
    )
    settings: tuple[str, ...] = Field(
        (), description="key=value settings over every method; one of method.* where the method has it"
    )
    sample_steps: int = Field(
        50, ge=1, description="steps of a sample at most; a preset of more takes so many of ddim"
    )
    samples: int = Field(8, ge=1, le=1000, description="samples a map, of methods that draw")
    validation_fraction: float = Field(0.1, ge=0, lt=1, description="share of subjects for validation")
    test_fraction: float = Field(
        0.2, gt=0, lt=1, description="share of subjects that no training sees, on whom all are judged"
    )
    split_seed: int = Field(0, ge=0, description="seed of the split by subject, which all share")
    bootstrap: int = Field(2000, ge=1, description="bootstrap samples of subjects for every interval")

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if (self.budget_seconds is None) == (self.budget_samples is None):
            raise ValueError("give one of `budget_seconds` and `budget_samples`")
        return self

    @property
    def budget(self) -> str:
        """The budget in words."""
        if self.budget_seconds is None:
            return f"{self.budget_samples} training volumes seen"
        return f"{self.budget_seconds:g} s of training"


def compose_methods(config: BenchmarkConfig) -> dict[str, RunConfig]:
    """The settings of each method by its name, before its number of steps is known.

    Raises InputError for a method or a setting that there is not, and for two of one name.
    """
    common = (
        f"data.validation_fraction={config.validation_fraction}",
        f"data.test_fraction={config.test_fraction}",
        f"data.split_seed={config.split_seed}",
    )
    found: dict[str, RunConfig] = {}
    used: set[str] = set()
    for word in config.methods:
        source, prior = _parts(word)
        file = Path(source) if source.endswith((".yaml", ".yml")) else None
        name = (source if file is None else file.stem) + ("" if prior is None else f"+{prior}")
        _check_name(name, found)
        preset = None if file is not None else source
        own = load_config(preset, file, () if prior is None else (f"data.prior={prior}",))
        known = [setting for setting in config.settings if _has(own, setting)]
        used.update(known)
        told = [*known, *(() if prior is None else (f"data.prior={prior}",)), *common]
        found[name] = _for_sampling(load_config(preset, file, told), config)
    unknown = [setting for setting in config.settings if setting not in used and not _is_of_a_method(setting)]
    if unknown:
        raise InputError(
            f"No method has the setting {shortened(unknown[0])}; see relapet info presets NAME for those there are."
        )
    return found


def _parts(word: str) -> tuple[str, str | None]:
    source, plus, prior = word.rpartition("+")
    return (source, prior) if plus and prior in _PRIORS else (word, None)


def _check_name(name: str, taken: Iterable[str]) -> None:
    if name in taken or name in CEILINGS:
        raise InputError(f"Two methods would be called {name}; give one of the files another name.")
    EvaluationConfig(names=(name,))


def _has(config: RunConfig, setting: str) -> bool:
    """Whether a setting is one that a method's run has."""
    parts = setting.partition("=")[0].split(".")
    return parts[0] != "method" or (len(parts) > 1 and parts[1] in type(config.method).model_fields)


def _is_of_a_method(setting: str) -> bool:
    """Whether any method has a setting, be it one that is not compared in this call."""
    fields = {name for method in KNOWN_METHODS.values() for name in method.Config.model_fields}
    part, _, key = setting.partition("=")[0].partition(".")
    return part == "method" and key.partition(".")[0] in fields


def _for_sampling(config: RunConfig, common: BenchmarkConfig) -> RunConfig:
    """With as many samples as all, in not too many steps."""
    sample = config.sample
    values: dict[str, Any] = {"count": common.samples}
    if sample.steps > common.sample_steps:
        # Ancestral steps need hundreds of calls.
        values |= {
            "steps": common.sample_steps,
            "sampler": "ddim" if sample.sampler == "ddpm" else sample.sampler,
        }
    return config.changed(sample=sample.changed(**values))


def for_steps(config: RunConfig, steps: int, seed: int = 0) -> RunConfig:
    """The settings for a training of so many steps: the preset's own course, shrunk to them.

    What a method's settings count in steps (``..._start``, ``..._steps``) keeps its share of the whole.
    """
    train, method = config.train, config.method
    share = steps / train.steps
    scaled: Mapping[str, Any] = {
        name: round(getattr(method, name) * share)
        for name in type(method).model_fields
        if name.endswith(_STEPS)
    }
    decay = min(train.ema_decay, max(0.0, 1 - _WINDOW / steps))
    shrunk = train.changed(
        steps=steps,
        seconds=None,
        seed=seed,
        lr_warmup=min(train.lr_warmup, steps // _WARMUP),
        ema_decay=decay,
        validate_every=max(1, steps // 4),
        checkpoint_every=max(1, steps // 4),
    )
    return config.changed(method=method.changed(**scaled), train=shrunk)


def volumes_a_step(config: RunConfig, tracers: int) -> int:
    """Training volumes that a step sees; ``tracers`` in an item: 1, or all of the run's."""
    train = config.train
    return train.batch_size * train.accumulate * train.devices * train.nodes * tracers
