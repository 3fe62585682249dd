"""One player of a training step: the optimiser of a phase's networks, and its turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from relapet.model.interface import Phase
from relapet.training.distributed import average_over_processes
from relapet.training.errors import TrainingError
from relapet.training.train_config import TrainConfig

_LEAST_SCALE = 1.0


class Player:
    """The optimiser of one phase, with gradients averaged over batches and processes."""

    def __init__(self, phase: Phase, config: TrainConfig, fabric: Fabric) -> None:
        self.phase, self.config, self.fabric = phase, config, fabric
        self.parameters = phase.parameters()
        self.optimizer = phase.optimizer(self.parameters, config.lr * phase.lr_ratio)
        # fp16 gradients below 6e-8 vanish: the loss is scaled up and the gradients down again. A step whose
        # gradients overflow is left out and the scale halved.
        self.scaler = torch.amp.GradScaler(fabric.device.type, enabled=config.precision == "16-mixed")

    def state_dict(self) -> dict[str, Any]:
        """What an exact resume needs."""
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.optimizer.load_state_dict(state["optimizer"])
        self._check_state()
        self.scaler.load_state_dict(state["scaler"])

    def _check_state(self) -> None:
        """Raise ValueError where the record of a parameter is not of its shape, or lacks what others have."""
        records = [(p, self.optimizer.state[p]) for p in self.parameters if self.optimizer.state.get(p)]
        keys = {key for _, record in records for key in record}
        for parameter, record in records:
            shapes = [value.shape for value in record.values() if isinstance(value, Tensor)]
            if set(record) != keys or any(shape not in (parameter.shape, ()) for shape in shapes):
                raise ValueError("the optimiser's state does not fit its parameters")

    def take_turn(self, runs: Iterator[Any], count: int, lr_factor: float) -> dict[str, Tensor]:
        """One step on the mean loss over ``count`` runs of `Method.forward`; returns the mean of each term."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * self.phase.lr_ratio * lr_factor
        logged: dict[str, Tensor] = {}
        gradients: list[Tensor] = []
        for shared in runs:
            terms, new = self._gradients(shared, count)
            for name, value in terms.items():
                logged[name] = logged.get(name, 0) + value
            gradients = new if not gradients else [a.add_(b) for a, b in zip(gradients, new, strict=True)]
        average_over_processes(self.fabric, gradients)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self._update()
        return logged

    def _gradients(self, shared: Any, count: int) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Loss terms of one batch and gradients of their total, both divided by ``count``."""
        with self.fabric.autocast():
            losses = self.phase.loss(shared)
        # autograd.grad, not backward: the players' gradients must not mix, though the generator's turn also
        # reaches the critic's weights.
        total = self.scaler.scale(losses["total"] / count)
        found = torch.autograd.grad(total, self.parameters, allow_unused=True)
        gradients = [
            torch.zeros_like(p) if g is None else g for p, g in zip(self.parameters, found, strict=True)
        ]
        return {name: value.detach() / count for name, value in losses.items()}, gradients

    def _update(self) -> None:
        self.scaler.unscale_(self.optimizer)
        if self.config.clip_norm > 0:
            nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.scaler.is_enabled() and self.scaler.get_scale() < _LEAST_SCALE:
            raise TrainingError(
                f"The gradients of {self.phase.name} overflow in fp16 whatever the scale of the loss",
                "set train.precision=bf16-mixed or 32-true",
            )
