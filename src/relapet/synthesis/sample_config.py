"""Settings of synthesis."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from relapet.settings import Settings


class SampleConfig(Settings):
    """How volumes are synthesised from a trained run."""

    sampler: Literal["ddim", "ddpm", "flow"] = Field("ddim", description="sampler, see relapet info samplers")
    steps: int = Field(10, ge=1, description="network calls a sample")
    count: int = Field(
        1,
        ge=1,
        le=1000,
        description="samples a volume: for their SD (of two or more), and their mean where the model gives none itself",
    )
    seed: int = Field(0, ge=0, description="seed of the noise that samples start from")
