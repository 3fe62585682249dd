"""A toy of CycleGAN's shape: two generators on unpaired batches, a critic with a pool of past fakes that starts late.

Nothing is learnt with it; it shows that the house has room for such a method (Zhu et al. 2017, arXiv:1703.10593).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from relapet.model.interface import (
    Batch,
    Condition,
    DataFacts,
    Draws,
    Losses,
    Method,
    MethodConfig,
    OnStep,
    Phase,
    SampleSettings,
)

POOL = 3


class CycleConfig(MethodConfig):
    """Settings of the toy."""

    name: Literal["cycle"] = Field("cycle", description="the method")
    width: int = Field(4, ge=1, description="channels of every layer")


@dataclass(frozen=True)
class _Step:
    batch: Batch
    fake: Tensor
    back: Tensor
    replayed: Tensor


class Cycle(Method):
    """Two small generators that must undo each other, and a critic that sees fakes of the past."""

    Config = CycleConfig
    deployed = ("to_pet",)
    pairing = "unpaired"
    random = False

    def __init__(self, config: CycleConfig, facts: DataFacts) -> None:
        self.config = config
        self.networks = nn.ModuleDict(
            {
                "to_pet": _layers(2 + facts.tracer_slots, 1, config.width),
                "to_mri": _layers(1, 2, config.width),
                "critic": _layers(1, 1, config.width),
            }
        )
        self.slots = facts.tracer_slots
        self.pool: list[Tensor] = []

    def phases(self) -> list[Phase]:
        """Both generators under one optimiser; the critic from the third step on."""
        generators = (self.networks["to_pet"], self.networks["to_mri"])
        critic = Phase(
            "critic", (self.networks["critic"],), self._critic_loss, first_step=2, last_step=4, detached=True
        )
        return [critic, Phase("generators", generators, self._generator_loss)]

    def forward(self, batch: Batch, draws: Draws, step: int) -> _Step:
        """Translate there and back, and take a fake of the past for the critic."""
        fake = self._to_pet(batch.condition)
        back = self.networks["to_mri"](fake)
        replayed = fake.detach()
        if self.pool and draws.uniform()[0] < 0.5:
            replayed = self.pool[int(draws.integers(len(self.pool))[0])]
        self.pool = [*self.pool, fake.detach()][-POOL:]
        return _Step(batch, fake, back, replayed)

    def _to_pet(self, condition: Condition) -> Tensor:
        which = functional.one_hot(condition.tracer[:, 0], self.slots).to(condition.mri)
        maps = which[:, :, None, None, None].expand(-1, -1, *condition.mri.shape[2:])
        output: Tensor = self.networks["to_pet"](torch.cat([condition.mri, maps], dim=1))
        return output.tanh()

    def _generator_loss(self, step: _Step) -> Losses:
        cycle = functional.l1_loss(step.back, step.batch.condition.mri)
        fooled = functional.softplus(-self.networks["critic"](step.fake)).mean()
        return {"total": 10 * cycle + fooled, "cycle": cycle}

    def _critic_loss(self, step: _Step) -> Losses:
        critic = self.networks["critic"]
        real, fake = critic(step.batch.pet), critic(step.replayed)
        return {"total": functional.softplus(-real).mean() + functional.softplus(fake).mean()}

    def sample(
        self, condition: Condition, settings: SampleSettings, draws: Draws, on_step: OnStep | None = None
    ) -> Tensor:
        """One call."""
        if on_step is not None:
            on_step(1, 1)
        return self._to_pet(condition).float()

    def state_dict(self) -> dict[str, Any]:
        """The pool."""
        return {"pool": self.pool}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The pool."""
        self.pool = list(state["pool"])


def _layers(width_in: int, width_out: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(width_in, width, 3, padding=1), nn.ReLU(), nn.Conv3d(width, width_out, 3, padding=1)
    )
