"""Rectified flow: a straight path from noise to PET, and the network learns its velocity.

Liu et al. 2022, arXiv:2209.03003, and Lipman et al. 2022, arXiv:2210.02747 (its straight path with sigma_min 0):
x_u = (1 - u) x_0 + u eps, and v(x_u, u, c) is to be eps - x_0, by squared error with u uniform, here over T values. A
sample follows v from u = 1 to 0; Euler's steps, which are theirs, are what `ddim` takes on this path.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field
from torch import Tensor

from relapet.model.denoising import Denoised, DenoisingConfig, DenoisingMethod
from relapet.model.interface import Condition, DataFacts, Losses
from relapet.model.parametrisation import Network
from relapet.model.paths import GaussianPath, straight_path


class RectifiedFlowConfig(DenoisingConfig):
    """Settings of rectified flow."""

    name: Literal["rectified_flow"] = Field("rectified_flow", description="the method")


@dataclass(frozen=True)
class Velocity:
    """The network's output is the velocity of the path."""

    schedule: GaussianPath

    def predict(self, network: Network, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The velocity, ``(B, K, X, Y, Z)``."""
        return network(x_t, t, condition)

    def target(self, x_0: Tensor, eps: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """``eps - x_0``."""
        return eps - x_0

    def clean(self, prediction: Tensor, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """``x_u - u v``."""
        _, u = self.schedule.signal_and_noise(t, x_t)
        return x_t - u * prediction


class RectifiedFlow(DenoisingMethod):
    """Rectified flow: the velocity of straight paths from noise to PET, by squared error."""

    Config = RectifiedFlowConfig

    def __init__(self, config: RectifiedFlowConfig, facts: DataFacts) -> None:
        super().__init__(config, facts, Velocity(straight_path(config.timesteps)))

    def losses(self, step: Denoised) -> Losses:
        """``|v - (eps - x_0)|^2``, mean over voxels."""
        return {"total": step.squared()}
