"""The published checkpoint becomes a run that computes the published numbers, or is refused in one sentence."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from relapet.cli import main
from relapet.imaging.bids import Visit, training_mean_path
from relapet.runs import RunFolder
from relapet.synthesis.synthesizer import Synthesizer
from relapet.tracers import get_tracer
from support import DATA, condition_of, recipe_weights

PIB = get_tracer("pib")


def write_checkpoint(path: Path, **changes: Any) -> Path:
    torch.save({"model_state_dict": recipe_weights("generator"), "epoch": 99} | changes, path)
    return path


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imported")
    checkpoint = write_checkpoint(folder / "epoch_99.pt")
    assert main(["import-weights", str(checkpoint), str(folder / "run"), "--quiet"]) == 0
    return folder / "run"


def test_a_call_that_was_killed_can_be_made_again_and_no_other(
    imported: Path, tmp_path: Path, capsys: Any
) -> None:
    run = RunFolder(Path(shutil.copytree(imported, tmp_path / "run")))
    checkpoint = imported.parent / "epoch_99.pt"
    assert main(["import-weights", str(checkpoint), str(run.path), "--quiet"]) == 2
    run.config.unlink()  # which is written last
    other = write_checkpoint(tmp_path / "other.pt", epoch=98)
    assert main(["import-weights", str(other), str(run.path), "--quiet"]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert main(["import-weights", str(checkpoint), str(run.path), "--quiet"]) == 0
    assert run.config.is_file()


def test_the_imported_run_computes_the_published_numbers(imported: Path) -> None:
    with np.load(DATA / "released_reference.npz") as arrays:
        x, t, label, y = (torch.from_numpy(arrays[f"unet_{name}"]) for name in ("x", "t", "label", "y"))
    generator = Synthesizer.from_run(imported, device="cpu").method.networks["generator"]
    with torch.no_grad():
        output = generator(x[:, :1], t, condition_of(x[:, 1:], label.tolist()))
    torch.testing.assert_close(output, y, rtol=0, atol=1e-5)


def test_the_imported_run_says_what_it_is(imported: Path, tmp_path: Path, capsys: Any) -> None:
    manifest = RunFolder(imported).read_manifest()
    assert manifest.grid == "1mm"
    assert manifest.pet_scaling == manifest.mri_scaling == "minmax"
    assert {name: record.index for name, record in manifest.tracers.items()} == {
        "pbr28": 0,
        "pib": 1,
        "tau": 2,
    }
    assert "epoch 99" in str(manifest.origin)
    synthesizer = Synthesizer.from_run(imported, device="cpu")
    assert (synthesizer.sample.sampler, synthesizer.sample.steps) == ("ddpm", 1000)
    checkpoint = write_checkpoint(tmp_path / "again.pt")
    assert main(["import-weights", str(checkpoint), str(tmp_path / "run")]) == 0
    assert "no SUVr" in capsys.readouterr().err
    assert main(["import-weights", str(checkpoint), str(tmp_path / "run")]) == 2
    assert "not empty" in capsys.readouterr().err


def test_synthesis_takes_the_imported_run(imported: Path, toy: Path, tmp_path: Path, capsys: Any) -> None:
    """On a coarse grid, which the network takes as well, with two steps: there is no training mean to write."""
    manifest = json.loads((imported / "manifest.json").read_text())
    coarse = tmp_path / "run"
    coarse.mkdir()
    (coarse / "weights").symlink_to(imported / "weights")
    (coarse / "config.yaml").symlink_to(imported / "config.yaml")
    (coarse / "manifest.json").write_text(json.dumps(manifest | {"grid": "8mm"}))
    out = tmp_path / "out"
    arguments = ["synthesize", str(toy), str(out), "participant", "--model", str(coarse), "--tracer", "pib"]
    assert main([*arguments, "--participant-label", "01", "--steps", "2", "--quiet"]) == 0
    assert "no SUVr" in capsys.readouterr().err
    path = Visit("01").pet(out, PIB, "synth")
    volume = nib.load(path).get_fdata()
    assert 0 <= volume.min() < volume.max() <= 1
    sidecar = json.loads(path.with_suffix("").with_suffix(".json").read_text())
    assert sidecar["Measure"] == "relative uptake"
    assert "epoch_99.pt" in sidecar["WeightsOrigin"]
    assert not training_mean_path(out, PIB).exists()


class _Code:
    def __reduce__(self) -> Any:
        return os.mkdir, ("ran",)


def text(path: Path) -> None:
    path.write_text("these are no weights")


def truncated(path: Path) -> None:
    write_checkpoint(path)
    path.write_bytes(path.read_bytes()[:5000])


def empty(path: Path) -> None:
    path.touch()


def plain_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"model_state_dict": [1.0], "epoch": 1}, protocol=2))


def code(path: Path) -> None:
    torch.save({"model_state_dict": {"w": _Code()}, "epoch": 1}, path)


def old_style_code(path: Path) -> None:
    torch.save({"model_state_dict": {"w": _Code()}, "epoch": 1}, path, _use_new_zipfile_serialization=False)


def bare_weights(path: Path) -> None:
    torch.save(recipe_weights("generator"), path)


def no_tensors(path: Path) -> None:
    write_checkpoint(path, model_state_dict={"w": 1.0})


def no_epoch_number(path: Path) -> None:
    write_checkpoint(path, epoch="last")


def other_network(path: Path) -> None:
    write_checkpoint(path, model_state_dict=recipe_weights("discriminator"))


def one_missing(path: Path) -> None:
    weights = recipe_weights("generator")
    del weights["up_blocks.0.upsampler.conv.conv.bias"]
    write_checkpoint(path, model_state_dict=weights)


def one_too_many(path: Path) -> None:
    write_checkpoint(path, model_state_dict=recipe_weights("generator") | {"extra": torch.zeros(1)})


def wrong_shape(path: Path) -> None:
    weights = recipe_weights("generator")
    weights["conv_in.conv.weight"] = torch.zeros(16, 4, 3, 3, 3)
    write_checkpoint(path, model_state_dict=weights)


def not_finite(path: Path) -> None:
    weights = recipe_weights("generator")
    weights["conv_in.conv.bias"][3] = torch.nan
    write_checkpoint(path, model_state_dict=weights)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (text, "no readable PyTorch checkpoint"),
        (truncated, "no readable PyTorch checkpoint"),
        (empty, "no readable PyTorch checkpoint"),
        (plain_pickle, "no readable PyTorch checkpoint"),
        (code, "holds pickled code"),
        (old_style_code, "holds pickled code"),
        (bare_weights, "lacks model_state_dict or epoch"),
        (no_tensors, "no table of tensors"),
        (no_epoch_number, "epoch is no whole number"),
        (other_network, "lacks 367 of the 367 weights"),
        (
            one_missing,
            "lacks 1 of the 367 weights of the published generator, the first up_blocks.0.upsampler",
        ),
        (one_too_many, "holds 1 weights that the published generator has not, the first extra"),
        (wrong_shape, "conv_in.conv.weight has shape (16, 4, 3, 3, 3)"),
        (not_finite, "conv_in.conv.bias is not finite"),
        (lambda path: None, "does not exist"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_is_no_released_checkpoint_is_refused_in_one_sentence(
    make: Callable[[Path], None], says: str, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = tmp_path / "checkpoint.pt"
    make(checkpoint)
    assert main(["import-weights", str(checkpoint), str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert str(checkpoint) in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "ran").exists()
