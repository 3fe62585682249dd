"""Which device computes, and what it does fast."""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING

from relapet.errors import InputError

if TYPE_CHECKING:
    import torch

BACKENDS = ("torch", "openvino")
"""What computes a network in synthesis."""
EXPORTED = {".onnx": "ONNX", ".xml": "OpenVINO, with a .bin beside it"}
"""Files that a network is exported to."""
_DEVICE = re.compile(r"cpu|cuda(:(0|[1-9][0-9]?))?")
"""Two digits: torch keeps the number in a byte and takes cuda:4321 for another one."""
_CPU_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Flags of /proc/cpuinfo that name instructions on bfloat16: of x86 the first two, of ARM the last."""
_CPU_INFO = Path("/proc/cpuinfo")


def check_device(name: str) -> None:
    """Raise InputError for what names no device, without a look at the machine: torch takes seconds to import."""
    if not _DEVICE.fullmatch(name):
        raise InputError(
            f"`device` is {name!r}; give cpu, cuda or, of several GPUs, one by its number: cuda:1."
        )


def check_backend(name: str, device: str | None = None) -> None:
    """Raise InputError for what is none of `BACKENDS`, and for OpenVINO on another device than a CPU."""
    if name not in BACKENDS:
        raise InputError(f"`backend` is {name!r}; give one of {', '.join(BACKENDS)}.")
    if name == "openvino" and device not in (None, "cpu"):
        raise InputError(
            f"`device` is {device}, but openvino computes on a CPU; give cpu, or another `backend`."
        )


def find_device(name: str | None = None) -> torch.device:
    """The device of a name, None being the GPU where there is one; raises InputError for one that is not here."""
    import torch

    gpu = torch.cuda.is_available()
    if name is None:
        return torch.device("cuda" if gpu else "cpu")
    check_device(name)
    device, there = torch.device(name), torch.cuda.device_count() if gpu else 0
    if device.type == "cuda" and (device.index or 0) >= there:
        found = "no GPU" if not there else f"{there} GPU{'s' * (there > 1)}, counted from cuda:0"
        raise InputError(f"`device` is {name}, but torch finds {found} here; give another one.")
    return device


def has_fast_bfloat16(device: torch.device | None = None) -> bool:
    """Whether arithmetic in bfloat16 is faster than in float32 on a device: if None the GPU, without one the CPU.

    Without such instructions a CPU emulates them, and a step takes some 20 times as long as in float32.
    """
    import torch

    if (device or find_device()).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        text = _CPU_INFO.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return any(
            getattr(torch.cpu, f"_is_{name}_supported", bool)() for name in ("avx512_bf16", "amx_tile")
        )
    return names_bfloat16(text)


def device_name(device: torch.device) -> str:
    """What a processor or card calls itself."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", _CPU_INFO.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.machine()


def names_bfloat16(cpuinfo: str) -> bool:
    """Whether the text of /proc/cpuinfo names instructions on bfloat16."""
    lines = re.findall(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    return bool(lines) and all(_CPU_FLAGS & set(line.split()) for line in lines)
