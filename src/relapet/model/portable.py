"""A generator for other programs: its inputs by name, the network as an ONNX file, and whether one gives the same."""

from __future__ import annotations

import logging
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from relapet.errors import InputError, RelapetError
from relapet.model.generator import Generator
from relapet.model.interface import Condition, DataFacts

Inputs = dict[str, Tensor]
"""By name, in the order of the file: x_t, mri, prior (where the model has one), t, tracer (where it is embedded)."""
OUTPUT = "output"
TOLERANCE = 1e-3
"""Of float32: the largest difference from PyTorch that is taken, as a share of the largest output."""
_NOTHING = 1e-6
"""The same where PyTorch gives nothing but 0, as before any training."""
_T = 500


def require_packages(*names: str) -> None:
    """Raise InputError where a package of relapet[export] is not installed."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise InputError(f"{' and '.join(missing)} cannot be found; install relapet[export].")


def plain(network: Generator, facts: DataFacts) -> Generator:
    """The same network in float32, recomputing nothing."""
    config = network.config.changed(checkpointing=False)
    found = Generator(config, facts, "one" if network.embedded else "all", network.own)
    found.load_state_dict(network.state_dict())
    found.centre = network.centre
    return found.eval()


def random_inputs(network: Generator, facts: DataFacts, seed: int = 0) -> Inputs:
    """Random volumes of the network's sizes, one of a batch."""
    generator = torch.Generator().manual_seed(seed)
    count = 1 if network.embedded else facts.tracers

    def uniform(channels: int) -> Tensor:
        return 2 * torch.rand((1, channels, *facts.shape), generator=generator) - 1

    inputs = {"x_t": torch.randn((1, count, *facts.shape), generator=generator), "mri": uniform(2)}
    inputs |= {"prior": uniform(count)} if facts.prior else {}
    inputs["t"] = torch.full((1,), _T)
    return inputs | ({"tracer": torch.zeros(1, dtype=torch.int64)} if network.embedded else {})


class _Named(nn.Module):
    """A generator of inputs in the order of their names."""

    def __init__(self, network: Generator, names: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, *values: Tensor) -> Tensor:
        given = dict(zip(self.names, values, strict=True))
        x_t, tracer = given["x_t"], given.get("tracer")
        if tracer is None:
            tracer = torch.zeros((1,), dtype=torch.int64)
        condition = Condition(given["mri"], given.get("prior"), tracer[:, None])
        output: Tensor = self.network(x_t, given["t"], condition)
        return output


def called(network: Generator, inputs: Inputs) -> Tensor:
    """What the network gives for inputs by name."""
    with torch.no_grad():
        output: Tensor = _Named(network, tuple(inputs))(*inputs.values())
    return output


def write_onnx(network: Generator, inputs: Inputs, path: Path) -> None:
    """Write a network of `plain` with the sizes of ``inputs``; raises InputError without relapet[export]."""
    require_packages("onnx", "onnxscript")
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)  # it tells of packages that have nothing to do with this
    try:
        # With gradients, so that the network takes the way that works in place nowhere.
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _Named(network, tuple(inputs)),
                tuple(inputs.values()),
                path,
                input_names=list(inputs),
                output_names=[OUTPUT],
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        log.setLevel(level)


def require_same(
    wanted: Tensor, found: npt.NDArray[np.float32], what: str, tolerance: float = TOLERANCE
) -> float:
    """The largest difference as a share of the largest output; raises RelapetError where it is above ``tolerance``."""
    largest = float(wanted.abs().max())
    difference = float(np.abs(found - wanted.numpy()).max())
    if not difference <= tolerance * largest + _NOTHING:
        raise RelapetError(
            f"{what} gives other numbers than PyTorch: they differ by up to {difference:.2g} of {largest:.2g}, where "
            f"{tolerance:g} of that is taken; use the versions of constraints.txt, or PyTorch itself."
        )
    return difference / largest if largest else 0.0
