"""Times one row: calls, a volume, memory and what the machine could do."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable
from typing import Any

import torch

from inference_speed.machine import seconds_of
from inference_speed.rows import ROWS, Work
from relapet.imaging.grid import get_grid
from relapet.training.memory import peak_memory_gib


def time_row(name: str, grid: str, device: torch.device, repeats: int, limit: float) -> dict[str, Any]:
    """All numbers of a row, or why there are none: a row that fails must not take the others with it."""
    started = {"row": name, "grid": grid, "device": device.type}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    try:
        numbers = _numbers(ROWS[name].build(get_grid(grid), device), device, repeats, limit)
    except Exception as error:
        return started | {"failed": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
    finally:
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return started | numbers | {"peak_gib": peak_memory_gib(device)}


def _numbers(work: Work, device: torch.device, repeats: int, limit: float) -> dict[str, Any]:
    call = None if work.call is None else repeated(work.call, device, repeats, limit)
    volume = None if work.volume is None else repeated(work.volume, device, repeats, limit)
    seconds_call = None if call is None else statistics.median(call)
    whole = work.calls * seconds_call if volume is None else statistics.median(volume)
    return {
        "maps": work.maps,
        "precision": work.precision,
        "calls": work.calls,
        "seconds_call": seconds_call,
        "calls_timed": 0 if call is None else len(call),
        "seconds_volume": whole,
        "volumes_timed": 0 if volume is None else len(volume),
        "tflop_call": None if work.flops is None else work.flops / 1e12,
    }


def repeated(work: Callable[[], object], device: torch.device, repeats: int, limit: float) -> list[float]:
    """Seconds of ``repeats`` runs after one to warm up; of the first alone where it takes over ``limit`` seconds."""
    first = seconds_of(work, device)
    if first > limit:
        return [first]
    return [seconds_of(work, device) for _ in range(repeats)]
