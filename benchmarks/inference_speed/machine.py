"""The machine that rows are timed on: its name, and how fast it multiplies large matrices."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from relapet.hardware import device_name

_SIDE = {"cpu": 2048, "cuda": 8192}
"""Side of the square matrices."""
_TRIES = 5


def synchronize(device: torch.device) -> None:
    """Wait until the accelerator has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Elapsed seconds of one call of ``work``, the accelerator's included."""
    synchronize(device)
    started = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - started


@torch.no_grad()
def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP per second of a large matrix product, the best of some; a product of n x n takes 2 n^3."""
    side = _SIDE[device.type]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    seconds = [seconds_of(lambda: torch.mm(a, b), device) for _ in range(1 + _TRIES)][1:]
    return 2 * side**3 / min(seconds)


def matmul_rates(device: torch.device) -> dict[str, float]:
    """`matmul_rate` by precision."""
    return {name: matmul_rate(device, getattr(torch, name)) for name in ("float32", "bfloat16")}


def describe_machine(device: torch.device, rates: dict[str, float]) -> str:
    """Processor or card, torch, threads and rates in one sentence."""
    name = device_name(device)
    threads = "" if device.type == "cuda" else f", {torch.get_num_threads()} threads"
    products = ", ".join(f"{rate / 1e12:.3g} in {precision}" for precision, rate in rates.items())
    return f"{name}{threads}, torch {torch.__version__}; matrix products of {_SIDE[device.type]}, TFLOP/s: {products}."
