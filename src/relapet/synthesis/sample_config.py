"""Settings of synthesis."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from relapet.settings import Settings


class SampleConfig(Settings):
    """How volumes are synthesised from a trained run."""

    sampler: Literal["ddim", "ddpm", "flow", "dpmpp", "heun"] = Field(
        "ddim", description="sampler, see relapet info samplers"
    )
    steps: int = Field(
        10, ge=1, description="steps a sample; one network call each, with heun two but for the last"
    )
    eta: float = Field(
        0, ge=0, le=1, description="noise that ddim draws anew in each step; 0: none, 1: as much as ddpm"
    )
    count: int = Field(
        1,
        ge=1,
        le=1000,
        description="samples a volume: for their SD (of two or more), and their mean where the model gives none itself",
    )
    seed: int = Field(0, ge=0, description="seed of the noise that samples start from")

    @model_validator(mode="after")
    def _check(self) -> SampleConfig:
        if self.eta and self.sampler != "ddim":
            raise ValueError(f"eta is {self.eta:g}, which is ddim's alone; leave it at 0 with {self.sampler}")
        return self
