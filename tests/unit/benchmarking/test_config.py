from __future__ import annotations

from pathlib import Path

import pytest

from relapet.benchmarking.config import METHODS, BenchmarkConfig, compose_methods, for_steps, volumes_a_step
from relapet.config import load_config
from relapet.errors import InputError
from relapet.setting_files import presets


def test_all_methods_are_compared_by_default_on_one_split() -> None:
    found = compose_methods(BenchmarkConfig(budget_samples=10, test_fraction=0.3, split_seed=5))
    assert list(found) == list(METHODS)
    for config in found.values():
        assert (config.data.test_fraction, config.data.validation_fraction, config.data.split_seed) == (
            0.3,
            0.1,
            5,
        )
        assert config.sample.count == 8


@pytest.mark.parametrize("given", [{}, {"budget_seconds": 5.0, "budget_samples": 5}])
def test_one_budget_is_needed(given: dict[str, float]) -> None:
    with pytest.raises(InputError, match="budget_seconds"):
        BenchmarkConfig(**given)


def test_a_method_stands_beside_itself_with_a_prior() -> None:
    found = compose_methods(
        BenchmarkConfig(budget_samples=10, methods=("ddpm", "ddpm+linear", "regression+none"))
    )
    assert {name: config.data.prior for name, config in found.items()} == {
        "ddpm": "none",
        "ddpm+linear": "linear",
        "regression+none": "none",
    }


def test_a_file_is_a_method_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "no_l1.yaml"
    file.write_text("based_on: ficd\nmethod: {image_weight: 0}\n", encoding="utf-8")
    found = compose_methods(BenchmarkConfig(budget_samples=10, methods=(str(file), f"{file}+mean")))
    assert list(found) == ["no_l1", "no_l1+mean"]
    assert found["no_l1+mean"].data.prior == "mean"
    assert found["no_l1"].method.image_weight == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("methods", "settings", "words"),
    [
        (("nothing",), (), "Unknown preset"),
        (("linear+mean",), (), "data.prior is mean"),
        (("linear",), ("method.genrator.channels=[8]",), "No method has the setting"),
        (("linear", "ddpm"), ("train.stps=3",), "stps"),
    ],
)
def test_what_there_is_not_is_named(methods: tuple[str, ...], settings: tuple[str, ...], words: str) -> None:
    with pytest.raises(InputError, match=words):
        compose_methods(BenchmarkConfig(budget_samples=10, methods=methods, settings=settings))


def test_settings_of_a_method_are_for_those_that_have_them() -> None:
    told = BenchmarkConfig(
        budget_samples=10, methods=("linear", "ficd"), settings=("method.image_weight=3", "train.lr=0.5")
    )
    found = compose_methods(told)
    assert found["ficd"].method.image_weight == 3  # type: ignore[attr-defined]
    assert [config.train.lr for config in found.values()] == [0.5, 0.5]


def test_a_thousand_ancestral_steps_become_so_many_of_ddim() -> None:
    found = compose_methods(BenchmarkConfig(budget_samples=10, methods=("paper", "bridge"), sample_steps=15))
    assert (found["paper"].sample.sampler, found["paper"].sample.steps) == ("ddim", 15)
    assert (found["bridge"].sample.sampler, found["bridge"].sample.steps) == ("ddim", 15)


def test_a_shorter_training_keeps_the_presets_course() -> None:
    """The paper's adversarial term begins after 20 of 100 epochs."""
    config = for_steps(load_config("paper"), 500, seed=3)
    assert config.method.adversarial_start == 100  # type: ignore[attr-defined]
    assert config.method.timesteps == 1000  # type: ignore[attr-defined]
    assert (config.train.steps, config.train.seed, config.train.seconds) == (500, 3, None)
    fast = for_steps(load_config("fast"), 200).train
    assert fast.lr_warmup == 20
    assert fast.ema_decay == pytest.approx(1 - 10 / 200)
    assert for_steps(load_config("fast"), 100_000).train.ema_decay == 0.999
    assert for_steps(load_config("fast"), 1).train.ema_decay == 0


@pytest.mark.parametrize("name", presets())
def test_every_preset_can_be_shortened(name: str) -> None:
    assert for_steps(load_config(name), 7).train.steps == 7


def test_volumes_are_counted_by_tracer() -> None:
    config = load_config("ddpm", settings=("train.batch_size=2", "train.accumulate=3"))
    assert volumes_a_step(config, 1) == 6
    assert volumes_a_step(config, 3) == 18
