"""Models that come with the package."""

from __future__ import annotations

import runpy
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from relapet import api, shipped
from relapet.cli import main
from relapet.config import load_config
from relapet.errors import InputError
from relapet.imaging.bids import index_derivative
from relapet.imaging.nifti import load_volume
from relapet.imaging.template import load_template
from relapet.runs import RunFolder
from relapet.shipped import find_model, shipped_models
from relapet.synthesis.synthesizer import Synthesizer

SHIP = Path(__file__).parents[2] / "tools" / "ship.py"


def pack(run: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a run on a shelf, packed as shipped models are; the shelf."""
    card = tmp_path / "card.md"
    card.write_text("# A tiny model, for tests\n")
    monkeypatch.setattr(
        sys, "argv", [str(SHIP), str(run), str(tmp_path / "models" / name), "--card", str(card)]
    )
    runpy.run_path(str(SHIP), run_name="__main__")
    monkeypatch.setattr(shipped, "_MODELS", tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def shelf(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shelf with the tiny run on it."""
    return pack(tiny_run, "tiny", tmp_path, monkeypatch)


def test_a_shipped_model_goes_by_its_name(
    shelf: Path, tiny_run: Path, toy_source: Path, tmp_path: Path
) -> None:
    call = ["--participant-label", "01", "--samples", "2", "--quiet"]
    for name, model in (("small", "tiny"), ("large", str(tiny_run))):
        assert (
            main(
                ["synthesize", str(toy_source), str(tmp_path / name), "participant", "--model", model, *call]
            )
            == 0
        )
    small, large = (
        [
            load_volume(p).get_fdata()
            for f in index_derivative(tmp_path / name, "synth")
            for p in f.pet.values()
        ]
        for name in ("small", "large")
    )
    assert len(small) == len(large) > 0
    for a, b in zip(small, large, strict=True):
        np.testing.assert_allclose(a, b, atol=0.02)  # SUVr, by half precision
        assert a.any()


def test_a_model_with_a_linear_prior_is_shipped_whole(
    toy_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config("linear", settings=("train.seconds=null", "data.test_fraction=0.2"))
    run = api.train(config, toy_source, tmp_path / "run")
    shelf = pack(run.path, "line", tmp_path, monkeypatch)
    assert {path.name for path in (shelf / "line" / "weights").iterdir()} == {
        path.name for path in run.weights.iterdir()
    }
    call = ["--participant-label", "01", "--quiet"]
    out = tmp_path / "out"
    assert main(["synthesize", str(toy_source), str(out), "participant", "--model", "line", *call]) == 0
    assert any(files.pet for files in index_derivative(out, "synth"))


def test_a_shipped_model_is_small_and_whole(shelf: Path, tiny_run: Path) -> None:
    def size(folder: Path) -> int:
        return sum(path.stat().st_size for path in (folder / "weights").glob("*"))

    assert size(shelf / "tiny") < 0.55 * size(tiny_run)
    kept = {path.name for path in (shelf / "tiny").iterdir()}
    assert {"config.yaml", "manifest.json", "README.md", "weights"} <= kept
    assert not {"cache", "checkpoint", "log.tsv"} & kept
    assert RunFolder(shelf / "tiny").read_training_mean()
    assert all("/pet/" in path for path in RunFolder(shelf / "tiny").read_manifest().checksums)


def test_info_lists_it(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "models"]) == 0
    assert "A tiny model, for tests" in capsys.readouterr().out


def test_a_folder_goes_before_a_name_and_an_unknown_name_is_refused(shelf: Path, tmp_path: Path) -> None:
    assert find_model("tiny") == shelf / "tiny"
    assert find_model(tmp_path) == tmp_path
    with pytest.raises(InputError, match="does not exist; check the path, or name a shipped model: tiny"):
        Synthesizer.from_run("teny")


def test_every_model_of_the_package_can_be_opened_and_has_a_card() -> None:
    for name, path in shipped_models().items():
        assert Synthesizer.from_run(name).manifest.trained_on == "simulated"
        assert (path / "README.md").read_text().startswith("# ")
        assert "not for clinical use" in (path / "README.md").read_text().lower()


def test_the_simulated_model_is_small_says_what_it_is_and_works(tmp_path: Path) -> None:
    model = shipped_models()["simulated"]
    files = sorted(path for path in model.rglob("*") if path.is_file())
    with zipfile.ZipFile(tmp_path / "packed.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for path in files:
            packed.write(path, path.relative_to(model))
    assert (tmp_path / "packed.zip").stat().st_size < 10.5e6
    card = (model / "README.md").read_text()
    assert "simulated people" in card
    assert "nothing of any real person" in " ".join(card.split())
    synthesizer = Synthesizer.from_run(model, device="cpu")
    assert synthesizer.manifest.trained_on == "simulated"
    assert synthesizer.gives_mean
    assert set(synthesizer.adjustment) == set(synthesizer.manifest.tracers) == {"pbr28", "pib", "tau"}
    prior = synthesizer.prior
    assert prior is not None
    # The template's own tissue gives plausible SUVr: grey and white matter about 1, nothing wild.
    template = load_template(synthesizer.grid)
    fluid = ~template.brain
    mri = np.where(fluid, -1, 0).astype(np.float32)
    for name, volume in prior(np.stack([mri, mri]), list(synthesizer.manifest.tracers)).items():
        assert 0.5 < volume[template.brain].mean() < 2, name
