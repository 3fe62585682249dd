"""A generator that OpenVINO computes, on a CPU: for synthesis in place of PyTorch."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from relapet.model.generator import Generator
from relapet.model.interface import Condition, DataFacts
from relapet.model.portable import (
    TOLERANCE,
    called,
    plain,
    random_inputs,
    require_packages,
    require_same,
    write_onnx,
)

_HALF_TOLERANCE = 0.05
"""Of bfloat16, as `TOLERANCE` is of float32."""


class OpenVinoGenerator(nn.Module):
    """`Generator`'s call, one volume at a time."""

    def __init__(self, network: Generator, facts: DataFacts, half: bool) -> None:
        """Convert a network, and compare one call; raises InputError without relapet[export], RelapetError."""
        super().__init__()
        require_packages("openvino", "onnx", "onnxscript")
        import openvino

        inputs, exact = random_inputs(network, facts), plain(network, facts)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.onnx"
            write_onnx(exact, inputs, path)
            model = openvino.Core().read_model(path)
        self.compiled = compiled(model, half)
        self.embedded = network.embedded
        if half:
            exact.to(torch.bfloat16)
            exact.kept = torch.bfloat16
        found = self.compiled([tensor.numpy() for tensor in inputs.values()])[0]
        require_same(called(exact, inputs), found, "OpenVINO", _HALF_TOLERANCE if half else TOLERANCE)

    def forward(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """See `Generator.forward`; volumes of a batch one after another."""
        parts = [x_t, condition.mri, condition.prior, t, condition.tracer[:, 0] if self.embedded else None]
        given = [part for part in parts if part is not None]
        rows = [
            torch.from_numpy(self.compiled([part[i : i + 1].numpy() for part in given])[0].copy())
            for i in range(len(x_t))
        ]
        return torch.cat(rows)


def compiled(model: Any, half: bool) -> Any:
    """A model for this CPU, in bfloat16 or float32, with as many threads as torch has."""
    import openvino

    options = {
        "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
    }
    return openvino.Core().compile_model(model, "CPU", options)
