"""RelA-Diffusion: conditional diffusion with an image-level L1 and a relativistic adversarial loss at every t.

Source: Yu et al. 2026, arXiv:2602.21345. With ``adversarial_weight: 0`` it is FICD (arXiv:2405.02504).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from relapet.model.diffusion import Prediction, scaled_linear_schedule
from relapet.model.discriminator import Discriminator, DiscriminatorConfig
from relapet.model.generator import Generator, GeneratorConfig
from relapet.model.interface import Batch, Draws, Losses, Phase
from relapet.model.losses import (
    ADVERSARIAL_LOSSES,
    AdversarialKind,
    PenaltyReduction,
    annealed,
    gradient_penalty,
)


class RelaConfig(BaseModel):
    """Settings of RelA-Diffusion."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["rela"] = Field("rela", description="the method")
    generator: GeneratorConfig = Field(GeneratorConfig(), description="the U-Net")
    discriminator: DiscriminatorConfig = Field(
        DiscriminatorConfig(), description="the critic, used in training alone"
    )
    timesteps: int = Field(1000, ge=2, description="T, the length of the noise schedule")
    beta_first: float = Field(5e-4, gt=0, description="first beta of the scaled-linear schedule")
    beta_last: float = Field(1.95e-2, gt=0, description="last beta of the scaled-linear schedule")
    prediction: Prediction = Field("x0", description="what the network predicts: eps (as published), x0 or v")
    residual: bool = Field(
        False,
        description="x0 is predicted as a difference from the template (needs data.template and prediction x0)",
    )
    residual_sd: float = Field(
        0,
        ge=0,
        lt=1,
        description="SD of that difference, 1 being half the SUVr window: the network then sees what x_t says of it, "
        "and adds to that in units of what is still unknown (EDM's preconditioning); 0: plain x0",
    )
    target_weight: float = Field(
        1.0, ge=0, description="weight of the squared error of the prediction (L_noise for eps)"
    )
    image_weight: float = Field(1.0, ge=0, description="weight of L_image, the L1 on the clean prediction")
    adversarial_weight: float = Field(
        1.0, ge=0, description="lambda, weight of the adversarial term; 0 turns it off"
    )
    adversarial_start: int = Field(0, ge=0, description="first step with the adversarial term")
    adversarial_loss: AdversarialKind = Field(
        "relativistic", description="relativistic pairing, or the standard non-saturating loss"
    )
    penalty_weight: float = Field(1e-3, ge=0, description="gamma, weight of R1 + R2; 0 turns them off")
    penalty_reduction: PenaltyReduction = Field(
        "full", description="full: the squared norm as defined; released: as published, Z times weaker"
    )
    penalty_anneal_steps: int = Field(
        0, ge=0, description="steps from adversarial_start over which gamma falls ten-fold; 0: constant"
    )
    discriminator_lr_ratio: float = Field(0.1, gt=0, description="learning rate of the critic over train.lr")
    discriminator_betas: tuple[float, float] = Field((0.9, 0.999), description="Adam's betas of the critic")

    @model_validator(mode="after")
    def _check(self) -> RelaConfig:
        if self.residual and (self.prediction != "x0" or self.generator.condition_channels != 3):
            raise ValueError("residual needs prediction: x0 and generator.condition_channels: 3")
        if self.residual_sd and not self.residual:
            raise ValueError("residual_sd needs residual: true")
        return self


@dataclass(frozen=True)
class _Step:
    """What the two players share within one training step."""

    batch: Batch
    target: Tensor
    output: Tensor
    x0_hat: Tensor
    t: Tensor
    number: int
    """Of the training step, from 0."""


