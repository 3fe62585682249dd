"""Few-step samples of a model in training for validation items, and their error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from relapet.data.items import TrainingItem
from relapet.data.volumes import BACKGROUND, model_to_suvr
from relapet.model.interface import Condition, Draws, Method
from relapet.synthesis.sample_config import SampleConfig
from relapet.types import Volume


def sample_items(
    method: Method, items: Iterable[TrainingItem], sample: SampleConfig, device: torch.device
) -> list[Volume]:
    """Synthetic SUVr maps ``(K, X, Y, Z)`` of each item; the noise of the n-th is seeded by seed + n."""
    return [_sample(method, item, sample, sample.seed + n, device) for n, item in enumerate(items)]


def _sample(
    method: Method, item: TrainingItem, sample: SampleConfig, seed: int, device: torch.device
) -> Volume:
    condition = Condition(
        torch.from_numpy(item.mri)[None],
        None if item.prior is None else torch.from_numpy(item.prior)[None],
        torch.tensor([[tracer.index for tracer in item.tracers]]),
    )
    draws = Draws((torch.Generator().manual_seed(seed),))
    volumes = method.sample(condition.to(device), sample, draws, None)[0].float().cpu().numpy()
    return np.stack([model_to_suvr(v, t.suvr_window) for v, t in zip(volumes, item.tracers, strict=True)])


def mean_absolute_errors(items: Sequence[TrainingItem], synthetic: Sequence[Volume]) -> dict[str, float]:
    """Mean absolute error in SUVr inside the brain, a tracer at a time: ``{"mae/tau": ...}``."""
    errors: dict[str, list[float]] = {}
    for item, volumes in zip(items, synthetic, strict=True):
        brain = (item.mri > BACKGROUND).any(axis=0)
        for k, tracer in enumerate(item.tracers):
            if item.present[k]:
                error = np.abs(volumes[k] - model_to_suvr(item.pet[k], item.windows[k]))[brain].mean()
                errors.setdefault(f"mae/{tracer.name}", []).append(float(error))
    return {name: float(np.mean(values)) for name, values in errors.items()}
