"""Latent diffusion: an autoencoder of PET first, then conditional diffusion on the coarse grid of what it codes.

Rombach et al. 2022, arXiv:2112.10752: a variational autoencoder with a KL term of small weight, frozen, and a denoising
U-Net on its latents. The variant for speed of RelA-Diffusion (Yu et al. 2026, arXiv:2602.21345): L1 on the decoded
clean prediction, and a relativistic critic where it is turned on. Here a volume's latents are the posterior's mean, of
which no noise is drawn, each channel in units of its own SD; what a decoder gives of them is the method's ceiling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from relapet.model.autoencoder import Autoencoder, AutoencoderConfig, kl_divergence, padded
from relapet.model.denoising import DiffusionConfig
from relapet.model.discriminator import Discriminator, DiscriminatorConfig
from relapet.model.frame import Frame, FramedMethod
from relapet.model.generator import UNet, packed
from relapet.model.interface import (
    Batch,
    Condition,
    DataFacts,
    Draws,
    Losses,
    OnStep,
    Phase,
    SampleSettings,
)
from relapet.model.losses import ADVERSARIAL_LOSSES, AdversarialKind, gradient_penalty, regional_error
from relapet.model.noise import REGION_MM
from relapet.model.parametrisation import Prediction
from relapet.model.samplers import walk_of


class LatentConfig(DiffusionConfig):
    """Settings of latent diffusion."""

    name: Literal["latent"] = Field("latent", description="the method")
    autoencoder: AutoencoderConfig = Field(AutoencoderConfig(), description="what codes and decodes PET")
    autoencoder_steps: int = Field(
        20_000,
        ge=1,
        description="training steps of the autoencoder, before it is frozen and diffusion begins",
    )
    kl_weight: float = Field(
        1e-4, ge=0, description="weight of the posterior's KL divergence, mean of latents"
    )
    regional_weight: float = Field(
        1.0, ge=0, description="weight of what the autoencoder errs over 24 mm cubes"
    )
    prediction: Prediction = Field("x0", description="what the U-Net predicts of the latents: x0, eps or v")
    image_weight: float = Field(
        1.0, ge=0, description="weight of L_image, the L1 of the decoded clean prediction"
    )
    adversarial_weight: float = Field(0, ge=0, description="lambda, of the adversarial term; 0: off")
    adversarial_on: Literal["decoded", "latent"] = Field(
        "decoded", description="what the critic judges: decoded clean predictions, or their latents"
    )
    adversarial_loss: AdversarialKind = Field(
        "relativistic", description="relativistic: as published; standard; or least_squares"
    )
    discriminator: DiscriminatorConfig = Field(DiscriminatorConfig(), description="the critic, for training")
    discriminator_lr_ratio: float = Field(0.1, gt=0, description="learning rate of the critic over train.lr")
    penalty_weight: float = Field(1e-3, ge=0, description="gamma, weight of R1 + R2; 0: off")

    @property
    def least_steps(self) -> int:
        """Both trainings."""
        return self.autoencoder_steps + 1


class _LatentUNet(UNet):
    """``forward(x_t, t, condition)``: the U-Net on the latent grid, to which the condition's voxels are packed."""

    def __init__(self, config: LatentConfig, facts: DataFacts) -> None:
        halvings, latents = config.autoencoder.halvings, config.autoencoder.latent_channels
        known = (2 + facts.prior) * 8**halvings
        super().__init__(config.generator, latents + known, latents, facts.tracer_slots)
        self.halvings = halvings
        own = len(config.generator.channels) - 1 + config.generator.packed
        self.multiple = 2 ** (halvings + own)
        """Of voxels: what every side is padded to."""

    def forward(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """See the class; ``x_t`` and the output are ``(B, C, x, y, z)``."""
        known = padded(condition.known(), self.multiple)
        for _ in range(self.halvings):
            known = packed(known)
        return self.run((x_t, known), t, condition.tracer[:, 0])


@dataclass(frozen=True)
class _Coded:
    """One step of the autoencoder, in the coordinates of the frame."""

    x: Tensor
    mu: Tensor
    sigma: Tensor
    decoded: Tensor
    weight: Tensor
    """Of each voxel in the regional term: the brain."""


@dataclass(frozen=True)
class _Denoised:
    """One step of the diffusion; latents in units of their SD."""

    batch: Batch
    latents: Tensor
    target: Tensor
    prediction: Tensor
    clean: Tensor
    image: Tensor
    """The PET that ``clean`` decodes to, in [-1, 1]."""
    t: Tensor


class Latent(FramedMethod):
    """Latent diffusion: an autoencoder of PET, frozen, then conditional diffusion of its latents."""

    Config = LatentConfig
    deployed = ("autoencoder", "generator")

    def __init__(self, config: LatentConfig, facts: DataFacts) -> None:
        self.config, self.facts, self.frame, self.form = config, facts, Frame(facts), config.form()
        self.autoencoder, self.generator = Autoencoder(config.autoencoder), _LatentUNet(config, facts)
        self.networks = nn.ModuleDict({"autoencoder": self.autoencoder, "generator": self.generator})
        if config.adversarial_weight > 0:
            channels = config.autoencoder.latent_channels if config.adversarial_on == "latent" else 1
            self.networks["discriminator"] = Discriminator(config.discriminator, facts, channels)

    def phases(self) -> list[Phase]:
        """The autoencoder alone; then the critic, where there is one, and the U-Net."""
        c, net = self.config, self.networks
        first = Phase(
            "autoencoder", (net["autoencoder"],), self._autoencoder_loss, last_step=c.autoencoder_steps - 1
        )
        critic = [
            Phase("discriminator", (net["discriminator"],), self._discriminator_loss,
                  c.discriminator_lr_ratio, first_step=c.autoencoder_steps, detached=True)
        ] if "discriminator" in net else []  # fmt: skip
        second = Phase("generator", (net["generator"],), self._generator_loss, first_step=c.autoencoder_steps)
        return [first, *critic, second]

    def forward(self, batch: Batch, draws: Draws, step: int) -> _Coded | _Denoised:
        """Code and decode a sample of the posterior; later, draw ``t`` and noise for its mean, and predict."""
        x = self._voxels(batch.pet, batch.condition)
        if step < self.config.autoencoder_steps:
            mu, sigma = self.autoencoder.encode(x)
            decoded = self.autoencoder.decode(mu + sigma * draws.normal(mu))
            brain = (batch.condition.mri > -1).any(dim=1, keepdim=True).to(x)
            return _Coded(x, mu, sigma, decoded, padded(brain, self.generator.multiple))
        condition, form = batch.condition, self.form
        with torch.no_grad():
            mean, sd = self.autoencoder.units()
            latents = (self.autoencoder.encode(x)[0] - mean) / sd
        t = draws.integers(self.config.timesteps).to(latents.device)
        eps = draws.normal(latents)
        x_t = form.schedule.mix(latents, eps, t)
        prediction = form.predict(self.generator, x_t, t, condition)
        clean = form.clean(prediction, x_t, t, condition)
        target = form.target(latents, eps, t, condition)
        return _Denoised(batch, latents, target, prediction, clean, self._decoded(clean, condition), t)

    def _voxels(self, pet: Tensor, condition: Condition) -> Tensor:
        """What is coded: the PET in the frame's coordinates, padded."""
        return padded(self.frame.into(pet, condition), self.generator.multiple)

    def _decoded(self, latents: Tensor, condition: Condition) -> Tensor:
        """The PET in [-1, 1] of latents in units of their SD, ``(B, 1, X, Y, Z)``."""
        mean, sd = self.autoencoder.units()
        x, y, z = condition.mri.shape[2:]
        found = self.autoencoder.decode(mean + sd * latents)[:, :, :x, :y, :z]
        return self.frame.out_of(found, condition)

    def _autoencoder_loss(self, step: _Coded) -> Losses:
        """The L1 in voxels, the KL divergence from a standard normal, and the error over cubes."""
        c, mu, sigma = self.config, step.mu, step.sigma
        # Here, since a step's `forward` may run more than once: each batch is watched once.
        self.autoencoder.watch(mu)
        losses = {
            "voxels": functional.l1_loss(step.decoded, step.x),
            "kl": kl_divergence(mu, sigma),
        }
        total = losses["voxels"] + c.kl_weight * losses["kl"]
        if c.regional_weight:
            cube = max(1, round(REGION_MM / self.facts.voxel_mm))
            losses["regional"] = regional_error(step.decoded - step.x, step.weight, cube)
            total = total + c.regional_weight * losses["regional"]
        return {"total": total, **losses}

    def _generator_loss(self, step: _Denoised) -> Losses:
        """The squared error of the prediction, L_image and lambda L_adv."""
        c = self.config
        losses = {
            "target": functional.mse_loss(step.prediction, step.target),
            "image": functional.l1_loss(step.image, step.batch.pet),
        }
        total = losses["target"] + c.image_weight * losses["image"]
        if "discriminator" in self.networks:
            fake, real = self._judged(step)
            fake_logits = self._judge(fake, step)
            with torch.no_grad():
                real_logits = self._judge(real, step)
            loss = ADVERSARIAL_LOSSES[c.adversarial_loss].generator
            losses["adversarial"] = loss(fake_logits=fake_logits, real_logits=real_logits)
            total = total + c.adversarial_weight * losses["adversarial"]
        return {"total": total, **losses}

    def _discriminator_loss(self, step: _Denoised) -> Losses:
        """L_D and gamma/2 (R1 + R2)."""
        c = self.config
        fake, real = (volumes.detach().requires_grad_() for volumes in self._judged(step))
        fake_logits, real_logits = self._judge(fake, step), self._judge(real, step)
        loss = ADVERSARIAL_LOSSES[c.adversarial_loss].discriminator
        losses = {"adversarial": loss(real_logits=real_logits, fake_logits=fake_logits)}
        total = losses["adversarial"]
        if c.penalty_weight:
            losses["r1"] = gradient_penalty(real_logits, real)
            losses["r2"] = gradient_penalty(fake_logits, fake)
            total = total + c.penalty_weight / 2 * (losses["r1"] + losses["r2"])
        return {"total": total, **losses}

    def _judged(self, step: _Denoised) -> tuple[Tensor, Tensor]:
        """What was predicted, and what was measured."""
        if self.config.adversarial_on == "latent":
            return step.clean, step.latents
        return step.image, step.batch.pet

    def _judge(self, volumes: Tensor, step: _Denoised) -> Tensor:
        condition = step.batch.condition
        if self.config.adversarial_on == "latent":
            mri = functional.avg_pool3d(
                padded(condition.mri, self.generator.multiple), 2**self.generator.halvings
            )
            condition = Condition(mri, None, condition.tracer)
        logits: Tensor = self.networks["discriminator"](volumes, condition, step.t)
        return logits

    def reconstruct(self, pet: Tensor, condition: Condition) -> Tensor:
        """What the autoencoder leaves of a PET ``(B, 1, X, Y, Z)`` in [-1, 1]: the ceiling of samples."""
        mean, sd = self.autoencoder.units()
        mu, _ = self.autoencoder.encode(self._voxels(pet, condition))
        return self._decoded((mu - mean) / sd, condition)

    def sample(
        self, condition: Condition, settings: SampleSettings, draws: Draws, on_step: OnStep | None = None
    ) -> Tensor:
        """Walk from noise to latents, and decode them as they are."""
        form = self.form
        like = self.no_latents(condition)

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            return form.clean(form.predict(self.generator, x_t, t, condition), x_t, t, condition)

        def fresh() -> Tensor:
            return draws.normal(like)

        latents = walk_of(settings)(denoise, form.schedule, fresh, settings.steps, on_step)
        return self._decoded(latents, condition)

    def no_latents(self, condition: Condition) -> Tensor:
        """Zeros of the latents' shape."""
        known, multiple = condition.mri, self.generator.multiple
        sides = [(side + (-side) % multiple) // 2**self.generator.halvings for side in known.shape[2:]]
        return known.new_zeros((len(known), self.config.autoencoder.latent_channels, *sides))
