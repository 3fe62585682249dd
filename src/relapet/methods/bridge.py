"""Bridge: diffusion that starts at the prior, or at the T1w where there is none, in place of noise.

BBDM, Li et al. 2023, arXiv:2205.07680: a Brownian bridge leads from the PET x_0 to the image that is known, y,

    x_t = (1 - m_t) x_0 + m_t y + sqrt(2 s (m_t - m_t^2)) eps

and the network learns x_t - x_0, by squared error. A sample walks back by the bridge's own posterior, which is what
`ddpm` draws from. With a constant rate of noise it is the bridge of I2SB, Liu et al. 2023, arXiv:2302.05872. Here it
spans volumes, where BBDM's spans the latents of an autoencoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field
from torch import Tensor

from relapet.model.denoising import Denoised, DenoisingConfig, DenoisingMethod
from relapet.model.frame import Frame
from relapet.model.interface import Condition, DataFacts, Losses
from relapet.model.parametrisation import Network
from relapet.model.paths import GaussianPath, brownian_bridge


class BridgeConfig(DenoisingConfig):
    """Settings of the Brownian bridge."""

    name: Literal["bridge"] = Field("bridge", description="the method")
    variance: float = Field(
        1.0,
        gt=0,
        description="s: half of it is the variance in the middle of the bridge, 1 being half the SUVr window or, with "
        "a prior, the SD of what it leaves",
    )


class BridgeFrame(Frame):
    """A frame whose origin is where the bridge ends: the prior, or the T1w where there is none."""

    def origin(self, condition: Condition) -> Tensor | float:
        """The image that is known, ``(B, 1, X, Y, Z)``."""
        return super().origin(condition) if self.prior else condition.mri[:, :1]


@dataclass(frozen=True)
class Departure:
    """The network's output is how far ``x_t`` is from ``x_0``, both about the bridge's end."""

    schedule: GaussianPath
    frame: BridgeFrame

    def predict(self, network: Network, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The difference, ``(B, 1, X, Y, Z)``; the network is shown the image between, or its remainder."""
        shown = x_t if self.frame.prior else self.frame.free(x_t, condition)
        return network(shown, t, condition)

    def target(self, x_0: Tensor, eps: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """``m_t (y - x_0) + sqrt(2 s (m_t - m_t^2)) eps``."""
        return self.schedule.mix(x_0, eps, t) - x_0

    def clean(self, prediction: Tensor, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """``x_t`` minus the difference."""
        return x_t - prediction


class Bridge(DenoisingMethod):
    """Bridge: a Brownian bridge from the PET to the prior or the T1w, walked back."""

    Config = BridgeConfig

    def __init__(self, config: BridgeConfig, facts: DataFacts) -> None:
        frame = BridgeFrame(facts)
        form = Departure(brownian_bridge(config.timesteps, config.variance), frame)
        super().__init__(config, facts, form, frame)

    def losses(self, step: Denoised) -> Losses:
        """``|difference - (x_t - x_0)|^2``, mean over voxels."""
        return {"total": step.squared()}
