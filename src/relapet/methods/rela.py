"""RelA-Diffusion: conditional diffusion with an image-level L1 and a relativistic adversarial loss at every t.

Source: Yu et al. 2026, arXiv:2602.21345. With ``adversarial_weight: 0`` it is FICD (arXiv:2405.02504).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from relapet.model.centre import Centre, CentreFinder
from relapet.model.critic import (
    Judge,
    critic_losses,
    generator_loss,
    nothing_to_judge,
    singly,
    told_singly,
)
from relapet.model.diffusion import scaled_linear_schedule
from relapet.model.discriminator import Discriminator, DiscriminatorConfig
from relapet.model.generator import Generator, GeneratorConfig
from relapet.model.interface import (
    Batch,
    Beta,
    Condition,
    DataFacts,
    Draws,
    Losses,
    Method,
    MethodConfig,
    OnStep,
    Phase,
    SampleSettings,
    Targets,
    adam,
)
from relapet.model.losses import (
    ADVERSARIAL_LOSSES,
    AdversarialKind,
    PenaltyReduction,
    annealed,
    regional_error,
    weighted_mean,
)
from relapet.model.noise import REGION_MM, NoiseShape, noise_of_remainders
from relapet.model.parametrisation import Prediction, Remainder, parametrised
from relapet.model.samplers import walk_of


class RelaConfig(MethodConfig):
    """Settings of RelA-Diffusion."""

    name: Literal["rela"] = Field("rela", description="the method")
    generator: GeneratorConfig = Field(GeneratorConfig(), description="the U-Net")
    discriminator: DiscriminatorConfig = Field(DiscriminatorConfig(), description="the critic, for training")
    timesteps: int = Field(1000, ge=2, le=100_000, description="T, the length of the noise schedule")
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
    noise: Literal["white", "shaped"] = Field(
        "white",
        description="white: as published; shaped: of the covariance of what the prior leaves, which is then what is "
        "predicted (needs data.prior)",
    )
    tracers: Targets = Field("one", description="tracers a call; one: as published; all: every one at once")
    mean_share: float = Field(
        0,
        ge=0,
        lt=1,
        description="share of training volumes at pure noise of which nothing is shown: one call then gives the "
        "conditional mean (shaped noise)",
    )
    centred: bool = Field(
        False,
        description="show the network also how MRI and prior differ from their training means: what is a person's own "
        "is small beside what all brains share (shaped noise, all tracers)",
    )
    start_at_mean: bool = Field(
        False,
        description="with mean_share: take the conditional mean for what the network would say of pure noise, a call "
        "fewer a sample",
    )
    regional_weight: float = Field(0, ge=0, description="weight of the error over 24 mm cubes (shaped noise)")
    target_weight: float = Field(1.0, ge=0, description="weight of the prediction's squared error (L_noise)")
    image_weight: float = Field(1.0, ge=0, description="weight of L_image, the L1 on the clean prediction")
    adversarial_weight: float = Field(1.0, ge=0, description="lambda, of the adversarial term; 0: off")
    adversarial_start: int = Field(0, ge=0, description="first step with the adversarial term")
    adversarial_on: Literal["image", "remainder"] = Field(
        "image",
        description="what the critic judges: the PET, as published, or what it adds to the prior, in units of its size "
        "(shaped noise)",
    )
    adversarial_loss: AdversarialKind = Field("relativistic", description="or standard: non-saturating")
    penalty_weight: float = Field(1e-3, ge=0, description="gamma, weight of R1 + R2; 0: off")
    penalty_reduction: PenaltyReduction = Field(
        "full", description="full: the squared norm as defined; released: as published, Z times weaker"
    )
    penalty_anneal_steps: int = Field(0, ge=0, description="steps in which gamma falls ten-fold; 0: constant")
    discriminator_lr_ratio: float = Field(0.1, gt=0, description="learning rate of the critic over train.lr")
    discriminator_betas: tuple[Beta, Beta] = Field((0.9, 0.999), description="Adam's betas of the critic")

    @model_validator(mode="after")
    def _check(self) -> RelaConfig:
        if self.residual_sd and self.prediction != "x0":
            raise ValueError(f"residual_sd needs prediction: x0, not {self.prediction}")
        if self.noise == "white" and (self.mean_share or self.regional_weight):
            raise ValueError("mean_share and regional_weight need noise: shaped")
        if self.adversarial_on == "remainder" and self.noise == "white":
            raise ValueError("adversarial_on: remainder needs noise: shaped")
        if self.centred and (self.noise == "white" or self.tracers == "one"):
            raise ValueError("centred needs noise: shaped and tracers: all")
        if self.noise == "shaped" and (self.residual_sd or self.prediction != "x0"):
            raise ValueError("noise: shaped preconditions by itself; leave prediction and residual_sd out")
        return self

    @property
    def most_sample_steps(self) -> int:
        """A step leads from one timestep to another."""
        return self.timesteps

    @property
    def least_participants(self) -> int:
        """What a prior leaves of one participant alone is nothing, and noise has the shape of what is left."""
        return 2 if self.noise == "shaped" else 1

    @property
    def priors(self) -> tuple[str, ...]:
        """Noise of the shape of what a prior leaves needs one."""
        return ("mean", "linear") if self.noise == "shaped" else ("none", "mean", "linear")


_CENTRE = "centre"
"""What the names of the training means begin with among what was fitted."""


def _parts(found: Mapping[str, Tensor], start: str) -> dict[str, Tensor]:
    return {name.partition(".")[2]: t for name, t in found.items() if name.startswith(f"{start}.")}


@dataclass(frozen=True)
class _Step:
    """What the two players share within one training step."""

    batch: Batch
    weight: Tensor | None
    """Of each voxel in the losses, broadcast to ``(B, K, X, Y, Z)``; None: all count the same."""
    target: Tensor
    prediction: Tensor
    x0_hat: Tensor
    t: Tensor
    judged: Tensor
    """Volumes that the critic may look at, ``(B, K)``: a PET that is there, and predicted from something shown."""
    number: int
    """Of the training step, from 0."""


class Rela(Method):
    """RelA-Diffusion: diffusion with an L1 on the clean prediction and a relativistic critic at every timestep."""

    Config = RelaConfig
    deployed = ("generator",)

    def __init__(self, config: RelaConfig, facts: DataFacts) -> None:
        self.config, self.facts, self.targets = config, facts, config.tracers
        self.schedule = scaled_linear_schedule(config.timesteps, config.beta_first, config.beta_last)
        self.noise: dict[int, NoiseShape] = {}
        self.parametrisation = (
            Remainder(self.schedule, "x0", self.noise)
            if config.noise == "shaped"
            else parametrised(self.schedule, config.prediction, facts.prior, config.residual_sd)
        )
        generator = Generator(config.generator, facts, self.targets, own=config.centred)
        self.networks = nn.ModuleDict({"generator": generator})
        self.loss = ADVERSARIAL_LOSSES[config.adversarial_loss]
        if config.adversarial_weight > 0:
            self.networks["discriminator"] = Discriminator(config.discriminator, facts)

    @property
    def _generator(self) -> Generator:
        generator = self.networks["generator"]
        assert isinstance(generator, Generator)
        return generator

    def fit(self, training: Iterable[Batch]) -> None:
        """Find the shape of what the prior leaves, and what MRI and prior are on average."""
        if self.config.noise == "white":
            return
        finder = CentreFinder()
        self.noise.update(noise_of_remainders(finder.watch(training), self.facts.voxel_mm))
        if self.config.centred:
            self._generator.centre = finder.found()

    def fitted(self) -> dict[str, Tensor]:
        """The noise's shape of each tracer, by its index, and the training means."""
        shapes = {str(index): shape.to_tensors() for index, shape in self.noise.items()}
        if self._generator.centre is not None:
            shapes[_CENTRE] = self._generator.centre.to_tensors()
        return {
            f"{start}.{name}": tensor for start, found in shapes.items() for name, tensor in found.items()
        }

    def load_fitted(self, found: Mapping[str, Tensor]) -> None:
        """Take the noise's shapes; raises KeyError or ValueError where they are another method's."""
        if self.config.noise == "white":
            super().load_fitted(found)
            return
        if self.config.centred:
            self._generator.centre = Centre.from_tensors(_parts(found, _CENTRE), self.facts.shape)
        for index in sorted({name.partition(".")[0] for name in found} - {_CENTRE}):
            parts = _parts(found, index)
            self.noise[int(index)] = NoiseShape.from_tensors(parts, self.facts.shape, self.facts.voxel_mm)

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
        """Draw ``t`` and noise, and predict."""
        condition, form = batch.condition, self.parametrisation
        t = draws.integers(self.config.timesteps).to(batch.pet.device)
        eps, there = form.fresh(draws, condition), batch.present
        if self.config.mean_share:
            blank = (draws.uniform() < self.config.mean_share).to(t.device)
            t = torch.where(blank, self.config.timesteps - 1, t)
            eps = torch.where(blank[:, None, None, None, None], 0.0, eps)
            there = there & ~blank[:, None]
        x_0 = form.walked(batch.pet, condition)
        # In place of a tracer that is not there, or not shown, stands noise alone: no -1 may pose as its PET.
        x_t = torch.where(there[:, :, None, None, None], self.schedule.mix(x_0, eps, t), eps)
        prediction = form.predict(self.networks["generator"], x_t, t, condition)
        x0_hat = form.finished(form.clean(prediction, x_t, t, condition), condition)
        target = form.target(x_0, eps, t, condition)
        return _Step(batch, self._weight(batch), target, prediction, x0_hat, t, there, step)

    def _weight(self, batch: Batch) -> Tensor | None:
        """Voxels of tracers that are there; beside shaped noise, which is the brain's, those of the brain."""
        present = batch.weight()
        if self.config.noise == "shaped":
            return present * (batch.condition.mri > -1).any(dim=1, keepdim=True)
        return present if self.targets == "all" else None

    def _generator_loss(self, step: _Step) -> Losses:
        """L_G = L_noise + L_image + lambda L_advG."""
        c = self.config
        losses = {
            "target": weighted_mean((step.prediction - step.target).square(), step.weight),
            "image": weighted_mean((step.x0_hat - step.batch.pet).abs(), step.weight),
        }
        total = c.target_weight * losses["target"] + c.image_weight * losses["image"]
        if c.regional_weight and step.weight is not None:
            error, cube = step.prediction - step.target, max(1, round(REGION_MM / self.facts.voxel_mm))
            losses["regional"] = regional_error(error, step.weight, cube)
            total = total + c.regional_weight * losses["regional"]
        if "discriminator" in self.networks and step.number >= c.adversarial_start and step.judged.any():
            fake, real, judge = self._judged(step)
            losses["adversarial"] = generator_loss(judge, self.loss, fake, real)
            total = total + c.adversarial_weight * losses["adversarial"]
        return {"total": total, **losses}

    def _discriminator_loss(self, step: _Step) -> Losses:
        """L_D = softplus(-(D(x_0) - D(x0_hat))) + gamma/2 (R1 + R2)."""
        c = self.config
        if not step.judged.any():
            return {"total": nothing_to_judge(self.networks["discriminator"])}
        fake, real, judge = self._judged(step)
        gamma = annealed(c.penalty_weight, step.number - c.adversarial_start, c.penalty_anneal_steps)
        return critic_losses(judge, self.loss, fake, real, gamma, reduction=c.penalty_reduction)

    def _judged(self, step: _Step) -> tuple[Tensor, Tensor, Judge]:
        """Predicted and measured PET as the critic sees them, and the critic: one tracer a volume.

        Where nothing was shown the prediction is a mean, which is not to look like a PET.
        """
        batch, kept = step.batch, step.judged
        fake, real = (singly(self._looked_at(pet, batch.condition), kept) for pet in (step.x0_hat, batch.pet))
        condition, t = told_singly(batch.condition, step.t, kept)
        return fake, real, partial(self.networks["discriminator"], condition=condition, t=t)

    def _looked_at(self, pet: Tensor, condition: Condition) -> Tensor:
        """Of a PET, what the critic is shown."""
        form = self.parametrisation
        if self.config.adversarial_on == "image" or not isinstance(form, Remainder):
            return pet
        return form.walked(pet, condition) / form.scale(condition)

    @property
    def gives_mean(self) -> bool:
        """Where training showed nothing at times."""
        return self.config.mean_share > 0

    @property
    def knows_start(self) -> bool:
        """Where the mean is known and is to stand for the answer to pure noise."""
        return self.gives_mean and self.config.start_at_mean

    def expected(self, condition: Condition) -> Tensor | None:
        """One call at t = T - 1 with nothing shown, which training makes the conditional mean."""
        if not self.gives_mean:
            return None
        nothing = condition.volumes()
        t = torch.full((len(nothing),), self.config.timesteps - 1, device=nothing.device)
        return self._clean(nothing, t, condition)

    def _clean(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The PET in [-1, 1]."""
        form = self.parametrisation
        prediction = form.predict(self.networks["generator"], x_t, t, condition)
        return form.finished(form.clean(prediction, x_t, t, condition), condition)

    def sample(
        self, condition: Condition, settings: SampleSettings, draws: Draws, on_step: OnStep | None = None
    ) -> Tensor:
        """Walk from noise to a volume, about the mean where the model gives one: few steps then keep that mean."""
        form = self.parametrisation
        mean = self.expected(condition) if condition.mean is None else condition.mean
        centre = None if mean is None else form.walked(mean, condition)

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            if centre is None:
                return form.walked(self._clean(x_t, t, condition), condition)
            signal, _ = self.schedule.signal_and_noise(t, x_t)
            if starts:
                starts.clear()
                # In noise of its own covariance about the mean that is what x_t tells: next to nothing.
                clean = form.finished(signal * x_t + centre, condition)
            else:
                clean = self._clean(x_t + signal * centre, t, condition)
            return form.walked(clean, condition) - centre

        starts = [True] * self.knows_start
        walk = walk_of(settings)
        x_0 = walk(denoise, self.schedule, lambda: form.fresh(draws, condition), settings.steps, on_step)
        return form.finished(x_0 if centre is None else x_0 + centre, condition)
