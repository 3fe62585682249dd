"""`fast` on few participants: a tracer that two or one of them have, one MRI alone, and one participant in all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from relapet.cli import main
from relapet.imaging.bids import Visit
from relapet.imaging.nifti import load_volume
from relapet.tracers import get_tracer
from support import write_toy_derivative

SMALL = (
    *("train.steps=4", "train.precision=32-true", "data.validation_fraction=0.1", "data.test_fraction=0"),
    *("method.generator.channels=[8,8]", "sample.count=2", "sample.steps=2"),
)


@pytest.fixture(scope="module")
def everyone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_derivative(tmp_path_factory.mktemp("few") / "everyone", 10)


def lacking(everyone: Path, folder: Path, tracer: str, kept: tuple[str, ...]) -> Path:
    """The cohort with a tracer of some people alone; its scans are links."""
    for path in everyone.rglob("*"):
        if path.is_file() and not (get_tracer(tracer).label in path.name and path.name[4:6] not in kept):
            link = folder / path.relative_to(everyone)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    return folder


@pytest.mark.parametrize("inputs", ["[T1w,FLAIR]", "[T1w]"])
def test_a_tracer_that_two_have_is_learnt(everyone: Path, tmp_path: Path, inputs: str) -> None:
    cohort = lacking(everyone, tmp_path / "cohort", "pib", ("01", "02", "03"))
    run, out = tmp_path / "run", tmp_path / "out"
    settings = (*SMALL, f"data.inputs={inputs}")
    assert main(["train", str(cohort), str(run), "--preset", "fast", "--quiet", "--set", *settings]) == 0
    call = [
        "synthesize",
        str(everyone),
        str(out),
        "participant",
        "--model",
        str(run),
        "--no-report",
        "--quiet",
    ]
    assert main([*call, "--participant-label", "10"]) == 0
    suvr = np.asarray(load_volume(Visit("10").pet(out, get_tracer("pib"), "synth")).dataobj)
    assert 0.5 < suvr.max() < 3


def test_one_that_one_has_is_left_out_with_a_word(
    everyone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for who in ("01", "02", "03"):  # one of them is the validation participant
        cohort = lacking(everyone, tmp_path / who, "pib", (who,))
        run = tmp_path / f"run-{who}"
        assert main(["train", str(cohort), str(run), "--preset", "fast", "--quiet", "--set", *SMALL]) == 0
        said = " ".join(capsys.readouterr().err.split())
        assert "training participant has pib" in said
        assert "so the model will not know it" in said


def test_nobody_can_be_learnt_from_one(
    everyone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort = write_toy_derivative(tmp_path / "cohort", 1)
    settings = (*SMALL, "data.validation_fraction=0")
    status = main(
        ["train", str(cohort), str(tmp_path / "run"), "--preset", "fast", "--quiet", "--set", *settings]
    )
    assert status == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "no tracer with 2 training participants" in said
    assert "add subjects" in said
