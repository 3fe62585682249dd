"""The linear preset, trained on T1w and FLAIR, serves people who have one of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from relapet.cli import main
from relapet.imaging.bids import Visit, VisitFiles, index_derivative
from relapet.imaging.template import load_template
from relapet.runs import RunFolder
from relapet.tracers import simulated_tracers
from support import TOY_GRID, write_toy_derivative

TRACERS = {name: simulated_tracers()[name] for name in ("tau", "pib")}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So many people that a fit is preferred to their mean; read only."""
    return write_toy_derivative(tmp_path_factory.mktemp("cohort"), 24)


@pytest.fixture(scope="module")
def run(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("linear") / "run"
    settings = ["--preset", "linear", "--set", "data.test_fraction=0.2", "data.tracers=[tau,pib]"]
    settings += ["train.calibrate=false"]
    assert main(["train", str(cohort), str(folder), *settings, "--quiet"]) == 0
    return RunFolder(folder)


def remove(files: VisitFiles, modality: str) -> None:
    path = files.t1w if modality == "T1w" else files.flair
    assert path is not None
    path.unlink()


@pytest.fixture(scope="module")
def maps(
    run: RunFolder, cohort: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, np.ndarray]]:
    """SUVr by what was there and tracer, of the held-out participant."""
    root = tmp_path_factory.mktemp("single")
    (person, *_) = run.read_manifest().split["test"]
    found: dict[str, dict[str, np.ndarray]] = {}
    for there, gone in {"both": None, "T1w": "FLAIR", "FLAIR": "T1w"}.items():
        copy = Path(shutil.copytree(cohort, root / there))
        if gone is not None:
            for files in index_derivative(copy):
                remove(files, gone)
        out = root / f"{there}-out"
        call = ["synthesize", str(copy), str(out), "participant", "--model", str(run.path)]
        assert main([*call, "--participant-label", person, "--quiet"]) == 0
        visit = Visit(person)
        found[there] = {
            name: nib.load(visit.pet(out, tracer, "synth")).get_fdata() for name, tracer in TRACERS.items()
        }
    return found


@pytest.mark.parametrize("there", ["T1w", "FLAIR"])
def test_one_image_alone_gives_a_map_of_every_tracer(
    maps: dict[str, dict[str, np.ndarray]], run: RunFolder, cohort: Path, there: str
) -> None:
    """Near the measured PET, and by a fit of its own: another map than that from both images."""
    (person, *_) = run.read_manifest().split["test"]
    grey = load_template(TOY_GRID).grey > 0.5
    assert set(maps[there]) == set(TRACERS)
    for name, tracer in TRACERS.items():
        suvr = maps[there][name]
        measured = nib.load(Visit(person).pet(cohort, tracer)).get_fdata()
        assert suvr.shape == TOY_GRID.shape
        assert np.isfinite(suvr).all()
        assert abs(suvr[grey].mean() - measured[grey].mean()) < 0.25  # the toy's people differ by 0.2
        assert not np.allclose(suvr, maps["both"][name])


def test_the_two_images_say_different_things(maps: dict[str, dict[str, np.ndarray]]) -> None:
    for name in TRACERS:
        assert not np.allclose(maps["T1w"][name], maps["FLAIR"][name])


def test_a_run_that_needs_both_still_says_so(
    toy: Path, tmp_path: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for files in index_derivative(toy):
        remove(files, "FLAIR")
    call = ["synthesize", str(toy), str(tmp_path / "out"), "participant", "--model", str(tiny_run)]
    assert main([*call, "--participant-label", "01", "--quiet"]) == 1
    assert "FLAIR" in capsys.readouterr().err
