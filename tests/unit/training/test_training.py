"""The loop: the same seed gives the same bits, a resumed run equals an uninterrupted one."""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from relapet import api
from relapet.config import RunConfig, load_config
from relapet.errors import InputError, Stopped
from relapet.messages import Silent
from relapet.methods import METHODS
from relapet.methods.rela import Rela
from relapet.runs import RunFolder
from relapet.training.checkpoint import checkpoints, load_latest_checkpoint, save_checkpoint
from relapet.training.ema import Ema
from relapet.training.errors import TrainingError
from relapet.training.log import Log
from relapet.training.signals import stop_requests
from relapet.training.train import TrainOptions, ValidationRound, train_run
from support import TINY, TINY_SETTINGS, condition_of, tiny_trainer


def settings(*more: str) -> RunConfig:
    return load_config(file=TINY, settings=(*TINY_SETTINGS, *more))


def weights(run: RunFolder) -> dict[str, torch.Tensor]:
    return run.read_weights("generator")


def assert_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_six_steps_twice_are_bitwise_equal(toy_source: Path, tmp_path: Path) -> None:
    config = settings("train.steps=6")
    runs = [train_run(config, toy_source, tmp_path / name, TrainOptions()) for name in ("one", "two")]
    assert_same(weights(runs[0]), weights(runs[1]))
    other = train_run(
        settings("train.steps=6", "train.seed=1"), toy_source, tmp_path / "other", TrainOptions()
    )
    assert any(not torch.equal(a, weights(other)[name]) for name, a in weights(runs[0]).items())


class _Killed(Exception):
    pass


class _AtStep(Silent):
    """Does something after a number of steps."""

    def __init__(self, step: int) -> None:
        self.step = step

    def reached(self) -> None:
        raise NotImplementedError

    def track(self, description: str, total: float) -> Any:
        def advance(done: float, note: str) -> None:
            if note.startswith(f"step {self.step},"):
                self.reached()

        return nullcontext(advance)


class _KillAtStep(_AtStep):
    """Breaks the run off, as a kill would."""

    def reached(self) -> None:
        raise _Killed


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
    assert manifest.grid == "8mm"
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
    seen: list[tuple[int, int]] = []

    def validate(current: ValidationRound) -> dict[str, float]:
        seen.append((current.step, len(current.items)))
        assert not current.method.networks.training
        volume, mri = torch.zeros(1, 1, 24, 24, 24), torch.zeros(1, 2, 24, 24, 24)
        condition = condition_of(mri, [0], volume)
        current.method.networks["generator"](volume, torch.tensor([0]), condition)
        return {"mae/tau": 0.5}

    config = settings("train.steps=4", "train.validate_every=2")
    with_validation = train_run(config, toy_source, tmp_path / "one", TrainOptions(validate=validate))
    without = train_run(config, toy_source, tmp_path / "two", TrainOptions())
    assert seen == [(2, 3), (4, 3)]
    assert_same(weights(with_validation), weights(without))
    assert "2\tmae/tau\t0.5" in with_validation.log.read_text()


def test_a_loss_that_is_not_finite_names_step_volumes_and_the_last_good_checkpoint(
    toy_source: Path, tmp_path: Path
) -> None:
    broken = settings("train.steps=50", "train.lr=1e30", "train.clip_norm=0")
    with pytest.raises(TrainingError, match=r"not finite at step \d+ .*sub-\d+ .*train anew\.$"):
        train_run(broken, toy_source, tmp_path / "one", TrainOptions())
    run = tmp_path / "two"
    train_run(settings("train.steps=2"), toy_source, run, TrainOptions())
    # A run goes on with its own settings alone: these are broken behind its back.
    RunFolder(run).write_config(broken.model_dump(mode="json"))
    with pytest.raises(TrainingError, match=r"resume from .*step-000000002\.pt with --resume\.$"):
        train_run(broken, toy_source, run, TrainOptions(resume=True))
    assert [path.name for path in checkpoints(RunFolder(run).checkpoints)] == ["step-000000002.pt"]
    RunFolder(run).write_config(settings("train.steps=2").model_dump(mode="json"))
    train_run(settings("train.steps=3"), toy_source, run, TrainOptions(resume=True))


