"""Few-step samples of a model in training for validation pairs, and their error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from relapet.data.dataset import Pair
from relapet.data.volumes import BACKGROUND, model_to_suvr
from relapet.model.interface import Method
from relapet.model.samplers import SAMPLERS
from relapet.synthesis.config import SampleConfig
from relapet.types import Volume


def sample_pairs(
    method: Method, pairs: Iterable[Pair], sample: SampleConfig, device: torch.device
) -> list[Volume]:
    """One synthetic SUVr map ``(X, Y, Z)`` for each pair; the noise of the n-th is seeded by seed + n."""
    return [_sample(method, pair, sample, sample.seed + n, device) for n, pair in enumerate(pairs)]


def _sample(method: Method, pair: Pair, sample: SampleConfig, seed: int, device: torch.device) -> Volume:
    generator = torch.Generator().manual_seed(seed)
    condition = torch.from_numpy(pair.condition)[None].to(device)
    index = torch.tensor([pair.tracer.index], device=device)
    noise = torch.randn((1, 1, *pair.pet.shape), generator=generator).to(device)
    volume = SAMPLERS[sample.sampler](
        lambda x_t, t: method.denoise(x_t, t, condition, index),
        noise,
        method.schedule,
        sample.steps,
        generator,
        None,
    )
    return model_to_suvr(volume[0, 0].float().cpu().numpy(), pair.tracer.suvr_window)


def mean_absolute_errors(pairs: Sequence[Pair], synthetic: Sequence[Volume]) -> dict[str, float]:
    """Mean absolute error in SUVr inside the brain, a tracer at a time: ``{"mae/tau": ...}``."""
    errors: dict[str, list[float]] = {}
    for pair, volume in zip(pairs, synthetic, strict=True):
        brain = (pair.condition[:2] > BACKGROUND).any(axis=0)
        error = np.abs(volume - model_to_suvr(pair.pet, pair.window))[brain].mean()
        errors.setdefault(f"mae/{pair.tracer.name}", []).append(float(error))
    return {name: float(np.mean(values)) for name, values in errors.items()}
