"""The coordinates a method works in: the PET itself or, where there is a prior, what it leaves in units of its SD.

Any method of the literature meets a prior so: its equations hold for x = (PET - prior) / s, s the root mean square of
the remainder over the brains of the training participants, a number a tracer. Without a prior x is the PET.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from relapet.model.interface import Batch, Condition, DataFacts, Method

_FIRST_SD = 0.1
"""Of the remainder before it is measured, 1 being half the SUVr window."""
_LEAST_SD = 1e-3
"""Remainders smaller than this are taken for this large, so that none is divided by 0."""


class Frame:
    """The step between PET in [-1, 1] and x, both ``(B, K, X, Y, Z)``."""

    def __init__(self, facts: DataFacts) -> None:
        self.prior = facts.prior
        self.sd = torch.full((facts.tracer_slots,), _FIRST_SD)
        """s by tracer index, ``(slots,)``."""

    def measure(self, training: Iterable[Batch]) -> None:
        """Find s from one batch a visit, as `Method.fit` gets them; a tracer that nobody has keeps a tenth."""
        if not self.prior:
            return
        square = torch.zeros(len(self.sd), dtype=torch.float64)
        voxels = torch.zeros_like(square)
        for batch in training:
            brain = (batch.condition.mri > -1).any(dim=1, keepdim=True)
            left = ((batch.pet - _prior(batch.condition)) * brain).double().square().sum(dim=(2, 3, 4))
            count = (batch.present * brain.sum(dim=(2, 3, 4))).double()
            square.index_add_(0, batch.condition.tracer.flatten(), (left * batch.present).flatten())
            voxels.index_add_(0, batch.condition.tracer.flatten(), count.flatten())
        found = (square / voxels.clamp(min=1)).sqrt().float().clamp(min=_LEAST_SD)
        self.sd = torch.where(voxels > 0, found, self.sd)

    def unit(self, condition: Condition) -> Tensor | float:
        """The s of each volume, ``(B, K, 1, 1, 1)``; 1 without a prior."""
        if not self.prior:
            return 1.0
        return self.sd.to(condition.mri.device)[condition.tracer][:, :, None, None, None]

    def origin(self, condition: Condition) -> Tensor | float:
        """The PET of x = 0, ``(B, K, X, Y, Z)``; 0 without a prior."""
        return _prior(condition) if self.prior else 0.0

    def into(self, pet: Tensor, condition: Condition) -> Tensor:
        """The x of a PET."""
        return (pet - self.origin(condition)) / self.unit(condition)

    def free(self, x: Tensor, condition: Condition) -> Tensor:
        """The PET of an x, which may leave [-1, 1]: where a loss is to reach beyond."""
        return self.origin(condition) + self.unit(condition) * x

    def out_of(self, x: Tensor, condition: Condition) -> Tensor:
        """The PET of an x, held within [-1, 1]."""
        return self.free(x, condition).clamp(-1, 1)

    def held(self, x: Tensor, condition: Condition) -> Tensor:
        """The x of a PET that was held within [-1, 1]."""
        return self.into(self.out_of(x, condition), condition)


class FramedMethod(Method):
    """A method whose equations hold in a `Frame`, which is measured before training and kept with the run."""

    frame: Frame

    def fit(self, training: Iterable[Batch]) -> None:
        """Measure what the prior leaves."""
        self.frame.measure(training)

    def fitted(self) -> dict[str, Tensor]:
        """Its size by tracer index; nothing without a prior."""
        return {"residual_sd": self.frame.sd} if self.frame.prior else {}

    def load_fitted(self, found: Mapping[str, Tensor]) -> None:
        """Take what `fitted` gave; raises KeyError or ValueError where it is another method's."""
        if not self.frame.prior:
            super().load_fitted(found)
            return
        sd = found["residual_sd"]
        if sd.shape != self.frame.sd.shape or not bool((sd > 0).all()):
            raise ValueError("residual_sd is not a positive number a tracer")
        self.frame.sd = sd.float()


def _prior(condition: Condition) -> Tensor:
    if condition.prior is None:
        raise ValueError("the model was made for conditions with a prior")
    return condition.prior
