"""Trains on two processes for every length of data given, one volume each, and saves the weights of the first.

Run by test_distributed.py; Fabric starts the second process by running this script again.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from relapet.config import load_config
from relapet.training.distributed import finalize, make_fabric
from relapet.training.engine import Hooks
from support import tiny_trainer


def main(out: Path, settings: list[str], lengths: list[int]) -> None:
    fabric = make_fabric(load_config("demo", settings=("train.devices=2", "train.precision=32-true")).train)
    fabric.launch()
    for length in lengths:
        trainer = tiny_trainer(*settings, length=length, fabric=fabric)
        trainer.run(Hooks())
        torch.save(trainer.state_dict(), out / f"length-{length}_rank-{fabric.global_rank}.pt")
    # A loss that is not finite in one process stops both.
    trainer = tiny_trainer(*settings, length=3, fabric=fabric)
    if fabric.global_rank == 1:
        torch.nn.init.constant_(trainer.method.networks["generator"].unet.conv_in.conv.bias, torch.nan)
    try:
        trainer.run(Hooks())
    except Exception as error:
        (out / f"error_rank-{fabric.global_rank}.txt").write_text(str(error))
    # A wish to stop in one process stops both.
    trainer = tiny_trainer(*settings, length=3, fabric=fabric)
    done = trainer.run(Hooks(stop=lambda: fabric.global_rank == 1 and trainer.step == 1))
    (out / f"stop_rank-{fabric.global_rank}.txt").write_text(f"{done} {trainer.step}")
    finalize(fabric)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2].split(), [int(length) for length in sys.argv[3:]])
