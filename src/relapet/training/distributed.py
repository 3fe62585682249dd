"""The processes of a training: one a device, on Lightning Fabric.

The processes are Fabric's (``train.devices``), torchrun's or SLURM's. Networks are not wrapped: gradients are
averaged explicitly, because the penalties differentiate twice and the players share one forward pass.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor

from relapet.errors import InputError
from relapet.hardware import has_fast_bfloat16
from relapet.training.train_config import TrainConfig

_RANK_VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID")


def is_first_process() -> bool:
    """Whether this process is the one that speaks; known before the processes have found each other."""
    return int(next((os.environ[name] for name in _RANK_VARIABLES if name in os.environ), "0")) == 0


def make_fabric(config: TrainConfig) -> Fabric:
    """Devices, processes and precision; raises InputError for what this machine has not."""
    cuda = torch.cuda.is_available()
    if cuda and config.devices > torch.cuda.device_count():
        raise InputError(
            f"train.devices is {config.devices} but this machine has {torch.cuda.device_count()} GPUs; lower it."
        )
    if not cuda and config.devices > (os.cpu_count() or 1):
        raise InputError(
            f"train.devices is {config.devices} but this machine has {os.cpu_count()} processor cores; lower it."
        )
    if config.precision == "16-mixed" and not cuda:
        raise InputError("train.precision=16-mixed needs a GPU; use bf16-mixed or 32-true.")
    return Fabric(
        accelerator="cuda" if cuda else "cpu",
        devices=config.devices,
        num_nodes=config.nodes,
        strategy="ddp" if config.devices * config.nodes > 1 else "auto",
        precision=resolved_precision(config.precision),
    )


def resolved_precision(asked: str) -> str:
    """The arithmetic that ``auto`` stands for on this machine; any other as it is."""
    if asked != "auto":
        return asked
    return "bf16-mixed" if has_fast_bfloat16() else "32-true"


def average_over_processes(fabric: Fabric, tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its mean over the processes, in place, with one message for all."""
    if fabric.world_size == 1:
        return
    flat = fabric.all_reduce(torch.cat([tensor.flatten() for tensor in tensors]), reduce_op="mean")
    for tensor, piece in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(piece.view_as(tensor))


@dataclass(frozen=True)
class Exchange:
    """What the processes tell each other after a step, in one message."""

    values: dict[str, float]
    """Mean over the processes."""
    stop: bool
    """Whether any process was asked to stop."""
    seconds: float
    """The slowest process's clock."""


def exchange(fabric: Fabric, values: Mapping[str, Tensor], stop: bool, seconds: float) -> Exchange:
    """Tell the other processes and hear them; one message and one wait for the device."""
    own = torch.tensor([float(stop), seconds], dtype=torch.float64, device=fabric.device)
    vector = torch.cat([own, *(value.detach().double().reshape(1) for value in values.values())])
    everyone = fabric.all_gather(vector).reshape(fabric.world_size, -1).cpu()
    means = everyone[:, 2:].mean(dim=0).tolist()
    return Exchange(
        values=dict(zip(values, means, strict=True)),
        stop=bool(everyone[:, 0].any()),
        seconds=float(everyone[:, 1].max()),
    )


def finalize(fabric: Fabric) -> None:
    """Wait for the other processes and let them go."""
    if fabric.world_size > 1:
        fabric.barrier()
        torch.distributed.destroy_process_group()
