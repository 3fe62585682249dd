"""A network as a file for other programs, and OpenVINO in place of PyTorch: the same numbers, or one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from relapet.cli import main
from relapet.config import load_config
from relapet.errors import InputError, RelapetError
from relapet.imaging.bids import Visit
from relapet.model import portable
from relapet.model.generator import Generator, GeneratorConfig
from relapet.model.portable import called, plain, random_inputs, require_same
from relapet.runs import RunFolder
from relapet.synthesis.export import export_network
from relapet.synthesis.synthesizer import Synthesizer
from relapet.training.train import TrainOptions, train_run
from support import TINY, TINY_SETTINGS, facts

for package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
    pytest.importorskip(package)


@pytest.fixture(scope="module")
def packed_run(toy_source: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Every tracer in one call, on the training mean, in a packed network; the weights that began at 0 filled."""
    more = ("method.tracers=all", "method.generator.packed=true", "method.generator.checkpointing=true")
    config = load_config(file=TINY, settings=(*TINY_SETTINGS, *more, "train.steps=1"))
    run = train_run(config, toy_source, tmp_path_factory.mktemp("packed"), TrainOptions())
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: 0.1 * torch.randn(tensor.shape, generator=generator) if tensor.abs().max() < 0.01 else tensor
        for name, tensor in run.read_weights("generator").items()
    }
    run.write_weights({"generator": weights}, {"generator": weights})
    return run


@pytest.mark.parametrize("name", ["network.onnx", "network.xml"])
def test_what_is_exported_gives_the_numbers_of_the_run(
    packed_run: RunFolder, tmp_path: Path, name: str
) -> None:
    import onnx
    import onnxruntime
    import openvino

    out = tmp_path / "new" / name
    assert main(["export", str(packed_run.path), str(out), "--quiet"]) == 0
    opened = Synthesizer.from_run(packed_run.path, "cpu")
    network = opened.method.networks["generator"].float()
    known = opened.manifest.facts()
    inputs = random_inputs(network, known, seed=5)
    assert list(inputs) == ["x_t", "mri", "prior", "t"]
    wanted = called(network, inputs).numpy()
    assert wanted.std() > 0.01
    arrays = [tensor.numpy() for tensor in inputs.values()]
    if name.endswith("onnx"):
        session = onnxruntime.InferenceSession(out)
        (found,) = session.run(["output"], dict(zip(inputs, arrays, strict=True)))
        about = {p.key: p.value for p in onnx.load(out).metadata_props}["relapet"]
        assert sorted(path.name for path in out.parent.iterdir()) == ["network.onnx"]
    else:
        model = openvino.Core().read_model(out)
        found = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(arrays)[0]
        about = model.get_rt_info(["relapet"]).astype(str)
        assert sorted(path.name for path in out.parent.iterdir()) == ["network.bin", "network.xml"]
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    said = json.loads(about)
    assert "Not for clinical use" in said["Description"]
    assert said["WeightsSHA256"] == opened.weights_sha256
    assert [tracer["Index"] for tracer in said["Tracers"]] == [0, 1, 2]


def test_a_tracer_that_is_embedded_is_an_input(tmp_path: Path) -> None:
    import onnxruntime

    torch.manual_seed(0)
    network = Generator(GeneratorConfig(channels=(8, 8), residual_blocks=1, norm_groups=2), facts())
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    network = plain(network, facts())
    inputs = random_inputs(network, facts())
    assert list(inputs) == ["x_t", "mri", "t", "tracer"]
    portable.write_onnx(network, inputs, tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx")
    outputs = []
    for index, t in ((0, 500), (2, 500), (0, 3)):
        given = inputs | {"tracer": torch.tensor([index]), "t": torch.tensor([t])}
        (found,) = session.run(None, {name: tensor.numpy() for name, tensor in given.items()})
        np.testing.assert_allclose(found, called(network, given).numpy(), atol=1e-5)
        outputs.append(found)
    assert not np.allclose(outputs[0], outputs[1], atol=1e-3)
    assert not np.allclose(outputs[0], outputs[2], atol=1e-3)


def test_other_numbers_are_one_sentence_and_leave_no_file(
    packed_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from relapet.synthesis import export

    monkeypatch.setattr(export, "called", lambda *given: called(*given) * 1.01)
    with pytest.raises(
        RelapetError, match=r"The ONNX file gives other numbers than PyTorch: they differ by up to"
    ):
        export_network(packed_run.path, tmp_path / "network.onnx")
    assert not list(tmp_path.iterdir())
    wanted = torch.tensor([0.0, -2.0])
    assert require_same(wanted, np.array([0.0, -2.001], np.float32), "x") == pytest.approx(5e-4, rel=1e-2)
    for found in ([0.0, -2.01], [np.nan, -2.0]):
        with pytest.raises(RelapetError, match="x gives other numbers"):
            require_same(wanted, np.array(found, np.float32), "x")


def test_openvino_synthesises_what_torch_does(packed_run: RunFolder, toy_source: Path) -> None:
    visit = Visit("01")
    maps = {}
    for backend in ("torch", "openvino"):
        opened = Synthesizer.from_run(packed_run.path, backend=backend)
        maps[backend] = opened(visit.t1w(toy_source), visit.flair(toy_source), "tau", samples=2, seed=5)
    for one, other in zip(maps["torch"].samples, maps["openvino"].samples, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4)
    assert np.abs(maps["torch"].samples[0] - maps["torch"].samples[1]).max() > 0.05


def test_a_sidecar_tells_that_openvino_computed(
    packed_run: RunFolder, toy_source: Path, tmp_path: Path
) -> None:
    call = [
        "synthesize",
        str(toy_source),
        str(tmp_path),
        "participant",
        "--model",
        str(packed_run.path),
        "--quiet",
    ]
    once = ["--participant-label", "01", "--tracer", "tau", "--samples", "1", "--steps", "1"]
    assert main([*call, *once, "--backend", "openvino"]) == 0
    (path,) = tmp_path.glob("sub-01/pet/*desc-synth_mimap.json")
    assert "openvino" in json.loads(path.read_text())["SoftwareVersions"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--backend", "onnx"], "--backend is 'onnx'; give one of torch, openvino"),
        (["--backend", "openvino", "--device", "cuda"], "--device is cuda, but openvino computes on a CPU"),
    ],
)
def test_a_backend_that_cannot_be_is_refused(
    more: list[str],
    said: str,
    toy_source: Path,
    tiny_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    call = ["synthesize", str(toy_source), str(tmp_path / "out"), "participant", "--model", str(tiny_run)]
    assert main([*call, *more]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_model_without_a_network_and_a_name_that_is_none_are_refused(
    toy_source: Path, tmp_path: Path, packed_run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(packed_run.path), str(tmp_path / "network.pt")]) == 2
    assert "ends in .onnx (ONNX) or .xml (OpenVINO" in capsys.readouterr().err
    config = load_config("tracer_mean")
    run = train_run(config, toy_source, tmp_path / "run", TrainOptions())
    with pytest.raises(InputError, match="has no network to export: the method tracer_mean is not one U-Net"):
        export_network(run.path, tmp_path / "network.onnx")
    with pytest.raises(InputError, match="tracer_mean has no network for OpenVINO"):
        Synthesizer.from_run(run.path, backend="openvino")


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portable, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(InputError, match=r"onnxscript cannot be found; install relapet\[export\]"):
        portable.require_packages("onnx", "onnxscript")
