"""Cases: presets with single settings over them, and what all of them have in common in a comparison."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from relapet.config import RunConfig, load_config
from relapet.errors import InputError
from relapet.methods import METHODS
from relapet.setting_files import presets


@dataclass(frozen=True)
class Case:
    """A preset, or a YAML file of settings, with single settings over it."""

    preset: str
    settings: tuple[str, ...] = ()

    def load(self, settings: Sequence[str] = ()) -> RunConfig:
        """The case's settings over ``settings``, which are over the preset."""
        together = [*settings, *self.settings]
        if self.preset in presets():
            return load_config(self.preset, settings=together)
        return load_config(file=Path(self.preset), settings=together)


ALL_ON = "all_on"
"""`fast` with the relativistic adversarial term that it has off: what every switch is turned off from."""


def _all_on(*settings: str) -> Case:
    return Case("fast", ("method.adversarial_weight=0.01", *settings))


def _white(*settings: str) -> Case:
    """`fast` in white noise about the training mean, one tracer a call, with the L1 of the paper."""
    plain = (
        *("method.noise=white", "method.residual_sd=0.1", "method.tracers=one", "method.mean_share=0"),
        *("method.regional_weight=0", "method.image_weight=1", "data.prior=mean", "sample.sampler=ddim"),
    )
    return Case("fast", (*plain, *settings))


CASES = {
    # each method that has a preset of its name
    **{name: Case(name) for name in METHODS if name in presets()},
    "demo": Case("demo"),
    "fast": Case("fast"),
    "released": Case("released"),
    "paper": Case("paper"),
    # how much the start alone changes: a difference within the spread of these is not a finding
    "fast_seed1": Case("fast", ("train.seed=1",)),
    "fast_seed2": Case("fast", ("train.seed=2",)),
    # one part of `fast` turned off or changed
    "mean_prior": Case("fast", ("data.prior=mean",)),
    "white_noise": _white(),
    "one_tracer": Case("fast", ("method.tracers=one",)),
    "no_mean_share": Case("fast", ("method.mean_share=0",)),
    "no_regional": Case("fast", ("method.regional_weight=0",)),
    "image_l1": Case("fast", ("method.image_weight=1",)),
    "not_packed": Case("fast", ("method.generator.packed=false", "method.generator.channels=[16,32,64]")),
    "ddim": Case("fast", ("sample.sampler=ddim",)),
    "regression_linear_prior": Case("regression", ("data.prior=linear",)),
    # one part of `white_noise` turned off or changed
    "white_no_prior": _white("data.prior=none", "method.residual_sd=0"),
    "white_linear_prior": _white("data.prior=linear"),
    "no_preconditioning": _white("method.residual_sd=0"),
    "predict_eps": _white("method.prediction=eps", "method.residual_sd=0"),
    "predict_v": _white("method.prediction=v", "method.residual_sd=0"),
    "no_image_l1": _white("method.image_weight=0"),
    # one part of `all_on` turned off or changed
    ALL_ON: _all_on(),
    "all_on_seed1": _all_on("train.seed=1"),
    "all_on_seed2": _all_on("train.seed=2"),
    "standard_gan": _all_on("method.adversarial_loss=standard"),
    "standard_gan_no_penalty": _all_on("method.adversarial_loss=standard", "method.penalty_weight=0"),
    "penalty_tenth": _all_on("method.penalty_weight=1e-4"),
    "penalty_released": _all_on("method.penalty_reduction=released"),
    "no_t1w": _all_on("data.inputs=[FLAIR]"),
    "no_flair": _all_on("data.inputs=[T1w]"),
    "minmax": _all_on("data.pet_scaling=minmax"),
    "no_ema": _all_on("train.ema_decay=0"),
    "no_target": _all_on("method.target_weight=0"),
    "published_critic": _all_on("method.discriminator={kind: patch, channels: 4, layers: 2}"),
    "critic_told_t": _all_on("method.discriminator.timestep_conditioned=true"),
    "adversarial_10x": _all_on("method.adversarial_weight=0.1"),
    "attention": _all_on("method.generator.attention=lowest"),
    "two_blocks": _all_on("method.generator.residual_blocks=2"),
    "no_augment": _all_on("data.augment={flip_probability: 0, contrast: 0}"),
    "published_lr": _all_on("train.lr=5e-5", "train.lr_schedule=constant"),
    "full_precision": _all_on("train.precision=32-true"),
    "dropped_inputs": _all_on("data.augment.drop_t1w=0.15", "data.augment.drop_flair=0.15"),
}
"""Every switch is one setting (or the few that hang together), so a row says what that setting does."""


def cases_of(options: argparse.Namespace) -> dict[str, Case]:
    """The cases above and those of the call."""
    own = {name: Case(preset, tuple(settings)) for name, preset, *settings in options.case}
    return CASES | own


def settings_of(case: Case, options: argparse.Namespace, steps: int) -> RunConfig:
    """A case's settings for a training of ``steps``; an adversarial term starts after a fifth, as published."""
    plain = case.load()
    common = [
        f"train.steps={steps}",
        "train.seconds=null",
        f"train.validate_every={max(1, steps // 3)}",
        f"train.checkpoint_every={max(1, steps // 2)}",
        "train.log_every=10",
        f"train.validation_steps={options.sample_steps}",
        f"train.seed={options.seed}",
        # intervals of regional SUVr are not looked at here
        "train.calibrate=false",
        "data.validation_fraction=0.036",
        "data.test_fraction=0.3",
        f"sample.steps={options.sample_steps}",
        "sample.count=1",
    ]
    if plain.sample.sampler == "ddpm":
        common.append("sample.sampler=ddim")  # ancestral steps need hundreds of calls
    if hasattr(plain.method, "adversarial_start"):
        common.append(f"method.adversarial_start={steps // 5}")
    if plain.train.lr_warmup:
        common.append(f"train.lr_warmup={min(100, steps // 10)}")
    if plain.train.ema_decay:
        # a window of a tenth of the steps, whatever their number
        common.append(f"train.ema_decay={max(0.9, min(0.9995, 1 - 10 / steps)):.5f}")
    return case.load(common)


def chosen_cases(options: argparse.Namespace) -> list[str]:
    """The reference, then the wanted cases; raises InputError for one that there is not, or whose settings fail."""
    for words in options.case:
        if len(words) < 2:
            raise InputError(f"--case {' '.join(words)} is too short; give NAME PRESET_OR_FILE KEY=VALUE ...")
    cases = cases_of(options)
    wanted = cases if "all" in options.cases else options.cases
    names = list(dict.fromkeys([options.reference, *wanted]))
    for name in names:
        if name not in cases:
            raise InputError(f"There is no case {name!r}; there are: {', '.join(cases)}.")
        settings_of(cases[name], options, steps=10)
    return names
