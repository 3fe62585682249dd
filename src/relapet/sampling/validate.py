"""Scores of a model in training on validation pairs, from few-step samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from relapet.data.dataset import Pair
from relapet.data.volumes import BACKGROUND, model_to_suvr
from relapet.model.interface import Method
from relapet.sampling.config import SampleConfig
from relapet.sampling.samplers import SAMPLERS


def validation_mae(
    method: Method, pairs: Sequence[Pair], sample: SampleConfig, device: torch.device
) -> dict[str, float]:
    """Mean absolute error in SUVr inside the brain, a tracer at a time: ``{"mae/tau": ...}``."""
    errors: dict[str, list[float]] = {}
    for number, pair in enumerate(pairs):
        generator = torch.Generator().manual_seed(sample.seed + number)
        condition = torch.from_numpy(pair.condition)[None].to(device)
        index = torch.tensor([pair.tracer.index], device=device)
        noise = torch.randn((1, 1, *pair.pet.shape), generator=generator).to(device)

        def denoise(
            x_t: torch.Tensor, t: torch.Tensor, c: torch.Tensor = condition, k: torch.Tensor = index
        ) -> torch.Tensor:
            return method.denoise(x_t, t, c, k)

        volume = SAMPLERS[sample.sampler](denoise, noise, method.schedule, sample.steps, generator, None)
        synthetic = model_to_suvr(volume[0, 0].float().cpu().numpy(), pair.tracer.suvr_window)
        brain = (pair.condition > BACKGROUND).any(axis=0)
        error = np.abs(synthetic - model_to_suvr(pair.pet, pair.window))[brain].mean()
        errors.setdefault(f"mae/{pair.tracer.name}", []).append(float(error))
    return {name: float(np.mean(values)) for name, values in errors.items()}
