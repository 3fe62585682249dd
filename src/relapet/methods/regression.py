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
from torch.nn import functional

from relapet.model.generator import Generator, GeneratorConfig
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
)

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "squared": functional.mse_loss,
    "absolute": functional.l1_loss,
}


class RegressionConfig(MethodConfig):
    """Settings of the one-shot regression."""

    name: Literal["regression"] = Field("regression", description="the method")
    generator: GeneratorConfig = Field(GeneratorConfig(), description="the U-Net")
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
        self.config = config
        self.networks = nn.ModuleDict({"generator": Generator(config.generator, facts)})

    def phases(self) -> list[Phase]:
        """One player."""
        return [Phase("generator", (self.networks["generator"],), self._loss)]

    def forward(self, batch: Batch, draws: Draws, step: int) -> _Step:
        """Predict; nothing is drawn."""
        return _Step(batch, self._predict(batch.condition))

    def _predict(self, condition: Condition) -> Tensor:
        nothing = condition.volumes()
        t = torch.zeros(len(nothing), dtype=torch.int64, device=nothing.device)
        output: Tensor = self.networks["generator"](nothing, t, condition)
        return output if condition.prior is None else condition.prior + self.config.residual_sd * output

    def _loss(self, step: _Step) -> Losses:
        return {"total": LOSSES[self.config.loss](step.prediction, step.batch.pet)}

    def sample(
        self, condition: Condition, settings: SampleSettings, draws: Draws, on_step: OnStep | None = None
    ) -> Tensor:
        """One call, whatever the settings say of steps."""
        volume = self._predict(condition).clamp(-1, 1)
        if on_step is not None:
            on_step(1, 1)
        return volume
