"""Linear: the closed-form prior alone, the first bar that a network must clear.

Schulz et al. 2020 (doi:10.1038/s41467-020-18037-z): linear models match deep ones on brain images up to thousands
of participants. What it computes is in `relapet.prior`; a run fits it from its training participants (data.prior) and
hands it to every method that asks, so that here nothing is left but to give it back.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from relapet.model.interface import Condition, DataFacts, Draws, Method, MethodConfig, OnStep, SampleSettings


class LinearConfig(MethodConfig):
    """Settings of the closed-form regression; those of its fit are under data."""

    name: Literal["linear"] = Field("linear", description="the method")

    @property
    def priors(self) -> tuple[str, ...]:
        """It is the linear prior."""
        return ("linear",)


class Linear(Method):
    """Closed-form regression: a ridge at each voxel on local MRI, and a ridge over participants on the whole of it."""

    Config = LinearConfig
    random = False

    def __init__(self, config: LinearConfig, facts: DataFacts) -> None:
        self.config = config
        self.networks = nn.ModuleDict()

    def sample(
        self, condition: Condition, settings: SampleSettings, draws: Draws, on_step: OnStep | None = None
    ) -> Tensor:
        """The prior."""
        if condition.prior is None:
            raise ValueError("the method linear needs data.prior: linear")
        if on_step is not None:
            on_step(1, 1)
        return condition.prior
