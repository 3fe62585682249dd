"""The floor: the mean PET of the training participants, the same for everyone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from relapet.model.interface import (
    Batch,
    Condition,
    DataFacts,
    Draws,
    Method,
    MethodConfig,
    OnStep,
    SampleSettings,
)


class TracerMeanConfig(MethodConfig):
    """Settings of the training mean; there are none."""

    name: Literal["tracer_mean"] = Field("tracer_mean", description="the method")


class TracerMean(Method):
    """Training mean: each tracer's mean PET over the training participants, whatever the MRI shows."""

    Config = TracerMeanConfig
    random = False

    def __init__(self, config: TracerMeanConfig, facts: DataFacts) -> None:
        self.config, self.facts = config, facts
        self.networks = nn.ModuleDict()
        self.mean = torch.full((facts.tracer_slots, *facts.shape), torch.nan)
        """By tracer index, ``(slots, X, Y, Z)``; NaN for a tracer that nobody was scanned with."""

    def fit(self, training: Iterable[Batch]) -> None:
        """Average every tracer over the visits that have it."""
        total = torch.zeros((self.facts.tracer_slots, *self.facts.shape), dtype=torch.float64)
        count = torch.zeros(self.facts.tracer_slots, dtype=torch.float64)
        for batch in training:
            tracers = batch.condition.tracer[batch.present]
            total.index_add_(0, tracers, batch.pet[batch.present].double())
            count.index_add_(0, tracers, torch.ones(len(tracers), dtype=torch.float64))
        self.mean = (total / count[:, None, None, None]).float()

    def fitted(self) -> dict[str, Tensor]:
        """The mean maps."""
        return {"mean": self.mean}

    def load_fitted(self, found: Mapping[str, Tensor]) -> None:
        """Take the mean maps; raises KeyError or ValueError where they are another model's."""
        if found["mean"].shape != self.mean.shape:
            raise ValueError(f"mean has shape {tuple(found['mean'].shape)}, not {tuple(self.mean.shape)}")
        self.mean = found["mean"]

    def sample(
        self, condition: Condition, settings: SampleSettings, draws: Draws, on_step: OnStep | None = None
    ) -> Tensor:
        """The mean of each wanted tracer."""
        if on_step is not None:
            on_step(1, 1)
        return self.mean.to(condition.mri.device)[condition.tracer]
