"""What is a person's own in MRI and prior: how they differ from the training means.

What all brains share is most of an image and tells nothing of who has how much of a tracer's target. A network that is
shown only images must first learn to take it off.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from relapet.model.interface import Batch, Condition

_MOST = 8.0
"""SDs beyond which a difference is clipped: a lesion must not drown what else there is."""


@dataclass(frozen=True)
class Centre:
    """Means and SDs of the channels of a condition, MRI first, then the prior of each tracer."""

    mean: Tensor
    """``(C, X, Y, Z)``."""
    sd: Tensor
    """Root mean square over voxels of the SD over people, ``(C,)``."""

    def shown(self, condition: Condition) -> Condition:
        """The condition with `Condition.own`."""
        mean, sd = (tensor.to(condition.mri.device) for tensor in (self.mean, self.sd))
        own = (condition.known() - mean.float()) / sd[:, None, None, None]
        return replace(condition, own=own.clamp(-_MOST, _MOST))

    def to_tensors(self) -> dict[str, Tensor]:
        """What `from_tensors` takes."""
        return {"mean": self.mean, "sd": self.sd}

    @classmethod
    def from_tensors(cls, found: Mapping[str, Tensor], shape: Sequence[int]) -> Centre:
        """The centre of `to_tensors`; raises KeyError or ValueError where it is none of this grid."""
        mean, sd = found["mean"], found["sd"].float()
        if mean.ndim != 4 or tuple(mean.shape[1:]) != tuple(shape) or sd.shape != mean.shape[:1]:
            raise ValueError("the training means are of another grid")
        if not (bool(mean.isfinite().all()) and bool(sd.isfinite().all()) and bool((sd > 0).all())):
            raise ValueError("the training means are not finite")
        return cls(mean, sd)


@dataclass
class CentreFinder:
    """Sums over the people that go by."""

    count: int = 0
    sums: Tensor = field(default_factory=lambda: torch.zeros(()))
    squares: Tensor = field(default_factory=lambda: torch.zeros(()))

    def watch(self, training: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches, summed up as they go by."""
        for batch in training:
            known = batch.condition.known().double()
            self.sums = self.sums.to(known.device) + known.sum(dim=0)
            self.squares = self.squares.to(known.device) + known.square().sum(dim=0)
            self.count += len(known)
            yield batch

    def found(self) -> Centre:
        """The centre of all that went by; a channel that never varied counts as if it varied by 1."""
        mean = self.sums / self.count
        sd = (self.squares / self.count - mean.square()).clamp(min=0).flatten(1).mean(dim=1).sqrt()
        return Centre(mean.half(), torch.where(sd > 1e-4, sd, 1.0).float())
