"""What the processor or accelerator does fast."""

from __future__ import annotations

import re
from pathlib import Path

_CPU_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Flags of /proc/cpuinfo that name instructions on bfloat16: of x86 the first two, of ARM the last."""
_CPU_INFO = Path("/proc/cpuinfo")


def has_fast_bfloat16() -> bool:
    """Whether arithmetic in bfloat16 is faster than in float32 where training would run: the GPU, else the CPU.

    Without such instructions a CPU emulates them, and a step takes some 20 times as long as in float32.
    """
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        text = _CPU_INFO.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return any(
            getattr(torch.cpu, f"_is_{name}_supported", bool)() for name in ("avx512_bf16", "amx_tile")
        )
    return names_bfloat16(text)


def names_bfloat16(cpuinfo: str) -> bool:
    """Whether the text of /proc/cpuinfo names instructions on bfloat16."""
    lines = re.findall(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    return bool(lines) and all(_CPU_FLAGS & set(line.split()) for line in lines)
