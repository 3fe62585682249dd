"""The published release's generator weights: its checkpoint file, and its names for what MONAI core names anew."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from relapet.errors import InputError

_RENAMED = (
    (re.compile(r"\.upsampler\.conv\."), ".upsampler.postconv."),
    (re.compile(r"\.(attn\d)\.to_out\.0\."), r".\1.out_proj."),
)
_NOT_A_CHECKPOINT = "give the file that the published training code saved (model_state_dict and epoch)"


def read_released_checkpoint(path: Path) -> tuple[dict[str, Tensor], int]:
    """The weights under the release's own names, and the epoch they were saved after.

    Nothing but tensors and plain values is ever unpickled. Raises InputError for what is no such file.
    """
    path = Path(path)
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the path.") from None
    except Exception as error:  # torch raises whatever foreign or truncated bytes lead it to
        if isinstance(error, pickle.UnpicklingError) and "global" in str(error).lower():
            raise InputError(
                f"{path} holds pickled code besides its weights, which relapet does not run; save it anew with "
                "nothing but model_state_dict and epoch."
            ) from error
        raise InputError(
            f"{path} is no readable PyTorch checkpoint ({type(error).__name__}); {_NOT_A_CHECKPOINT}."
        ) from error
    if not isinstance(content, Mapping) or not {"model_state_dict", "epoch"} <= set(content):
        raise InputError(f"{path} lacks model_state_dict or epoch; {_NOT_A_CHECKPOINT}.")
    weights, epoch = content["model_state_dict"], content["epoch"]
    if not isinstance(weights, Mapping) or not all(isinstance(w, Tensor) for w in weights.values()):
        raise InputError(f"{path}: model_state_dict is no table of tensors; {_NOT_A_CHECKPOINT}.")
    if not isinstance(epoch, int):
        raise InputError(f"{path}: epoch is no whole number; {_NOT_A_CHECKPOINT}.")
    return dict(weights), epoch


def to_present_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under the names of `relapet.model.generator.Generator`."""
    return {f"unet.{_renamed(name)}": tensor for name, tensor in weights.items()}


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = pattern.sub(replacement, name)
    return name


def check_fit(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    """Raise InputError where names or shapes are not those of ``expected``, or a weight is not finite."""
    missing, foreign = sorted(set(expected) - set(weights)), sorted(set(weights) - set(expected))
    if missing:
        raise InputError(
            f"{path} lacks {len(missing)} of the {len(expected)} weights of the published generator, the first "
            f"{missing[0].removeprefix('unet.')}; give a checkpoint of that network."
        )
    if foreign:
        raise InputError(
            f"{path} holds {len(foreign)} weights that the published generator has not, the first "
            f"{foreign[0].removeprefix('unet.')}; give a checkpoint of that network."
        )
    for name, tensor in weights.items():
        if tensor.shape != expected[name].shape:
            raise InputError(
                f"{path}: {name.removeprefix('unet.')} has shape {tuple(tensor.shape)} where the published generator "
                f"has {tuple(expected[name].shape)}; give a checkpoint of that network."
            )
        if not tensor.isfinite().all():
            raise InputError(
                f"{path}: {name.removeprefix('unet.')} is not finite; give an earlier checkpoint."
            )
