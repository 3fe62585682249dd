"""RelA-Diffusion: conditional diffusion with an image-level L1 and a relativistic adversarial loss at every t.

Source: Yu et al. 2026, arXiv:2602.21345. With ``adversarial_weight: 0`` it is FICD (arXiv:2405.02504).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from relapet.model.diffusion import scaled_linear_schedule
from relapet.model.discriminator import Discriminator, DiscriminatorConfig
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
    adam,
)
from relapet.model.losses import (
    ADVERSARIAL_LOSSES,
    AdversarialKind,
    PenaltyReduction,
    annealed,
    gradient_penalty,
)
from relapet.model.parametrisation import Prediction, parametrised
from relapet.model.samplers import SAMPLERS


class RelaConfig(MethodConfig):
    """Settings of RelA-Diffusion."""

    name: Literal["rela"] = Field("rela", description="the method")
    generator: GeneratorConfig = Field(GeneratorConfig(), description="the U-Net")
    discriminator: DiscriminatorConfig = Field(
        DiscriminatorConfig(), description="the critic, used in training alone"
    )
    timesteps: int = Field(1000, ge=2, description="T, the length of the noise schedule")
    beta_first: float = Field(5e-4, gt=0, description="first beta of the scaled-linear schedule")
    beta_last: float = Field(1.95e-2, gt=0, description="last beta of the scaled-linear schedule")
    prediction: Prediction = Field(
        "x0",
        description="what the network predicts: eps (as published), v, or x0 (a residual where there is a prior)",
    )
    residual_sd: float = Field(
        0,
        ge=0,
        lt=1,
        description="SD of the residual, 1 being half the SUVr window: the network then sees what x_t says of it, "
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
        if self.residual_sd and self.prediction != "x0":
            raise ValueError(f"residual_sd needs prediction: x0, not {self.prediction}")
        return self


@dataclass(frozen=True)
class _Step:
    """What the two players share within one training step."""

    batch: Batch
    target: Tensor
    prediction: Tensor
    x0_hat: Tensor
    t: Tensor
    number: int
    """Of the training step, from 0."""


class Rela(Method):
    """RelA-Diffusion: diffusion with an L1 on the clean prediction and a relativistic critic at every timestep."""

    Config = RelaConfig
    deployed = ("generator",)

    def __init__(self, config: RelaConfig, facts: DataFacts) -> None:
        self.config = config
        self.schedule = scaled_linear_schedule(config.timesteps, config.beta_first, config.beta_last)
        self.parametrisation = parametrised(self.schedule, config.prediction, facts.prior, config.residual_sd)
        self.networks = nn.ModuleDict({"generator": Generator(config.generator, facts)})
        if config.adversarial_weight > 0:
            self.networks["discriminator"] = Discriminator(config.discriminator, facts)

    def phases(self) -> list[Phase]:
        """The critic first, then the generator on the same clean prediction."""
        generator = Phase("generator", (self.networks["generator"],), self._generator_loss)
        if "discriminator" not in self.networks:
            return [generator]
        discriminator = Phase(
            "discriminator",
            (self.networks["discriminator"],),
            self._discriminator_loss,
            lr_ratio=self.config.discriminator_lr_ratio,
            optimizer=adam(self.config.discriminator_betas),
            first_step=self.config.adversarial_start,
            detached=True,
        )
        return [discriminator, generator]

    def forward(self, batch: Batch, draws: Draws, step: int) -> _Step:
        """Draw ``t`` and ``eps``, and predict."""
        t = draws.integers(self.config.timesteps).to(batch.pet.device)
        eps = draws.normal(batch.pet)
        x_t = self.schedule.mix(batch.pet, eps, t)
        prediction = self.parametrisation.predict(self.networks["generator"], x_t, t, batch.condition)
        x0_hat = self.parametrisation.clean(prediction, x_t, t).clamp(-1, 1)
        target = self.parametrisation.target(batch.pet, eps, t)
        return _Step(batch, target, prediction, x0_hat, t, step)

    def _generator_loss(self, step: _Step) -> Losses:
        """L_G = L_noise + L_image + lambda L_advG."""
        c = self.config
        losses = {
            "target": functional.mse_loss(step.prediction, step.target),
            "image": functional.l1_loss(step.x0_hat, step.batch.pet),
        }
        total = c.target_weight * losses["target"] + c.image_weight * losses["image"]
        if "discriminator" in self.networks and step.number >= c.adversarial_start:
            critic, batch = self.networks["discriminator"], step.batch
            fake = critic(step.x0_hat, batch.condition, step.t)
            with torch.no_grad():
                real = critic(batch.pet, batch.condition, step.t)
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
        real = critic(real_input, batch.condition, step.t)
        fake = critic(fake_input, batch.condition, step.t)
        loss = ADVERSARIAL_LOSSES[c.adversarial_loss].discriminator
        losses = {"adversarial": loss(real_logits=real, fake_logits=fake)}
        total = losses["adversarial"]
        if penalised:
            losses["r1"] = gradient_penalty(real, real_input, c.penalty_reduction)
            losses["r2"] = gradient_penalty(fake, fake_input, c.penalty_reduction)
            gamma = annealed(c.penalty_weight, step.number - c.adversarial_start, c.penalty_anneal_steps)
            total = total + gamma / 2 * (losses["r1"] + losses["r2"])
        return {"total": total, **losses}

    def sample(
        self, condition: Condition, settings: SampleSettings, draws: Draws, on_step: OnStep | None = None
    ) -> Tensor:
        """Walk from white noise to a volume."""
        generator, volumes = self.networks["generator"], condition.volumes()

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            prediction = self.parametrisation.predict(generator, x_t, t, condition)
            return self.parametrisation.clean(prediction, x_t, t).clamp(-1, 1)

        sampler = SAMPLERS[settings.sampler]
        return sampler(denoise, self.schedule, lambda: draws.normal(volumes), settings.steps, on_step)
