"""The loop: the same seed gives the same bits, a resumed run equals an uninterrupted one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from relapet.config import RunConfig, load_config
from relapet.errors import InputError
from relapet.messages import Silent
from relapet.runs import RunFolder
from relapet.training.checkpoint import checkpoints, load_latest_checkpoint, save_checkpoint
from relapet.training.ema import Ema
from relapet.training.engine import TrainingError
from relapet.training.log import Log
from relapet.training.train import TrainOptions, train_run
from support import TINY_SETTINGS


def settings(*more: str) -> RunConfig:
    return load_config("demo", settings=(*TINY_SETTINGS, *more))


def weights(run: RunFolder) -> dict[str, torch.Tensor]:
    return run.read_weights()


def assert_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_twenty_steps_twice_are_bitwise_equal(toy_source: Path, tmp_path: Path) -> None:
    config = settings("train.steps=20")
    runs = [train_run(config, toy_source, tmp_path / name, TrainOptions()) for name in ("one", "two")]
    assert_same(weights(runs[0]), weights(runs[1]))
    other = train_run(
        settings("train.steps=20", "train.seed=1"), toy_source, tmp_path / "other", TrainOptions()
    )
    assert any(not torch.equal(a, weights(other)[name]) for name, a in weights(runs[0]).items())


class _Killed(Exception):
    pass


class _KillAtStep(Silent):
    """Breaks the run off after a number of steps, as a kill would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def track(self, description: str, total: float) -> Any:
        from contextlib import nullcontext

        def advance(done: float, note: str) -> None:
            if note.startswith(f"step {self.step},"):
                raise _Killed

        return nullcontext(advance)


def test_a_resumed_run_equals_an_uninterrupted_one(toy_source: Path, tmp_path: Path) -> None:
    config = settings("train.steps=12", "train.checkpoint_every=5")
    whole = train_run(config, toy_source, tmp_path / "whole", TrainOptions())
    with pytest.raises(_Killed):
        train_run(config, toy_source, tmp_path / "broken", TrainOptions(messages=_KillAtStep(8)))
    resumed = train_run(config, toy_source, tmp_path / "broken", TrainOptions(resume=True))
    assert_same(weights(whole), weights(resumed))
    states = [load_latest_checkpoint(run.checkpoints, pytest.fail) for run in (whole, resumed)]
    assert_same(states[0]["networks"], states[1]["networks"])
    steps = [[line.split("\t")[:2] for line in run.log.read_text().splitlines()] for run in (whole, resumed)]
    assert steps[0] == steps[1]


def test_a_truncated_checkpoint_falls_back_to_the_one_before(toy_source: Path, tmp_path: Path) -> None:
    config = settings("train.steps=6", "train.checkpoint_every=3")
    run = train_run(config, toy_source, tmp_path, TrainOptions())
    newest = checkpoints(run.checkpoints)[0]
    newest.write_bytes(newest.read_bytes()[:500])
    said: list[str] = []
    state = load_latest_checkpoint(run.checkpoints, said.append)
    assert state["step"] == 3
    assert str(newest) in said[0]


def test_a_run_is_not_overwritten(toy_source: Path, tmp_path: Path) -> None:
    config = settings("train.steps=1")
    train_run(config, toy_source, tmp_path, TrainOptions())
    with pytest.raises(InputError, match="--resume"):
        train_run(config, toy_source, tmp_path, TrainOptions())


def test_the_run_folder_says_what_it_was_made_from(toy_source: Path, tmp_path: Path) -> None:
    run = train_run(settings("train.steps=1"), toy_source, tmp_path, TrainOptions())
    manifest = run.read_manifest()
    assert manifest.grid == "4mm"
    assert manifest.tracers["tau"].index == 2
    assert {part: len(names) for part, names in manifest.split.items()} == {
        "train": 5,
        "validation": 1,
        "test": 2,
    }
    held_out = manifest.split["test"]
    assert manifest.checksums
    assert not [path for path in manifest.checksums if path.split("/")[0].removeprefix("sub-") in held_out]
    assert run.read_settings() == settings("train.steps=1").model_dump(mode="json")


def test_validation_sees_the_average_weights_and_leaves_training_alone(
    toy_source: Path, tmp_path: Path
) -> None:
    seen: list[int] = []

    def validate(method: Any, pairs: Sequence[Any], device: torch.device) -> dict[str, float]:
        seen.append(len(pairs))
        method.networks["generator"](
            torch.zeros(1, 1, 40, 48, 40),
            torch.tensor([0]),
            torch.from_numpy(pairs[0].condition)[None],
            torch.tensor([0]),
        )
        return {"mae/tau": 0.5}

    config = settings("train.steps=4", "train.validate_every=2")
    with_validation = train_run(config, toy_source, tmp_path / "one", TrainOptions(validate=validate))
    without = train_run(config, toy_source, tmp_path / "two", TrainOptions())
    assert seen == [3, 3]
    assert_same(weights(with_validation), weights(without))
    assert "2\tmae/tau\t0.5" in with_validation.log.read_text()


def test_a_loss_that_is_not_finite_names_step_and_volumes(toy_source: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"not finite at step \d+ .*sub-\d+ "):
        train_run(
            settings("train.steps=50", "train.lr=1e30", "train.clip_norm=0"),
            toy_source,
            tmp_path,
            TrainOptions(),
        )


def test_training_stops_when_its_seconds_are_used(toy_source: Path, tmp_path: Path) -> None:
    run = train_run(settings("train.steps=100000", "train.seconds=2"), toy_source, tmp_path, TrainOptions())
    assert 1 <= load_latest_checkpoint(run.checkpoints, pytest.fail)["step"] < 1000


def test_a_checkpoint_of_another_format_is_refused(tmp_path: Path) -> None:
    torch.save({"format": 99, "step": 1}, tmp_path / "step-000000001.pt")
    with pytest.raises(InputError, match="format 99"):
        load_latest_checkpoint(tmp_path, pytest.fail)


def test_only_the_last_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in range(1, 6):
        save_checkpoint(tmp_path, step, {}, keep=2)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000000005.pt", "step-000000004.pt"]


def test_the_moving_average_by_hand() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(network.weight, 1.0)
    ema = Ema(network, decay=0.5)
    torch.nn.init.constant_(network.weight, 3.0)
    ema.update(network, n=0)  # d = min(0.5, 1/10)
    assert ema.weights["weight"].item() == pytest.approx(0.1 * 1 + 0.9 * 3)
    ema.update(network, n=1000)  # d = 0.5
    assert ema.weights["weight"].item() == pytest.approx(0.5 * 2.8 + 0.5 * 3)
    with ema.applied_to(network):
        assert network.weight.item() == pytest.approx(2.9)
    assert network.weight.item() == 3.0


def test_the_log_is_cut_after_the_step_that_training_goes_on_from(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.tsv")
    for step in (1, 2, 3):
        log.write(step, {"loss": 1.0 / step})
    log.path.write_text(log.path.read_text() + "4\tlos")  # broken off while writing
    log.cut_after(2)
    assert log.path.read_text() == "step\tname\tvalue\n1\tloss\t1\n2\tloss\t0.5\n"


def test_the_training_mean_survives_the_file(tmp_path: Path) -> None:
    volume = np.asfortranarray(np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    run = RunFolder(tmp_path)
    run.write_training_mean({"tau": volume})
    np.testing.assert_array_equal(run.read_training_mean()["tau"], volume)
