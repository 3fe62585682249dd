"""What a run was trained with decides what synthesis takes and what its output is called."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from relapet.api import synthesize
from relapet.config import load_config
from relapet.imaging.bids import Visit
from relapet.messages import Silent
from relapet.runs import RunFolder
from relapet.synthesis.synthesizer import Synthesizer
from relapet.tracers import get_tracer
from relapet.training.train import TrainOptions, train_run
from support import TINY, TINY_SETTINGS

TAU, VISIT = get_tracer("tau"), Visit("01")


class Heard(Silent):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture(scope="module")
def run(toy_source: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Trained for two steps on T1w alone, PET scaled by each volume's own range."""
    more = ("data.inputs=[T1w]", "data.pet_scaling=minmax", "data.tracers=[tau]", "train.steps=2")
    config = load_config(file=TINY, settings=(*TINY_SETTINGS, *more))
    return train_run(config, toy_source, tmp_path_factory.mktemp("switches"), TrainOptions())


def test_the_manifest_says_what_the_model_takes_and_gives(run: RunFolder, toy_source: Path) -> None:
    manifest = run.read_manifest()
    assert manifest.inputs == manifest.required_inputs == ("T1w",)
    assert manifest.pet_scaling == "minmax"
    trained_on = [nib.load(Visit(s).pet(toy_source, TAU)).get_fdata() for s in manifest.split["train"]]
    mean_range = np.mean([[volume.min(), volume.max()] for volume in trained_on], axis=0)
    np.testing.assert_allclose(manifest.tracers["tau"].suvr_window, mean_range, atol=2e-3)
    assert not [path for path in manifest.checksums if "FLAIR" in path]


def test_the_output_is_called_relative_and_warned_of(run: RunFolder, toy: Path, tmp_path: Path) -> None:
    VISIT.flair(toy).unlink()
    heard = Heard()
    settings = {"steps": 1, "count": 2}
    outcome = synthesize(
        toy, tmp_path / "out", run.path, participants=["01", "02"], settings=settings, messages=heard
    )
    assert outcome.failed == {}
    assert ["no SUVr" in warning for warning in heard.warnings] == [True, False]
    assert "trained or validated on" in heard.warnings[1]
    path = VISIT.pet(tmp_path / "out", TAU, "synth")
    sidecar = json.loads(path.with_suffix("").with_suffix(".json").read_text())
    assert sidecar["Measure"] == "relative uptake"
    assert sidecar["Units"] == "arbitrary"
    assert sidecar["PetScaling"] == "minmax"
    assert "no SUVr" in sidecar["Description"]
    assert "SuvrWindow" not in sidecar
    assert b"SUVr" not in bytes(nib.load(path).header["descrip"])
    for subject in ("01", "02"):  # the second has a FLAIR, which the model must not see
        path = Visit(subject).pet(tmp_path / "out", TAU, "synth")
        sidecar = json.loads(path.with_suffix("").with_suffix(".json").read_text())
        assert sidecar["Inputs"] == ["T1w"]
        assert not [source for source in sidecar["Sources"] if "FLAIR" in source]


def test_an_input_that_the_model_does_not_see_changes_nothing(run: RunFolder, toy_source: Path) -> None:
    synthesizer = Synthesizer.from_run(run.path)
    t1w, flair = (nib.load(path) for path in (VISIT.t1w(toy_source), VISIT.flair(toy_source)))
    with pytest.warns(UserWarning, match="no SUVr"):
        both, alone = (synthesizer(t1w, f, tracer="tau", samples=1) for f in (flair, None))
    np.testing.assert_array_equal(both.mean.dataobj, alone.mean.dataobj)
