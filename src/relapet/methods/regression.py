"""Regression: one shot of the same U-Net, without noise; the bar that a diffusion model must clear.

Recent comparisons of MRI-to-PET synthesis find a regression U-Net ahead of diffusion in regional agreement, so it
stands in every table. Squared error gives the conditional mean, absolute error the conditional median.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from relapet.model.generator import Generator, GeneratorConfig, in_one_call
from relapet.model.interface import (
    Batch,
    Condition,
    DataFacts,
    Draws,
    Losses,
    Method,
    MethodConfig,
    OnStep,
    Phase,
    SampleSettings,
    Targets,
)
from relapet.model.losses import weighted_mean

LOSSES: dict[str, Callable[[Tensor], Tensor]] = {"squared": torch.square, "absolute": torch.abs}
"""Of an error."""


class RegressionConfig(MethodConfig):
    """Settings of the one-shot regression."""

    name: Literal["regression"] = Field("regression", description="the method")
    generator: GeneratorConfig = Field(GeneratorConfig(), description="the U-Net")
    tracers: Targets = Field("one", description="tracers a call; one, or all: every one at once")
    loss: Literal["squared", "absolute"] = Field("squared", description="error that is minimised")
    residual_sd: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="unit of the network's output where it is a residual of the prior, 1 being half the SUVr window",
    )


@dataclass(frozen=True)
class _Step:
    batch: Batch
    prediction: Tensor


class Regression(Method):
    """Regression: the PET in one call of the U-Net, the same for every seed."""

    Config = RegressionConfig
    random = False
    deployed = ("generator",)

    def __init__(self, config: RegressionConfig, facts: DataFacts) -> None:
        self.config, self.targets = config, config.tracers
        self.networks = nn.ModuleDict({"generator": Generator(config.generator, facts, self.targets)})

    def phases(self) -> list[Phase]:
        """One player."""
        return [Phase("generator", (self.networks["generator"],), self._loss)]

    def forward(self, batch: Batch, draws: Draws, step: int) -> _Step:
        """Predict; nothing is drawn."""
        return _Step(batch, self._predict(batch.condition))

    def _predict(self, condition: Condition) -> Tensor:
        output = in_one_call(self.networks["generator"], condition)
        return output if condition.prior is None else condition.prior + self.config.residual_sd * output

    def _loss(self, step: _Step) -> Losses:
        error = LOSSES[self.config.loss](step.prediction - step.batch.pet)
        return {"total": weighted_mean(error, step.batch.weight())}

    def sample(
        self, condition: Condition, settings: SampleSettings, draws: Draws, on_step: OnStep | None = None
    ) -> Tensor:
        """One call, whatever the settings say of steps."""
        volume = self._predict(condition).clamp(-1, 1)
        if on_step is not None:
            on_step(1, 1)
        return volume
