"""Pix2pix: a conditional GAN with an L1, in one call of the generator.

Isola et al. 2017, arXiv:1611.07004, equation 4: G = arg min max L_cGAN(G, D) + lambda L_L1(G), with a patch critic D
that sees the MRI beside the PET (equation 1), lambda 100, and the critic's loss halved (section 3.3). In 3D, and the
tracer known to both. Its dropout, which the paper finds to leave next to no randomness, is left out: one map a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from relapet.model.critic import Judge, critic_losses, generator_loss, singly, told_singly
from relapet.model.discriminator import Discriminator, DiscriminatorConfig
from relapet.model.frame import Frame, FramedMethod
from relapet.model.generator import Generator, GeneratorConfig, at_start, in_one_call
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


class Pix2pixConfig(MethodConfig):
    """Settings of pix2pix."""

    name: Literal["pix2pix"] = Field("pix2pix", description="the method")
    generator: GeneratorConfig = Field(GeneratorConfig(), description="the U-Net")
    tracers: Targets = Field("one", description="tracers a call; one, or all: every one at once")
    discriminator: DiscriminatorConfig = Field(DiscriminatorConfig(), description="the critic, for training")
    image_weight: float = Field(
        100.0, ge=0, description="lambda, weight of the L1 beside the adversarial term"
    )
    adversarial_loss: AdversarialKind = Field(
        "standard", description="standard: non-saturating, as published; least_squares; or relativistic"
    )
    betas: tuple[Beta, Beta] = Field((0.5, 0.999), description="Adam's betas of both players")
    discriminator_lr_ratio: float = Field(1.0, gt=0, description="learning rate of the critic over train.lr")


@dataclass(frozen=True)
class _Step:
    batch: Batch
    fake: Tensor


class Pix2pix(FramedMethod):
    """Pix2pix: one call of the U-Net, trained by an L1 and a patch critic that sees the MRI."""

    Config = Pix2pixConfig
    random = False
    deployed = ("generator",)

    def __init__(self, config: Pix2pixConfig, facts: DataFacts) -> None:
        self.config, self.frame, self.targets = config, Frame(facts), config.tracers
        self.loss = ADVERSARIAL_LOSSES[config.adversarial_loss]
        self.networks = nn.ModuleDict(
            {
                "generator": Generator(config.generator, facts, self.targets),
                "discriminator": Discriminator(config.discriminator, facts),
            }
        )

    def phases(self) -> list[Phase]:
        """The critic first, then the generator on the same map."""
        optimizer = adam(self.config.betas)
        critic, generator = self.networks["discriminator"], self.networks["generator"]
        return [
            Phase("discriminator", (critic,), self._discriminator_loss, self.config.discriminator_lr_ratio,
                  optimizer, detached=True),
            Phase("generator", (generator,), self._generator_loss, optimizer=optimizer),
        ]  # fmt: skip

    def forward(self, batch: Batch, draws: Draws, step: int) -> _Step:
        """Predict; nothing is drawn."""
        return _Step(batch, self._predict(batch.condition))

    def _predict(self, condition: Condition) -> Tensor:
        return self.frame.free(in_one_call(self.networks["generator"], condition), condition)

    def _discriminator_loss(self, step: _Step) -> Losses:
        """Half of the critic's loss."""
        fake, real, judge = self._judged(step)
        return {"total": critic_losses(judge, self.loss, fake, real)["total"] / 2}

    def _generator_loss(self, step: _Step) -> Losses:
        """L_cGAN + lambda L_L1."""
        fake, real, judge = self._judged(step)
        adversarial = generator_loss(judge, self.loss, fake, real)
        image = weighted_mean((step.fake - step.batch.pet).abs(), step.batch.weight())
        total = adversarial + self.config.image_weight * image
        return {"total": total, "adversarial": adversarial, "image": image}

    def _judged(self, step: _Step) -> tuple[Tensor, Tensor, Judge]:
        """Predicted and measured PET, one tracer a volume, and the critic."""
        batch, kept = step.batch, step.batch.present
        condition, t = told_singly(batch.condition, at_start(batch.pet), kept)
        judge = partial(self.networks["discriminator"], condition=condition, t=t)
        return singly(step.fake, kept), singly(batch.pet, kept), judge

    def sample(
        self, condition: Condition, settings: SampleSettings, draws: Draws, on_step: OnStep | None = None
    ) -> Tensor:
        """One call, whatever the settings say of steps."""
        volume = self._predict(condition).clamp(-1, 1)
        if on_step is not None:
            on_step(1, 1)
        return volume
