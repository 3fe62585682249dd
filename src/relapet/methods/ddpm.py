"""DDPM: conditional diffusion with the squared error of the noise, as multi-tracer PET synthesis began with it.

Ho et al. 2020, arXiv:2006.11239, equation 14 (the simple loss), conditioned by concatenation as Saharia et al. 2022,
arXiv:2104.07636. With MRI of several sequences and the tracer as the condition it has the form of MTGD, one of the
methods that Yu et al. 2026, arXiv:2602.21345, compare with.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from relapet.model.denoising import Denoised, DenoisingMethod, DiffusionConfig
from relapet.model.interface import DataFacts, Losses


class DdpmConfig(DiffusionConfig):
    """Settings of the conditional diffusion model."""

    name: Literal["ddpm"] = Field("ddpm", description="the method")


class Ddpm(DenoisingMethod):
    """DDPM: diffusion in white noise, trained by the squared error of what it predicts."""

    Config = DdpmConfig

    def __init__(self, config: DdpmConfig, facts: DataFacts) -> None:
        super().__init__(config, facts, config.form())

    def losses(self, step: Denoised) -> Losses:
        """``|prediction - target|^2``, mean over voxels."""
        return {"total": step.squared()}
