"""Latent diffusion: an autoencoder of PET first, then conditional diffusion on the coarse grid of what it codes.

Rombach et al. 2022, arXiv:2112.10752: a variational autoencoder with a KL term of small weight, frozen, and a denoising
U-Net on its latents. The variant for speed of RelA-Diffusion (Yu et al. 2026, arXiv:2602.21345): L1 on the decoded
clean prediction, and a relativistic critic where it is turned on. Here a volume's latents are the posterior's mean, of
which no noise is drawn, each channel in units of its own SD; what a decoder gives of them is the method's ceiling.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from relapet.model.autoencoder import Autoencoder, AutoencoderConfig, kl_divergence, padded
from relapet.model.critic import Judge, critic_losses, generator_loss, singly, told_singly
from relapet.model.denoising import DiffusionConfig, where_present
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
from relapet.model.losses import ADVERSARIAL_LOSSES, AdversarialKind, regional_error, weighted_mean
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
        halvings, count = config.autoencoder.halvings, facts.tracers if config.tracers == "all" else 1
        latents, known = count * config.autoencoder.latent_channels, (2 + count * facts.prior) * 8**halvings
        self.embedded = config.tracers == "one"
        super().__init__(
            config.generator, latents + known, latents, facts.tracer_slots if self.embedded else None
        )
        self.halvings = halvings
        own = len(config.generator.channels) - 1 + config.generator.packed
        self.multiple = 2 ** (halvings + own)
        """Of voxels: what every side is padded to."""

    def forward(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """See the class; ``x_t`` and the output are ``(B, K C, x, y, z)``."""
        known = padded(condition.known(), self.multiple)
        for _ in range(self.halvings):
            known = packed(known)
        return self.run((x_t, known), t, condition.tracer[:, 0] if self.embedded else None)


@dataclass(frozen=True)
class _Coded:
    """One step of the autoencoder, in the coordinates of the frame: the PET that is there, one tracer a volume."""

    x: Tensor
    mu: Tensor
    sigma: Tensor
    decoded: Tensor
    weight: Tensor
    """Of each voxel in the regional term: the brain."""


@dataclass(frozen=True)
class _Denoised:
    """One step of the diffusion; latents in units of their SD, ``(B, K C, x, y, z)``."""

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
        self.targets, self.loss = config.tracers, ADVERSARIAL_LOSSES[config.adversarial_loss]
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
        condition, there = batch.condition, batch.present
        x = self._voxels(batch.pet, condition)
        if step < self.config.autoencoder_steps:
            x = singly(x, there)
            mu, sigma = self.autoencoder.encode(x)
            noise = self._of_each(draws.normal(self.no_latents(condition)))[there.flatten()]
            decoded = self.autoencoder.decode(mu + sigma * noise)
            brain = (condition.mri > -1).any(dim=1, keepdim=True).to(x)
            weight = singly(brain.expand(*there.shape, *brain.shape[2:]), there)
            return _Coded(x, mu, sigma, decoded, padded(weight, self.generator.multiple))
        form = self.form
        with torch.no_grad():
            latents = self._latents(x)
        t = draws.integers(self.config.timesteps).to(latents.device)
        eps = draws.normal(latents)
        x_t = where_present(batch, form.schedule.mix(latents, eps, t), eps)
        prediction = form.predict(self.generator, x_t, t, condition)
        clean = form.clean(prediction, x_t, t, condition)
        target = form.target(latents, eps, t, condition)
        return _Denoised(batch, latents, target, prediction, clean, self._decoded(clean, condition), t)

    def _of_each(self, latents: Tensor) -> Tensor:
        """Latents of each tracer for itself: ``(B, K C, x, y, z)`` to ``(B K, C, x, y, z)``."""
        return latents.reshape(-1, self.config.autoencoder.latent_channels, *latents.shape[2:])

    def _latents(self, x: Tensor) -> Tensor:
        """What is coded of padded volumes ``(B, K, X, Y, Z)``, in units of its SD, ``(B, K C, x, y, z)``."""
        mean, sd = self.autoencoder.units()
        mu, _ = self.autoencoder.encode(x.flatten(0, 1)[:, None])
        return ((mu - mean) / sd).reshape(len(x), -1, *mu.shape[2:])

    def _voxels(self, pet: Tensor, condition: Condition) -> Tensor:
        """What is coded: the PET in the frame's coordinates, padded."""
        return padded(self.frame.into(pet, condition), self.generator.multiple)

    def _decoded(self, latents: Tensor, condition: Condition) -> Tensor:
        """The PET in [-1, 1] of latents in units of their SD, ``(B, K, X, Y, Z)``."""
        mean, sd = self.autoencoder.units()
        x, y, z = condition.mri.shape[2:]
        decoded = self.autoencoder.decode(mean + sd * self._of_each(latents))
        found = decoded.reshape(len(latents), -1, *decoded.shape[2:])[:, :, :x, :y, :z]
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
        weight = step.batch.weight()
        of_latents = weight.repeat_interleave(c.autoencoder.latent_channels, dim=1)
        losses = {
            "target": weighted_mean((step.prediction - step.target).square(), of_latents),
            "image": weighted_mean((step.image - step.batch.pet).abs(), weight),
        }
        total = losses["target"] + c.image_weight * losses["image"]
        if "discriminator" in self.networks:
            fake, real, judge = self._judged(step)
            losses["adversarial"] = generator_loss(judge, self.loss, fake, real)
            total = total + c.adversarial_weight * losses["adversarial"]
        return {"total": total, **losses}

    def _discriminator_loss(self, step: _Denoised) -> Losses:
        """L_D and gamma/2 (R1 + R2)."""
        fake, real, judge = self._judged(step)
        return critic_losses(judge, self.loss, fake, real, self.config.penalty_weight)

    def _judged(self, step: _Denoised) -> tuple[Tensor, Tensor, Judge]:
        """What was predicted and what was measured, one tracer a volume, and the critic."""
        kept = step.batch.present
        condition, t = told_singly(step.batch.condition, step.t, kept)
        fake, real = singly(step.image, kept), singly(step.batch.pet, kept)
        if self.config.adversarial_on == "latent":
            fake, real = (self._of_each(volumes)[kept.flatten()] for volumes in (step.clean, step.latents))
            mri = padded(condition.mri, self.generator.multiple)
            mri = functional.avg_pool3d(mri, 2**self.generator.halvings)
            condition = Condition(mri, None, condition.tracer)
        return fake, real, partial(self.networks["discriminator"], condition=condition, t=t)

    def reconstruct(self, pet: Tensor, condition: Condition) -> Tensor:
        """What the autoencoder leaves of a PET ``(B, K, X, Y, Z)`` in [-1, 1]: the ceiling of samples."""
        return self._decoded(self._latents(self._voxels(pet, condition)), condition)

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
        """Zeros of the latents' shape, ``(B, K C, x, y, z)``."""
        known, multiple = condition.mri, self.generator.multiple
        sides = [(side + (-side) % multiple) // 2**self.generator.halvings for side in known.shape[2:]]
        volumes, count = condition.tracer.shape
        return known.new_zeros((volumes, count * self.config.autoencoder.latent_channels, *sides))
