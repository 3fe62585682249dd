"""DDGAN: diffusion in a few large steps, each of which a GAN takes.

Xiao et al. 2021, arXiv:2112.07804. Large steps of denoising are not Gaussian, so the generator G(x_t, z, t, c) draws a
clean volume x_0' by a latent z, x_{t-1}' is drawn from q(x_{t-1} | x_t, x_0'), and a critic D(x_{t-1}, x_t, t, c)
tells it from x_{t-1} of the measured PET:

    L_D = softplus(-D(x_{t-1}, x_t)) + softplus(D(x_{t-1}', x_t)) + gamma / 2 |grad D(x_{t-1}, x_t)|^2
    L_G = softplus(-D(x_{t-1}', x_t)) + lambda |x_0' - x_0|

The last term is not the paper's (lambda 0); conditional forms on paired images have it. With one step it is a
conditional GAN. Here x_0 is the PET or what a prior leaves of it, `relapet.model.frame`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from relapet.model.critic import Judge, critic_losses, generator_loss, singly, told_singly
from relapet.model.denoising import where_present
from relapet.model.diffusion import few_step_schedule
from relapet.model.discriminator import Discriminator, DiscriminatorConfig
from relapet.model.frame import Frame, FramedMethod
from relapet.model.generator import Generator, GeneratorConfig
from relapet.model.interface import (
    Batch,
    Beta,
    Condition,
    DataFacts,
    Draws,
    Losses,
    MethodConfig,
    OnStep,
    Phase,
    SampleSettings,
    Targets,
    adam,
)
from relapet.model.losses import ADVERSARIAL_LOSSES, AdversarialKind, weighted_mean
from relapet.model.samplers import walk_of


class DdganConfig(MethodConfig):
    """Settings of the denoising diffusion GAN."""

    name: Literal["ddgan"] = Field("ddgan", description="the method")
    generator: GeneratorConfig = Field(GeneratorConfig(), description="the U-Net")
    tracers: Targets = Field("one", description="tracers a call; one, or all: every one at once")
    discriminator: DiscriminatorConfig = Field(
        DiscriminatorConfig(timestep_conditioned=True), description="the critic, for training"
    )
    timesteps: int = Field(4, ge=1, le=1000, description="T, the steps from noise to PET")
    latent: int = Field(64, ge=1, le=4096, description="length of the latent vector z")
    image_weight: float = Field(
        0, ge=0, description="lambda, weight of the L1 on the clean volume; 0: as published"
    )
    adversarial_loss: AdversarialKind = Field(
        "standard", description="standard: non-saturating, as published; least_squares; or relativistic"
    )
    penalty_weight: float = Field(
        1e-3, ge=0, description="gamma, weight of R1, the penalty on measured volumes"
    )
    betas: tuple[Beta, Beta] = Field((0.5, 0.9), description="Adam's betas of both players")
    discriminator_lr_ratio: float = Field(0.8, gt=0, description="learning rate of the critic over train.lr")

    @property
    def most_sample_steps(self) -> int:
        """Those that it is trained for."""
        return self.timesteps


@dataclass(frozen=True)
class _Step:
    batch: Batch
    t: Tensor
    x_t: Tensor
    real: Tensor
    """x_{t-1} of the measured PET."""
    fake: Tensor
    """x_{t-1}' of the generator's."""
    clean: Tensor
    """x_0'."""
    x_0: Tensor


class Ddgan(FramedMethod):
    """DDGAN: diffusion in a few large steps, each drawn by a generator against a critic that knows the step before."""

    Config = DdganConfig
    deployed = ("generator",)

    def __init__(self, config: DdganConfig, facts: DataFacts) -> None:
        self.config, self.frame, self.targets = config, Frame(facts), config.tracers
        self.schedule = few_step_schedule(config.timesteps)
        self.loss = ADVERSARIAL_LOSSES[config.adversarial_loss]
        self.networks = nn.ModuleDict(
            {
                "generator": Generator(config.generator, facts, self.targets, latent=config.latent),
                "discriminator": Discriminator(config.discriminator, facts, channels=2),
            }
        )

    def phases(self) -> list[Phase]:
        """The critic first, then the generator on the same draws."""
        optimizer = adam(self.config.betas)
        critic, generator = self.networks["discriminator"], self.networks["generator"]
        return [
            Phase("discriminator", (critic,), self._discriminator_loss, self.config.discriminator_lr_ratio,
                  optimizer, detached=True),
            Phase("generator", (generator,), self._generator_loss, optimizer=optimizer),
        ]  # fmt: skip

    def forward(self, batch: Batch, draws: Draws, step: int) -> _Step:
        """Draw ``t``, two neighbours of the walk from the measured PET, and the generator's in place of the earlier."""
        like, condition = batch.condition.volumes(), batch.condition
        t = draws.integers(self.config.timesteps).to(like.device)
        x_0 = self.frame.into(batch.pet, condition)
        real = self.schedule.mix(x_0, draws.normal(like), t - 1)
        noise = draws.normal(like)
        x_t = where_present(batch, self.schedule.onward(real, noise, t), noise)
        clean = self._clean(x_t, t, condition, draws)
        fake = self.schedule.step(x_t, clean, t, t - 1, draws.normal(like))
        return _Step(batch, t, x_t, real, fake, clean, x_0)

    def _clean(self, x_t: Tensor, t: Tensor, condition: Condition, draws: Draws) -> Tensor:
        z = draws.vector(self.config.latent).to(x_t.device)
        clean: Tensor = self.networks["generator"](x_t, t, condition, z)
        return clean

    def _judged(self, step: _Step) -> tuple[Tensor, Tensor, Judge]:
        """x_{t-1} of generator and measured PET, one tracer a volume, and the critic, which sees x_t beside."""
        kept, critic = step.batch.present, self.networks["discriminator"]
        condition, t = told_singly(step.batch.condition, step.t, kept)
        x_t = singly(step.x_t, kept)

        def judge(x_s: Tensor) -> Tensor:
            logits: Tensor = critic(torch.cat([x_s, x_t], dim=1), condition, t)
            return logits

        return singly(step.fake, kept), singly(step.real, kept), judge

    def _discriminator_loss(self, step: _Step) -> Losses:
        """The critic's loss with the penalty on measured volumes."""
        fake, real, judge = self._judged(step)
        return critic_losses(judge, self.loss, fake, real, self.config.penalty_weight, penalties=("r1",))

    def _generator_loss(self, step: _Step) -> Losses:
        """The generator's loss with the L1."""
        fake, real, judge = self._judged(step)
        adversarial = generator_loss(judge, self.loss, fake, real)
        image = weighted_mean((step.clean - step.x_0).abs(), step.batch.weight())
        total = adversarial + self.config.image_weight * image
        return {"total": total, "adversarial": adversarial, "image": image}

    def sample(
        self, condition: Condition, settings: SampleSettings, draws: Draws, on_step: OnStep | None = None
    ) -> Tensor:
        """Walk from noise, with a latent of its own at each step."""

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            return self.frame.held(self._clean(x_t, t, condition, draws), condition)

        def fresh() -> Tensor:
            return draws.normal(condition.volumes())

        x_0 = walk_of(settings)(denoise, self.schedule, fresh, settings.steps, on_step)
        return self.frame.out_of(x_0, condition)
