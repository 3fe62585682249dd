"""CycleGAN: from MRI to PET and back, learnt from MRI and PET of different people.

Zhu et al. 2017, arXiv:1703.10593: two generators G (MRI to PET) and F (PET to MRI) and a critic for each side,

    L = L_GAN(G, D_PET) + L_GAN(F, D_MRI) + lambda (|F(G(m)) - m|_1 + |G(F(y)) - y|_1)

with least-squares adversarial losses (Mao et al. 2017), the critics' halved, and a pool of past fakes for the critics.
lambda is 10. Here the PET is of one of several tracers, which both generators and both critics are told, and the MRI is
T1w and FLAIR together. A prior from the person's MRI would be learnt from pairs, so there is none but the mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from relapet.model.critic import generator_loss
from relapet.model.discriminator import Discriminator, DiscriminatorConfig
from relapet.model.frame import Frame, FramedMethod
from relapet.model.generator import Generator, GeneratorConfig, Translator, at_start, in_one_call
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
    adam,
)
from relapet.model.losses import ADVERSARIAL_LOSSES, AdversarialKind
from relapet.model.pool import FakePool


class CycleganConfig(MethodConfig):
    """Settings of CycleGAN."""

    name: Literal["cyclegan"] = Field("cyclegan", description="the method")
    generator: GeneratorConfig = Field(GeneratorConfig(), description="the U-Net of each direction")
    discriminator: DiscriminatorConfig = Field(DiscriminatorConfig(), description="the critic of each side")
    cycle_weight: float = Field(10.0, ge=0, description="lambda, weight of the way there and back")
    adversarial_loss: AdversarialKind = Field(
        "least_squares", description="least_squares: as published; standard: non-saturating; or relativistic"
    )
    pool: int = Field(50, ge=0, le=10_000, description="past fakes of each side that the critics are shown")
    betas: tuple[Beta, Beta] = Field((0.5, 0.999), description="Adam's betas of all players")
    discriminator_lr_ratio: float = Field(1.0, gt=0, description="learning rate of the critics over train.lr")

    @property
    def priors(self) -> tuple[str, ...]:
        """What is known of no person."""
        return ("none", "mean")


@dataclass(frozen=True)
class _Side:
    """PET or MRI: measured, made from the other side, and made there and back."""

    real: Tensor
    fake: Tensor
    back: Tensor


@dataclass(frozen=True)
class _Step:
    batch: Batch
    pet: _Side
    mri: _Side
    draws: Draws


class Cyclegan(FramedMethod):
    """CycleGAN: two generators that must undo each other, from unpaired MRI and PET."""

    Config = CycleganConfig
    pairing = "unpaired"
    random = False
    deployed = ("generator",)

    def __init__(self, config: CycleganConfig, facts: DataFacts) -> None:
        self.config, self.frame = config, Frame(facts)
        self.loss = ADVERSARIAL_LOSSES[config.adversarial_loss]
        self.pools = {side: FakePool(config.pool) for side in ("pet", "mri")}
        self.networks = nn.ModuleDict(
            {
                "generator": Generator(config.generator, facts),
                "back": Translator(config.generator, facts, channels=1, count=2),
                "pet_critic": Discriminator(config.discriminator, facts, sees_mri=False),
                "mri_critic": Discriminator(config.discriminator, facts, channels=2, sees_mri=False),
            }
        )

    def phases(self) -> list[Phase]:
        """Both critics first, then both generators on the same volumes."""
        optimizer, net = adam(self.config.betas), self.networks
        return [
            Phase("critics", (net["pet_critic"], net["mri_critic"]), self._critics_loss,
                  self.config.discriminator_lr_ratio, optimizer, detached=True),
            Phase("generators", (net["generator"], net["back"]), self._generators_loss, optimizer=optimizer),
        ]  # fmt: skip

    def forward(self, batch: Batch, draws: Draws, step: int) -> _Step:
        """There and back from both sides."""
        condition, tracer = batch.condition, batch.condition.tracer
        fake_pet, fake_mri = self._to_pet(condition), self.networks["back"](batch.pet, tracer)
        back_mri = self.networks["back"](fake_pet, tracer)
        back_pet = self._to_pet(Condition(fake_mri, condition.prior, tracer))
        pet, mri = _Side(batch.pet, fake_pet, back_pet), _Side(condition.mri, fake_mri, back_mri)
        return _Step(batch, pet, mri, draws)

    def _to_pet(self, condition: Condition) -> Tensor:
        return self.frame.free(in_one_call(self.networks["generator"], condition), condition)

    def _judge(self, side: str, volumes: Tensor, tracer: Tensor) -> Tensor:
        told = Condition(volumes, None, tracer)
        logits: Tensor = self.networks[f"{side}_critic"](volumes, told, at_start(volumes))
        return logits

    def _critics_loss(self, step: _Step) -> Losses:
        """Half of each critic's loss, on fakes of the present and the past."""
        losses = {}
        for name, side in (("pet", step.pet), ("mri", step.mri)):
            tracer = step.batch.condition.tracer
            real = self._judge(name, side.real, tracer)
            # Here, since a step's `forward` may run more than once: each batch is exchanged once.
            fake = self._judge(name, *self.pools[name].exchange(side.fake.detach(), tracer, step.draws))
            losses[name] = self.loss.discriminator(real_logits=real, fake_logits=fake) / 2
        return {"total": losses["pet"] + losses["mri"], **losses}

    def _generators_loss(self, step: _Step) -> Losses:
        """Both adversarial losses and lambda times the L1 of both ways there and back."""
        tracer = step.batch.condition.tracer
        adversarial = torch.zeros((), device=tracer.device)
        for name, side in (("pet", step.pet), ("mri", step.mri)):
            judge = partial(self._judge, name, tracer=tracer)
            adversarial = adversarial + generator_loss(judge, self.loss, side.fake, side.real)
        cycle = functional.l1_loss(step.pet.back, step.pet.real) + functional.l1_loss(
            step.mri.back, step.mri.real
        )
        total = adversarial + self.config.cycle_weight * cycle
        return {"total": total, "adversarial": adversarial, "cycle": cycle}

    def sample(
        self, condition: Condition, settings: SampleSettings, draws: Draws, on_step: OnStep | None = None
    ) -> Tensor:
        """One call, whatever the settings say of steps."""
        volume = self._to_pet(condition).clamp(-1, 1)
        if on_step is not None:
            on_step(1, 1)
        return volume

    def state_dict(self) -> dict[str, Any]:
        """The pools."""
        return {side: pool.state_dict() for side, pool in self.pools.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the pools; raises KeyError or ValueError where they are another training's."""
        for side, pool in self.pools.items():
            pool.load_state_dict(state[side])
