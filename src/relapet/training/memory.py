"""Peak memory of a training process."""

from __future__ import annotations

import sys

import torch


def peak_memory_gib(device: torch.device) -> float | None:
    """Most memory in use so far, GiB: the accelerator's on CUDA, else the process's; None where it is unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20  # bytes there, KiB on Linux