class Rela:
    """RelA-Diffusion as a `relapet.model.interface.Method`."""

    Config = RelaConfig

    def __init__(self, config: RelaConfig) -> None:
        self.config = config
        self.schedule = scaled_linear_schedule(config.timesteps, config.beta_first, config.beta_last)
        self.networks = nn.ModuleDict({"generator": Generator(config.generator)})
        if config.adversarial_weight > 0:
            self.networks["discriminator"] = Discriminator(config.discriminator)

    def phases(self) -> list[Phase]:
        """The critic first, then the generator on the same clean prediction."""
        generator = Phase("generator", self.networks["generator"], self._generator_loss)
        if "discriminator" not in self.networks:
            return [generator]
        discriminator = Phase(
            "discriminator",
            self.networks["discriminator"],
            self._discriminator_loss,
            lr_ratio=self.config.discriminator_lr_ratio,
            betas=self.config.discriminator_betas,
            start_step=self.config.adversarial_start,
            detached=True,
        )
        return [discriminator, generator]

    def forward(self, batch: Batch, draws: Draws, step: int) -> _Step:
        """Draw ``t`` and ``eps``, and predict."""
        t = draws.integers(self.config.timesteps).to(batch.pet.device)
        eps = draws.normal(batch.pet)
        x_t = self.schedule.add_noise(batch.pet, eps, t)
        output = self._predict(x_t, t, batch.condition, batch.tracer)
        x0_hat = self.schedule.to_x0(self.config.prediction, output, x_t, t).clamp(-1, 1)
        target = self.schedule.target(self.config.prediction, batch.pet, eps, t)
        return _Step(batch, target, output, x0_hat, t, step)

    def _predict(self, x_t: Tensor, t: Tensor, condition: Tensor, tracer: Tensor) -> Tensor:
        """What `RelaConfig.prediction` names."""
        generator: Callable[..., Tensor] = self.networks["generator"]
        if not self.config.residual:
            return generator(x_t, t, condition, tracer)
        template = condition[:, 2:3]
        if not (sd := self.config.residual_sd):
            return template + generator(x_t, t, condition, tracer)
        known, unknown = self.schedule.wiener(x_t, template, t, sd)
        # The noise that says nothing of the volume is taken out of the input, so that it need not be learned away.
        return template + known + unknown * generator(known / sd, t, condition, tracer)

    def _generator_loss(self, step: _Step) -> Losses:
        """L_G = L_noise + L_image + lambda L_advG."""
        c = self.config
        losses = {
            "target": functional.mse_loss(step.output, step.target),
            "image": functional.l1_loss(step.x0_hat, step.batch.pet),
        }
        total = c.target_weight * losses["target"] + c.image_weight * losses["image"]
        if "discriminator" in self.networks and step.number >= c.adversarial_start:
            critic = self.networks["discriminator"]
            batch = step.batch
            fake = critic(step.x0_hat, batch.condition, batch.tracer, step.t)
            with torch.no_grad():
                real = critic(batch.pet, batch.condition, batch.tracer, step.t)
            loss = ADVERSARIAL_LOSSES[c.adversarial_loss].generator
            losses["adversarial"] = loss(fake_logits=fake, real_logits=real)
            total = total + c.adversarial_weight * losses["adversarial"]
        return {"total": total, **losses}

    def _discriminator_loss(self, step: _Step) -> Losses:
        """L_D = softplus(-(D(x_0) - D(x0_hat))) + gamma/2 (R1 + R2)."""
        c, batch, critic = self.config, step.batch, self.networks["discriminator"]
        penalised = c.penalty_weight > 0
        real_input = batch.pet.detach().requires_grad_(penalised)
        fake_input = step.x0_hat.detach().requires_grad_(penalised)
        real = critic(real_input, batch.condition, batch.tracer, step.t)
        fake = critic(fake_input, batch.condition, batch.tracer, step.t)
        loss = ADVERSARIAL_LOSSES[c.adversarial_loss].discriminator
        losses = {"adversarial": loss(real_logits=real, fake_logits=fake)}
        total = losses["adversarial"]
        if penalised:
            losses["r1"] = gradient_penalty(real, real_input, c.penalty_reduction)
            losses["r2"] = gradient_penalty(fake, fake_input, c.penalty_reduction)
            gamma = annealed(c.penalty_weight, step.number - c.adversarial_start, c.penalty_anneal_steps)
            total = total + gamma / 2 * (losses["r1"] + losses["r2"])
        return {"total": total, **losses}

    def denoise(self, x_t: Tensor, t: Tensor, condition: Tensor, tracer: Tensor) -> Tensor:
        """The clean prediction in [-1, 1]."""
        output = self._predict(x_t, t, condition, tracer)
        return self.schedule.to_x0(self.config.prediction, output, x_t, t).clamp(-1, 1)
