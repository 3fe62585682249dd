"""Conditional diffusion in white noise, as DDPM and FICD share it: all of a method but its loss.

In the coordinates of `relapet.model.frame`, x_0 the PET or what a prior leaves of it: x_t = sqrt(abar_t) x_0 +
sqrt(1 - abar_t) eps, and the network, which sees x_t, the condition and t, predicts eps, x_0 or v (Ho et al. 2020,
arXiv:2006.11239; Salimans and Ho 2022, arXiv:2202.00512, for v).
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field
from torch import Tensor, nn

from relapet.model.diffusion import scaled_linear_schedule
from relapet.model.frame import Frame, FramedMethod
from relapet.model.generator import Generator, GeneratorConfig
from relapet.model.interface import (
    Batch,
    Condition,
    DataFacts,
    Draws,
    Losses,
    MethodConfig,
    OnStep,
    Phase,
    SampleSettings,
)
from relapet.model.parametrisation import Prediction, Raw
from relapet.model.samplers import walk_of


class DenoisingConfig(MethodConfig):
    """Settings that the white-noise diffusion methods share."""

    generator: GeneratorConfig = Field(GeneratorConfig(), description="the U-Net")
    timesteps: int = Field(1000, ge=2, le=100_000, description="T, the length of the noise schedule")
    beta_first: float = Field(5e-4, gt=0, description="first beta of the scaled-linear schedule")
    beta_last: float = Field(1.95e-2, gt=0, description="last beta of the scaled-linear schedule")
    prediction: Prediction = Field(
        "eps", description="what the network predicts: eps (as published), x0 or v"
    )

    @property
    def most_sample_steps(self) -> int:
        """A step leads from one timestep to another."""
        return self.timesteps


@dataclass(frozen=True)
class Denoised:
    """One training step's prediction."""

    batch: Batch
    target: Tensor
    prediction: Tensor
    x0_hat: Tensor
    """The clean PET that the prediction stands for, in [-1, 1]."""


class DenoisingMethod(FramedMethod):
    """A diffusion method: one U-Net that denoises; what it is trained by is `losses`."""

    deployed = ("generator",)

    def __init__(self, config: DenoisingConfig, facts: DataFacts) -> None:
        self.config, self.frame = config, Frame(facts)
        self.schedule = scaled_linear_schedule(config.timesteps, config.beta_first, config.beta_last)
        self.form = Raw(self.schedule, config.prediction)
        self.networks = nn.ModuleDict({"generator": Generator(config.generator, facts)})

    def losses(self, step: Denoised) -> Losses:
        """What training minimises."""
        raise NotImplementedError

    def phases(self) -> list[Phase]:
        """One player."""
        return [Phase("generator", (self.networks["generator"],), self.losses)]

    def forward(self, batch: Batch, draws: Draws, step: int) -> Denoised:
        """Draw ``t`` and noise, and predict."""
        condition = batch.condition
        t = draws.integers(self.config.timesteps).to(batch.pet.device)
        eps = draws.normal(condition.volumes())
        x_0 = self.frame.into(batch.pet, condition)
        x_t = self.schedule.mix(x_0, eps, t)
        prediction = self.form.predict(self.networks["generator"], x_t, t, condition)
        x0_hat = self.frame.out_of(self.form.clean(prediction, x_t, t, condition), condition)
        return Denoised(batch, self.form.target(x_0, eps, t, condition), prediction, x0_hat)

    def sample(
        self, condition: Condition, settings: SampleSettings, draws: Draws, on_step: OnStep | None = None
    ) -> Tensor:
        """Walk from noise to a volume, each clean prediction held within the SUVr window."""

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            prediction = self.form.predict(self.networks["generator"], x_t, t, condition)
            return self.frame.held(self.form.clean(prediction, x_t, t, condition), condition)

        def fresh() -> Tensor:
            return draws.normal(condition.volumes())

        x_0 = walk_of(settings)(denoise, self.schedule, fresh, settings.steps, on_step)
        return self.frame.out_of(x_0, condition)
