"""Every packaged preset loads, and the presets differ by the settings that they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from relapet.config import RunConfig, describe, load_config, presets
from relapet.errors import InputError
from relapet.run_contents import tracer_slots
from relapet.tracers import load_tracers


def differences(one: RunConfig, other: RunConfig) -> dict[str, tuple[object, object]]:
    left, right = ({key: value for key, value, _ in describe(config)} for config in (one, other))
    return {key: (left[key], right[key]) for key in left if left[key] != right[key]}


def test_there_are_the_presets_of_the_interface() -> None:
    assert {"demo", "paper", "released", "fast"} <= set(presets())


def test_the_release_is_the_paper_with_its_three_faults() -> None:
    assert differences(load_config("paper"), load_config("released")) == {
        "data.mri_scaling": ("robust", "minmax"),
        "data.pet_scaling": ("suvr_window", "minmax"),
        "method.penalty_reduction": ("full", "released"),
    }


SHAPED = ("method.noise", "method.mean_share", "method.regional_weight", "method.centred")
"""Settings that only make sense together: noise of the shape of what the prior leaves, and what goes with it."""
BASIS = (*SHAPED, "data.prior", "method.prediction")
"""Without a prior there is nothing left to shape noise by, and no residual to predict."""


def test_each_difference_of_fast_from_paper_is_a_setting_of_its_own() -> None:
    """One row of the ablation each: setting it back alone gives a valid configuration."""
    paper, fast = load_config("paper"), load_config("fast")
    changed = differences(paper, fast)
    assert set(changed) == {
        *(f"method.generator.{key}" for key in ("attention", "residual_blocks", "packed", "channels")),
        *(*BASIS, "method.start_at_mean", "method.image_weight", "method.tracers"),
        *(f"method.discriminator.{key}" for key in ("kind", "channels", "layers")),
        *("method.adversarial_weight", "method.adversarial_start"),
        *("method.discriminator_lr_ratio", "method.discriminator_betas"),
        *("data.augment.flip_probability", "train.lr", "train.lr_schedule", "train.lr_warmup"),
        *("train.precision", "train.ema_decay", "train.clip_norm", "train.calibrate"),
        *("sample.sampler", "sample.steps", "sample.count"),
    }
    alone = set(changed) - {"method.noise", "data.prior", "method.prediction", "method.tracers"}
    for group in [SHAPED, BASIS, ("method.tracers", "method.centred"), *((key,) for key in alone)]:
        values = (changed[key][0] for key in group)
        texts = (str(list(value)) if isinstance(value, tuple) else str(value) for value in values)
        back = load_config("fast", settings=[f"{key}={text}" for key, text in zip(group, texts, strict=True)])
        assert set(differences(fast, back)) == set(group)


def test_a_file_may_be_based_on_a_preset(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("based_on: released\ntrain: {lr: 1.0e-3}\n")
    assert differences(load_config("released"), load_config(file=file)) == {"train.lr": (5e-5, 1e-3)}
    file.write_text("based_on: nothing\n")
    with pytest.raises(InputError, match="Unknown preset 'nothing'"):
        load_config(file=file)


def test_a_method_that_needs_a_prior_says_which() -> None:
    with pytest.raises(InputError, match=r"the method linear needs linear; set data\.prior=linear"):
        load_config("linear", settings=("data.prior=mean",))


def test_a_tracer_goes_by_any_of_its_names_and_is_learnt_once() -> None:
    given = "data.tracers=[AV1451,PiB,FLORBETAPIR]"
    assert load_config("linear", settings=[given]).data.tracers == ("tau", "pib", "florbetapir")
    with pytest.raises(InputError, match=r"data\.tracers.*tau is named twice"):
        load_config("linear", settings=["data.tracers=[tau,flortaucipir]"])
    with pytest.raises(InputError, match="Unknown tracer 'nix'"):
        load_config("linear", settings=["data.tracers=[nix]"])


def test_every_tracer_can_be_learnt() -> None:
    """Room in the embedding follows from the tracers."""
    tracers = load_tracers()
    config = load_config("fast", settings=(f"data.tracers=[{','.join(tracers)}]",))
    assert len(config.data.tracers) == len(tracers)
    assert tracer_slots(list(tracers.values())) == 1 + max(tracer.index for tracer in tracers.values())
    assert tracer_slots([tracers["pbr28"]]) == 4
