"""CRPS: samples in one call, from a generator that is trained by a proper score of two of them.

The score of a set of samples against the measured PET, the continuous ranked probability score, is lowest in
expectation where the samples come from the distribution of PET given the MRI (Gneiting and Raftery 2007,
doi:10.1198/016214506000001437). So neither a noise process nor a critic is needed. What is random is one latent vector
a sample, which joins the embedding of every block, as in FGN (Alet et al. 2025, arXiv:2506.10772); the score is the
almost fair one of AIFS-CRPS (Lang et al. 2024, arXiv:2412.15832), of voxels and of means over cubes of several sizes: a
score of voxels alone does not ask that neighbours be wrong together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from relapet.model.frame import Frame, FramedMethod
from relapet.model.generator import Generator, GeneratorConfig, in_one_call
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
from relapet.model.losses import cube_means, fair_crps, weighted_mean

SAMPLES = 2
"""Drawn of each training volume: the fewest that say how far apart they lie."""


class CrpsConfig(MethodConfig):
    """Settings of the one-call generator trained by a proper score."""

    name: Literal["crps"] = Field("crps", description="the method")
    generator: GeneratorConfig = Field(GeneratorConfig(), description="the U-Net")
    tracers: Targets = Field("one", description="tracers a call; one, or all: every one at once")
    latent: int = Field(32, ge=1, le=4096, description="length of the latent vector that samples differ by")
    fairness: float = Field(
        0.95,
        ge=0,
        le=1,
        description="1: the fair score, 0: that of the two samples themselves, between: almost fair",
    )
    cubes_mm: tuple[Annotated[float, Field(gt=0, le=200)], ...] = Field(
        (12.0, 24.0, 48.0), description="edges of the cubes whose means are scored beside voxels, mm"
    )
    regional_weight: float = Field(1.0, ge=0, description="weight of the score of each size of cubes")


@dataclass(frozen=True)
class _Step:
    batch: Batch
    samples: Tensor
    """In the frame, ``(M, B, K, X, Y, Z)``."""


class Crps(FramedMethod):
    """CRPS: samples in one call of the U-Net, trained by the fair score of two."""

    Config = CrpsConfig
    deployed = ("generator",)
    by_steps = False

    def __init__(self, config: CrpsConfig, facts: DataFacts) -> None:
        self.config, self.frame, self.targets = config, Frame(facts), config.tracers
        self.cubes = [max(1, round(edge / facts.voxel_mm)) for edge in config.cubes_mm]
        generator = Generator(config.generator, facts, self.targets, latent=config.latent)
        self.networks = nn.ModuleDict({"generator": generator})

    def phases(self) -> list[Phase]:
        """One player."""
        return [Phase("generator", (self.networks["generator"],), self._loss)]

    def forward(self, batch: Batch, draws: Draws, step: int) -> _Step:
        """Draw samples of each volume, in one call."""
        several = _repeated(batch.condition, SAMPLES)
        latent = torch.cat([draws.vector(self.config.latent) for _ in range(SAMPLES)]).to(batch.pet.device)
        x = in_one_call(self.networks["generator"], several, latent)
        return _Step(batch, x.reshape(SAMPLES, *batch.pet.shape))

    def _loss(self, step: _Step) -> Losses:
        """The score of voxels plus that of means over cubes, where a tracer is there."""
        batch = step.batch
        truth = self.frame.into(batch.pet, batch.condition)
        present = batch.weight()
        losses = {"voxels": weighted_mean(fair_crps(step.samples, truth, self.config.fairness), present)}
        brain = present * (batch.condition.mri > -1).any(dim=1, keepdim=True)
        for edge, cube in zip(self.config.cubes_mm, self.cubes, strict=True):
            of_truth, inside = cube_means(truth, brain, cube)
            of_samples = torch.stack([cube_means(sample, brain, cube)[0] for sample in step.samples])
            score = fair_crps(of_samples, of_truth, self.config.fairness)
            losses[f"cubes_{edge:g}mm"] = weighted_mean(score, inside)
        regional = sum(value for name, value in losses.items() if name != "voxels")
        return {"total": losses["voxels"] + self.config.regional_weight * regional, **losses}

    def sample(
        self, condition: Condition, settings: SampleSettings, draws: Draws, on_step: OnStep | None = None
    ) -> Tensor:
        """One call with one latent vector, whatever the settings say of steps."""
        latent = draws.vector(self.config.latent).to(condition.mri.device)
        volume = self.frame.out_of(in_one_call(self.networks["generator"], condition, latent), condition)
        if on_step is not None:
            on_step(1, 1)
        return volume


def _repeated(condition: Condition, times: int) -> Condition:
    """The same conditions several times over, one set after another."""
    prior = None if condition.prior is None else condition.prior.repeat(times, 1, 1, 1, 1)
    return Condition(condition.mri.repeat(times, 1, 1, 1, 1), prior, condition.tracer.repeat(times, 1))
