"""What the methods share that walk from noise to a volume by one denoising U-Net: all but path, target and loss.

In the coordinates of `relapet.model.frame`, x_0 the PET or what a prior leaves of it, a volume is mixed with white
noise at a random timestep, and the network, which sees that and the condition, predicts what the form says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from relapet.model.diffusion import NoiseProcess, scaled_linear_schedule
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
    Targets,
)
from relapet.model.losses import weighted_mean
from relapet.model.parametrisation import Network, Prediction, Raw
from relapet.model.samplers import walk_of


class DenoisingConfig(MethodConfig):
    """Settings that all of them have."""

    generator: GeneratorConfig = Field(GeneratorConfig(), description="the U-Net")
    tracers: Targets = Field("one", description="tracers a call; one: as published; all: every one at once")
    timesteps: int = Field(1000, ge=2, le=100_000, description="T, the length of the walk")

    @property
    def most_sample_steps(self) -> int:
        """A step leads from one timestep to another."""
        return self.timesteps


class DiffusionConfig(DenoisingConfig):
    """Settings of diffusion in white noise."""

    beta_first: float = Field(5e-4, gt=0, description="first beta of the scaled-linear schedule")
    beta_last: float = Field(1.95e-2, gt=0, description="last beta of the scaled-linear schedule")
    prediction: Prediction = Field(
        "eps", description="what the network predicts: eps (as published), x0 or v"
    )

    def form(self) -> Raw:
        """The schedule and the prediction."""
        return Raw(scaled_linear_schedule(self.timesteps, self.beta_first, self.beta_last), self.prediction)


class Form(Protocol):
    """What a network's output means, as `relapet.model.parametrisation.Raw`."""

    @property
    def schedule(self) -> NoiseProcess:
        """The path from a clean volume to the noisiest."""
        ...

    def predict(self, network: Network, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The network's prediction."""
        ...

    def target(self, x_0: Tensor, eps: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """What it should be."""
        ...

    def clean(self, prediction: Tensor, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The clean volume that it stands for."""
        ...


@dataclass(frozen=True)
class Denoised:
    """One training step's prediction."""

    batch: Batch
    target: Tensor
    prediction: Tensor
    x0_hat: Tensor
    """The clean PET that the prediction stands for, in [-1, 1]."""

    def squared(self) -> Tensor:
        """``|prediction - target|^2``, mean over voxels of the PET that is there."""
        return weighted_mean((self.prediction - self.target).square(), self.batch.weight())


class DenoisingMethod(FramedMethod):
    """One U-Net that denoises; a method says by which form, in which frame, and what its `losses` are."""

    deployed = ("generator",)

    def __init__(
        self, config: DenoisingConfig, facts: DataFacts, form: Form, frame: Frame | None = None
    ) -> None:
        self.config, self.form, self.frame = config, form, frame or Frame(facts)
        self.targets = config.tracers
        self.networks = nn.ModuleDict({"generator": Generator(config.generator, facts, self.targets)})

    def losses(self, step: Denoised) -> Losses:
        """What training minimises."""
        raise NotImplementedError

    def phases(self) -> list[Phase]:
        """One player."""
        return [Phase("generator", (self.networks["generator"],), self.losses)]

    def forward(self, batch: Batch, draws: Draws, step: int) -> Denoised:
        """Draw ``t`` and noise, and predict."""
        condition, form = batch.condition, self.form
        t = draws.integers(self.config.timesteps).to(batch.pet.device)
        eps = draws.normal(condition.volumes())
        x_0 = self.frame.into(batch.pet, condition)
        x_t = where_present(batch, form.schedule.mix(x_0, eps, t), eps)
        prediction = form.predict(self.networks["generator"], x_t, t, condition)
        x0_hat = self.frame.out_of(form.clean(prediction, x_t, t, condition), condition)
        return Denoised(batch, form.target(x_0, eps, t, condition), prediction, x0_hat)

    def sample(
        self, condition: Condition, settings: SampleSettings, draws: Draws, on_step: OnStep | None = None
    ) -> Tensor:
        """Walk from noise to a volume, each clean prediction held within the SUVr window."""
        form = self.form

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            prediction = form.predict(self.networks["generator"], x_t, t, condition)
            return self.frame.held(form.clean(prediction, x_t, t, condition), condition)

        def fresh() -> Tensor:
            return draws.normal(condition.volumes())

        x_0 = walk_of(settings)(denoise, form.schedule, fresh, settings.steps, on_step)
        return self.frame.out_of(x_0, condition)


def where_present(batch: Batch, x_t: Tensor, noise: Tensor) -> Tensor:
    """What a network is shown: noise alone in place of a tracer that the visit lacks, whose PET stands at -1.

    Volumes are ``(B, K C, ...)``, C to a tracer.
    """
    there = batch.present.repeat_interleave(x_t.shape[1] // batch.present.shape[1], dim=1)
    return torch.where(there[:, :, None, None, None], x_t, noise)
