"""Damage to safetensors, checkpoints and cached arrays. Each takes the file and a generator, and says what it did."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from images import Damage, bit_flip, pick, something_else, truncated
from safetensors.torch import load_file, save_file
from texts import NASTY, change_value


def _changed_tensor(tensor: torch.Tensor, rng: np.random.Generator) -> tuple[torch.Tensor | None, str]:
    kind = str(pick(rng, ("nan", "inf", "gone", "shape", "half", "whole numbers", "empty", "scalar", "huge")))
    if kind == "gone":
        return None, kind
    if kind in ("nan", "inf", "huge"):
        filled = tensor.clone().float()
        filled.view(-1)[0] = {"nan": torch.nan, "inf": torch.inf, "huge": 3e38}[kind]
        return filled, kind
    changed = {
        "shape": tensor.flatten()[:-1], "half": tensor.half(), "whole numbers": tensor.long(),
        "empty": tensor.flatten()[:0], "scalar": torch.tensor(1.0),
    }[kind]  # fmt: skip
    return changed.clone(), kind


def tensors(path: Path, rng: np.random.Generator) -> str:
    held: dict[str, torch.Tensor] = load_file(path)
    name = str(pick(rng, sorted(held)))
    changed, kind = _changed_tensor(held.pop(name), rng)
    if changed is not None:
        held[name] = changed
    if rng.random() < 0.2:
        held["extra"] = torch.zeros(3)
    save_file(held, path)
    return f"{name} {kind}"


def tensor_header(path: Path, rng: np.random.Generator) -> str:
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    kind = pick(rng, ("length", "value", "value"))
    if kind == "length":
        new = int(pick(rng, (0, 1, 2**40, 2**63, len(data), length + 1)))
        path.write_bytes(struct.pack("<Q", new) + data[8:])
        return f"header length {new}"
    header, said = change_value(json.loads(data[8 : 8 + length]), rng)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    return f"header {said}"


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("code of a checkpoint was run",)


def checkpoint(path: Path, rng: np.random.Generator) -> str:
    kind = pick(rng, ("value", "value", "value", "tensor", "tensor", "code", "array", "nothing"))
    if kind == "code":
        path.write_bytes(pickle.dumps({"step": 2, "x": _Code()}))
        return "code"
    if kind in ("array", "nothing"):
        torch.save(torch.zeros(3) if kind == "array" else {}, path)
        return str(kind)
    state = torch.load(path, map_location="cpu", weights_only=True)
    if kind == "value":
        state, said = change_value(state, rng, tuple(value for value in NASTY if value != 10**30))
    else:
        said = _in_state(state, rng)
    torch.save(state, path)
    return said


def _in_state(state: dict[str, Any], rng: np.random.Generator) -> str:
    """Change one of the tensors of a state, however deep it lies."""
    found: list[tuple[Any, Any]] = []

    def search(part: Any) -> None:
        inner: Any = (
            part.items() if isinstance(part, Mapping) else enumerate(part) if isinstance(part, list) else ()
        )
        for key, value in inner:
            if isinstance(value, torch.Tensor):
                found.append((part, key))
            search(value)

    search(state)
    holder, key = pick(rng, found)
    changed, kind = _changed_tensor(holder[key], rng)
    if changed is None:
        del holder[key]
    else:
        holder[key] = changed
    return f"tensor {key} {kind}"


def cached(path: Path, rng: np.random.Generator) -> str:
    kind = str(pick(rng, ("dtype", "shape", "objects", "nan")))
    array = np.load(path)
    if kind == "nan":
        array = array.copy()
        array.flat[0] = np.nan
    if kind == "objects":
        array = np.array([None, 1], dtype=object)
    with path.open("wb") as stream:
        np.save(stream, {"dtype": array.astype(str), "shape": array[..., 1:]}.get(kind, array))
    return f"array {kind}"


_ANY: tuple[Damage, ...] = (truncated, bit_flip, something_else)
TENSORS: tuple[Damage, ...] = (tensors, tensors, tensor_header, *_ANY)
CHECKPOINTS: tuple[Damage, ...] = (checkpoint, checkpoint, checkpoint, *_ANY)
ARRAYS: tuple[Damage, ...] = (cached, *_ANY)
