"""A run's network as a file for other programs: ONNX, or OpenVINO's own format, checked against PyTorch."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from relapet.errors import InputError
from relapet.files import atomic_path, require_suffix, temporary_folder
from relapet.hardware import EXPORTED
from relapet.model.generator import Generator
from relapet.model.portable import (
    Inputs,
    called,
    plain,
    random_inputs,
    require_packages,
    require_same,
    write_onnx,
)
from relapet.synthesis.dataset import NOTICE
from relapet.synthesis.openvino import compiled
from relapet.synthesis.synthesizer import Synthesizer
from relapet.version import VERSION

_ABOUT = "relapet"
"""Key under which a file says what it holds, as JSON."""


def export_network(model: str | Path, out: Path) -> float:
    """Write a run's network; returns its largest difference from PyTorch on random input, as a share of the output.

    Inputs by name: x_t (as the network sees it), mri, prior, t and tracer, as far as the model has them; float32, and
    int64 the last two. Raises InputError for a run without a network, or without relapet[export], and RelapetError,
    with nothing written, where the difference is above `relapet.model.portable.TOLERANCE`.
    """
    require_suffix(out, EXPORTED)
    require_packages("onnx", "onnxscript", "onnxruntime" if out.suffix == ".onnx" else "openvino")
    synthesizer = Synthesizer.from_run(model, "cpu")
    network = _network(synthesizer)
    inputs = random_inputs(network, synthesizer.manifest.facts())
    out.parent.mkdir(parents=True, exist_ok=True)
    write = _write_onnx if out.suffix == ".onnx" else _write_openvino
    return write(network, inputs, out, _about(synthesizer))


def _network(synthesizer: Synthesizer) -> Generator:
    """The network with its stored weights, which synthesis may hold in half precision."""
    method, run = synthesizer.method, synthesizer.run
    names = [name for name in method.deployed if isinstance(method.networks[name], Generator)]
    if len(names) != 1:
        raise InputError(
            f"{run.path} has no network to export: the method {synthesizer.manifest.method} is not one U-Net; give a "
            "run of a method that is."
        )
    kept = method.networks[names[0]]
    assert isinstance(kept, Generator)
    network = plain(kept, synthesizer.manifest.facts())
    network.load_state_dict(run.read_weights(names[0]))
    return network


def _write_onnx(network: Generator, inputs: Inputs, out: Path, about: str) -> float:
    import onnx
    import onnxruntime

    with atomic_path(out) as path:
        write_onnx(network, inputs, path)
        model = onnx.load(path)
        onnx.helper.set_model_props(model, {_ABOUT: about})
        onnx.save(model, path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        return require_same(called(network, inputs), found, "The ONNX file")


def _write_openvino(network: Generator, inputs: Inputs, out: Path, about: str) -> float:
    import openvino

    with temporary_folder(out.parent) as folder:
        write_onnx(network, inputs, folder / "network.onnx")
        model = openvino.Core().read_model(folder / "network.onnx")
        model.set_rt_info(about, [_ABOUT])
        openvino.save_model(model, folder / out.name, compress_to_fp16=False)
        written = compiled(openvino.Core().read_model(folder / out.name), half=False)
        found = written([tensor.numpy() for tensor in inputs.values()])[0]
        difference = require_same(called(network, inputs), found, "The OpenVINO file")
        weights = Path(out.name).with_suffix(".bin")
        (folder / weights).replace(out.parent / weights)
        (folder / out.name).replace(out)
    return difference


def _about(synthesizer: Synthesizer) -> str:
    """What the network is, as JSON: whose output means nothing without it."""
    manifest = synthesizer.manifest
    tracers = [
        {"TracerName": tracer.ligand, "Index": tracer.index, "SuvrWindow": list(tracer.suvr_window)}
        for tracer in map(synthesizer.tracer, manifest.tracers)
    ]
    return json.dumps(
        {
            "Description": NOTICE,
            "GeneratedBy": f"relapet {VERSION}",
            "Method": manifest.method,
            "WeightsSHA256": synthesizer.weights_sha256,
            "Space": manifest.space,
            "Grid": manifest.grid,
            "Tracers": tracers,
            **({"TrainedOn": manifest.trained_on} if manifest.trained_on else {}),
        }
    )
