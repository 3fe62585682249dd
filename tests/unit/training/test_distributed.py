"""Two processes with one volume each are one process with two; so is one process that accumulates."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from relapet.config import load_config
from relapet.errors import InputError
from relapet.training.distributed import is_first_process, make_fabric
from relapet.training.engine import Hooks, Trainer
from relapet.training.player import Player
from support import tiny_trainer

LENGTHS = (1, 3, 5)
"""Fewer volumes than processes, more, and no multiple of their number: no process may run dry."""
SETTINGS = (
    *("train.steps=5", "train.lr=1e-4", "train.lr_warmup=0", "method.penalty_weight=0.1"),
    # With one channel a group a bias before the norm has no gradient but rounding, which Adam makes a full step of.
    "method.generator.norm_groups=2",
)


def trained(*settings: str, length: int = 5) -> Trainer:
    trainer = tiny_trainer(*SETTINGS, *settings, length=length)
    trainer.run(Hooks())
    return trainer


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("two")
    script = Path(__file__).with_name("two_processes.py")
    environment = {key: value for key, value in os.environ.items() if key not in ("LOCAL_RANK", "WORLD_SIZE")}
    command = [sys.executable, str(script), str(out), " ".join(SETTINGS), *map(str, LENGTHS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("length", LENGTHS)
def test_two_processes_are_one_with_a_batch_of_two(two_processes: Path, length: int) -> None:
    """Weights and averages of both players after five steps, penalties included, to 1e-5."""
    expected = trained("train.batch_size=2", length=length).state_dict()
    begun = tiny_trainer(*SETTINGS).state_dict()
    for rank in (0, 1):
        state = torch.load(two_processes / f"length-{length}_rank-{rank}.pt", weights_only=True)
        torch.testing.assert_close(state["networks"], dict(expected["networks"]), rtol=0, atol=1e-5)
        averages = state["averages"]["generator"], expected["averages"]["generator"]
        torch.testing.assert_close(*averages, rtol=0, atol=1e-5)
        for name in ("generator.unet.conv_in.conv.weight", "discriminator.body.score.weight"):
            assert (state["networks"][name] - begun["networks"][name]).abs().max() > 1e-4  # far above 1e-5


def test_both_processes_hold_the_same_bits(two_processes: Path) -> None:
    states = [torch.load(two_processes / f"length-5_rank-{rank}.pt", weights_only=True) for rank in (0, 1)]
    for name, tensor in states[0]["networks"].items():
        assert torch.equal(tensor, states[1]["networks"][name]), name


def test_a_loss_that_is_not_finite_in_one_process_stops_both(two_processes: Path) -> None:
    said = [(two_processes / f"error_rank-{rank}.txt").read_text() for rank in (0, 1)]
    assert said[0] == said[1]
    assert "not finite at step 0" in said[0]
    assert said[0].count("sub-0") == 2  # the volumes of both processes


def test_a_wish_to_stop_in_one_process_stops_both(two_processes: Path) -> None:
    assert {(two_processes / f"stop_rank-{rank}.txt").read_text() for rank in (0, 1)} == {"False 1"}


def gradients(*settings: str) -> list[torch.Tensor]:
    """Every gradient of both players over three steps, each taken after the steps before it."""
    trainer = tiny_trainer(*SETTINGS, "train.steps=3", *settings)
    found: list[torch.Tensor] = []

    def recorded(player: Player) -> Callable[[], None]:
        update = player._update

        def record() -> None:
            found.extend(parameter.grad.clone() for parameter in player.parameters)
            update()

        return record

    for player in trainer.players:
        player._update = recorded(player)
    trainer.run(Hooks())
    return found


def test_accumulated_gradients_are_those_of_the_larger_batch() -> None:
    whole = gradients("train.batch_size=4")
    for settings in (("train.batch_size=2", "train.accumulate=2"), ("train.accumulate=4",)):
        torch.testing.assert_close(gradients(*settings), whole, rtol=0, atol=1e-6)
    assert max(gradient.abs().max() for gradient in whole) > 1e-2


def test_accumulated_losses_are_the_mean() -> None:
    logged = []
    for settings in (("train.batch_size=2",), ("train.accumulate=2",)):
        seen: list[dict[str, float]] = []
        trainer = tiny_trainer(*SETTINGS, "train.steps=1", *settings)
        trainer.run(Hooks(on_step=lambda progress, seen=seen: seen.append(progress.losses)))
        logged.append(seen[0])
    assert logged[0] == pytest.approx(logged[1], rel=1e-5)


def test_a_detached_phase_runs_without_a_graph_where_gradients_are_accumulated() -> None:
    trainer = tiny_trainer("train.accumulate=2")
    with trainer.loader as loader:
        batches = loader.take(0)
    for player in trainer.players:
        for shared in trainer._runs(batches, player.phase):
            assert shared.x0_hat.requires_grad is not player.phase.detached


def test_what_the_machine_has_not_is_refused() -> None:
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="16-mixed needs a GPU"):
            make_fabric(load_config("demo", settings=("train.precision=16-mixed",)).train)
    else:
        with pytest.raises(InputError, match="this machine has"):
            make_fabric(load_config("demo", settings=("train.devices=1000",)).train)


@pytest.mark.parametrize(
    ("environment", "first"), [({}, True), ({"LOCAL_RANK": "1"}, False), ({"RANK": "0"}, True)]
)
def test_only_the_first_process_speaks(
    environment: dict[str, str], first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() is first
