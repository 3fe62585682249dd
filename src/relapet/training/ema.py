"""Exponential moving averages of networks' weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from relapet.model.interface import Method


class Ema:
    """``w_ema <- d w_ema + (1 - d) w`` after each step, with d rising to ``decay`` so that early steps count less.

    d = min(decay, (1 + n) / (10 + n)) after n updates.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, n: int) -> None:
        """Take the network's weights in after the ``n``-th step, counted from 0."""
        decay = min(self.decay, (1 + n) / (10 + n))
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                self.weights[name].lerp_(tensor, 1 - decay)
            else:
                self.weights[name].copy_(tensor)

    @contextmanager
    def applied_to(self, network: nn.Module) -> Iterator[None]:
        """Lend the averaged weights to the network within the block."""
        own = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        network.load_state_dict(self.weights)
        try:
            yield
        finally:
            network.load_state_dict(own)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights by name."""
        return self.weights

    def load_state_dict(self, weights: Mapping[str, Tensor], device: torch.device) -> None:
        """Go on where `state_dict` was taken; raises ValueError for weights of another network."""
        if {n: t.shape for n, t in weights.items()} != {n: t.shape for n, t in self.weights.items()}:
            raise ValueError("the averaged weights are of another network")
        self.weights = {name: tensor.to(device) for name, tensor in weights.items()}


@contextmanager
def averaged(method: Method, averages: Mapping[str, Ema]) -> Iterator[None]:
    """Lend every deployed network its averaged weights, in evaluation mode, within the block."""
    method.networks.eval()
    with ExitStack() as stack, torch.no_grad():
        for name, average in averages.items():
            stack.enter_context(average.applied_to(method.networks[name]))
        yield
    method.networks.train()
