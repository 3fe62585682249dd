"""A pool of past fakes, of which a critic is shown some: so it does not forget what it has learnt to tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from relapet.model.interface import Draws


@dataclass
class FakePool:
    """Volumes with their tracers, at most ``size`` (Shrivastava et al. 2017, arXiv:1612.07828; Zhu et al. 2017)."""

    size: int
    volumes: list[Tensor] = field(default_factory=list)
    """``(C, X, Y, Z)`` each."""
    tracers: list[Tensor] = field(default_factory=list)
    """``(1,)`` each."""

    def exchange(self, volumes: Tensor, tracers: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Each volume ``(B, C, X, Y, Z)`` or, half of the time once the pool is full, one of it, which it replaces."""
        if self.size == 0:
            return volumes, tracers
        shown, told = [], []
        chances, places = draws.uniform().tolist(), draws.integers(self.size).tolist()
        for volume, tracer, chance, place in zip(volumes.detach(), tracers, chances, places, strict=True):
            if len(self.volumes) < self.size:
                self.volumes.append(volume)
                self.tracers.append(tracer)
            elif chance < 0.5:
                self.volumes[place], volume = volume, self.volumes[place].to(volume.device)
                self.tracers[place], tracer = tracer, self.tracers[place].to(tracer.device)
            shown.append(volume)
            told.append(tracer)
        return torch.stack(shown), torch.stack(told)

    def state_dict(self) -> dict[str, Any]:
        """What is in it."""
        return {"volumes": self.volumes, "tracers": self.tracers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what `state_dict` gave; raises KeyError or ValueError for another pool's."""
        volumes, tracers = list(state["volumes"]), list(state["tracers"])
        if len(volumes) != len(tracers) or len(volumes) > self.size:
            raise ValueError("the pool of fakes is of another training")
        self.volumes, self.tracers = volumes, tracers
