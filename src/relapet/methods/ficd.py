"""FICD: conditional diffusion whose intermediate clean prediction is held to the measured PET by an L1.

Yu et al. 2024, arXiv:2405.02504: L = |eps - eps_hat|^2 + |x_0 - x0_hat|_1 at every timestep. Without the second term
it is DDPM. With the relativistic critic of Yu et al. 2026, arXiv:2602.21345, and without a prior it is RelA-Diffusion.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from relapet.model.denoising import Denoised, DenoisingMethod, DiffusionConfig
from relapet.model.interface import DataFacts, Losses
from relapet.model.losses import weighted_mean


class FicdConfig(DiffusionConfig):
    """Settings of FICD."""

    name: Literal["ficd"] = Field("ficd", description="the method")
    image_weight: float = Field(1.0, ge=0, description="weight of L_image, the L1 on the clean prediction")


class Ficd(DenoisingMethod):
    """FICD: diffusion in white noise, with an L1 on the clean prediction at every timestep."""

    Config = FicdConfig
    config: FicdConfig

    def __init__(self, config: FicdConfig, facts: DataFacts) -> None:
        super().__init__(config, facts, config.form())

    def losses(self, step: Denoised) -> Losses:
        """``|prediction - target|^2 + weight |x0_hat - PET|``, means over voxels."""
        target = step.squared()
        image = weighted_mean((step.x0_hat - step.batch.pet).abs(), step.batch.weight())
        return {"total": target + self.config.image_weight * image, "target": target, "image": image}