def test_running_out_of_memory_names_the_settings_that_help(
    toy_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (torch.OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: can't allocate memory")):

        def exhausted(*arguments: Any, error: RuntimeError = error) -> None:
            raise error

        monkeypatch.setattr(Rela, "forward", exhausted)
        with pytest.raises(TrainingError, match=r"Out of memory at step 0; .*batch_size.*checkpointing"):
            train_run(settings("train.steps=1"), toy_source, tmp_path / type(error).__name__, TrainOptions())


def test_other_runtime_errors_are_not_taken_for_memory(
    toy_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*arguments: Any) -> None:
        raise RuntimeError("sizes differ")

    monkeypatch.setattr(Rela, "forward", wrong)
    with pytest.raises(RuntimeError, match="sizes differ"):
        train_run(settings("train.steps=1"), toy_source, tmp_path, TrainOptions())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_with_a_clean_checkpoint(
    number: signal.Signals, toy_source: Path, tmp_path: Path
) -> None:
    config = settings("train.steps=5")
    whole = train_run(config, toy_source, tmp_path / "whole", TrainOptions())

    class Signal(_AtStep):
        def reached(self) -> None:
            os.kill(os.getpid(), number)

    handler = signal.getsignal(number)
    with pytest.raises(Stopped, match=f"{number.name} after step 2 and is saved; add --resume") as stopped:
        train_run(config, toy_source, tmp_path / "stopped", TrainOptions(messages=Signal(1)))
    assert stopped.value.signal_number == number
    assert signal.getsignal(number) is handler
    assert load_latest_checkpoint(tmp_path / "stopped" / "checkpoint", pytest.fail)["step"] == 2
    resumed = train_run(config, toy_source, tmp_path / "stopped", TrainOptions(resume=True))
    assert_same(weights(whole), weights(resumed))


def test_outside_the_main_thread_training_takes_no_signals() -> None:
    found: list[Any] = []

    def work() -> None:
        with stop_requests(pytest.fail) as request:
            found.append(request.received)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [None]


def test_a_step_that_takes_long_is_not_waited_for_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relapet.training.signals.ANSWER_SECONDS", 0.1)
    said: list[str] = []
    for wait, told in ((0.0, 0), (1.0, 1)):
        with stop_requests(said.append) as request:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(wait)
            assert request.received == signal.SIGINT
        time.sleep(0.3)
        assert len(said) == told
    assert "stops after this step" in said[0]


def test_a_run_killed_before_its_first_checkpoint_starts_from_the_beginning(
    toy_source: Path, tmp_path: Path
) -> None:
    config = settings("train.steps=3")
    whole = train_run(config, toy_source, tmp_path / "whole", TrainOptions())
    with pytest.raises(_Killed):
        train_run(config, toy_source, tmp_path / "killed", TrainOptions(messages=_KillAtStep(2)))
    (tmp_path / "killed" / "checkpoint").mkdir()
    (tmp_path / "killed" / "checkpoint" / ".tmp-0000-step-000000003.pt").write_bytes(b"half")
    resumed = train_run(config, toy_source, tmp_path / "killed", TrainOptions(resume=True))
    assert_same(weights(whole), weights(resumed))
    assert (
        whole.log.read_text().count("generator/total")
        == resumed.log.read_text().count("generator/total")
        == 3
    )
    assert not list((tmp_path / "killed").rglob(".tmp-*"))


def test_a_run_goes_on_only_with_its_own_subjects_and_networks(toy: Path, tmp_path: Path) -> None:
    train_run(settings("train.steps=1"), toy, tmp_path / "run", TrainOptions())
    with pytest.raises(InputError, match=r"method\.generator\.channels is \[8, 8\] in .*config\.yaml"):
        train_run(
            settings("train.steps=2", "method.generator.channels=[8,16]"),
            toy,
            tmp_path / "run",
            TrainOptions(resume=True),
        )
    shutil.rmtree(toy / "sub-03")
    with pytest.raises(InputError, match="other subjects or another split"):
        train_run(settings("train.steps=2"), toy, tmp_path / "run", TrainOptions(resume=True))


def test_validation_draws_each_tracer_and_uses_few_steps(toy_source: Path, tmp_path: Path) -> None:
    config = settings(
        *("train.steps=1", "train.validate_every=1", "train.validation_steps=2", "sample.steps=7"),
        "train.calibrate=false",
    )
    calls = 0

    class Counting(Rela):
        def sample(self, *arguments: Any) -> torch.Tensor:
            def counted(done: int, of: int) -> None:
                nonlocal calls
                calls += 1

            return super().sample(*arguments[:3], counted)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "rela", Counting)
        run = api.train(config, toy_source, tmp_path)
    assert calls == 3 * 2  # three pairs, two steps each
    names = sorted(path.name for path in run.figures.glob("*.png"))
    assert names == [f"tracer-{name}_step-000000001.png" for name in ("pbr28", "pib", "tau")]
    assert "mae/tau" in run.log.read_text()


def test_progress_tells_pace_and_memory(toy_source: Path, tmp_path: Path) -> None:
    notes: list[str] = []

    class Listening(_AtStep):
        def track(self, description: str, total: float) -> Any:
            return nullcontext(lambda done, note: notes.append(note))

    train_run(settings("train.steps=1"), toy_source, tmp_path, TrainOptions(messages=Listening(0)))
    assert re.fullmatch(r"step 1, loss \d+\.\d{4}, \d+\.\d\d volumes/s, \d+\.\d GiB", notes[-1])


def test_the_learning_rate_follows_the_clock_only_where_it_leads() -> None:
    trainer = tiny_trainer(
        "train.steps=100", "train.seconds=100", "train.lr_warmup=0", "train.lr_schedule=cosine"
    )
    factors = []
    for trainer.step, trainer.clock in ((50, 0.0), (50, 54.9), (50, 80.0), (50, 100.0)):
        factors.append(trainer._lr_factor())
    expected = [0.5 * (1 + math.cos(math.pi * fraction)) for fraction in (0.5, 0.5, 0.75, 0.95)]
    assert factors == pytest.approx(expected, abs=1e-7)
    assert factors[0] == factors[1]


def test_training_stops_when_its_seconds_are_used(toy_source: Path, tmp_path: Path) -> None:
    run = train_run(settings("train.steps=100000", "train.seconds=2"), toy_source, tmp_path, TrainOptions())
    assert 1 <= load_latest_checkpoint(run.checkpoints, pytest.fail)["step"] < 1000


def test_a_checkpoint_of_another_format_is_refused(tmp_path: Path) -> None:
    torch.save({"format": 99, "step": 1}, tmp_path / "step-000000001.pt")
    with pytest.raises(InputError, match="format 99"):
        load_latest_checkpoint(tmp_path, pytest.fail)


def test_a_checkpoint_that_is_not_finite_falls_back_to_the_one_before(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, {"x": torch.zeros(2)}, keep=2)
    save_checkpoint(tmp_path, 2, {"x": [{"y": torch.tensor([1.0, torch.nan])}]}, keep=2)
    said: list[str] = []
    assert load_latest_checkpoint(tmp_path, said.append)["step"] == 1
    assert "step-000000002.pt" in said[0]


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


def test_tensorboard_gets_the_rows_of_the_log(toy_source: Path, tmp_path: Path) -> None:
    config = settings("train.steps=2", "train.tensorboard=true")
    run = train_run(config, toy_source, tmp_path / "run", TrainOptions())
    (events,) = (run.path / "tensorboard").glob("events.out.tfevents.*")
    content = events.read_bytes()
    names = {line.split("\t")[1] for line in run.log.read_text().splitlines()[1:]}
    assert "generator/total" in names
    assert all(name.encode() in content for name in names)


def test_tensorboard_without_its_package_is_one_sentence(
    toy_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_fabric.loggers.tensorboard._TENSORBOARD_AVAILABLE", False)
    monkeypatch.setattr("lightning_fabric.loggers.tensorboard._TENSORBOARDX_AVAILABLE", False)
    with pytest.raises(InputError, match=r"install relapet\[tensorboard\]"):
        train_run(settings("train.tensorboard=true"), toy_source, tmp_path / "run", TrainOptions())
