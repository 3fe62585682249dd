"""Calls and settings that nothing can be done with: refused in one sentence, before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from relapet.cli import main
from support import TINY


def train(source: Path, run: Path, *settings: str) -> int:
    single = ["train.steps=1", "train.calibrate=false", *settings]
    return main(["train", str(source), str(run), "--config", str(TINY), "--quiet", "--set", *single])


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("data.tracers=[tau,tau]", "named twice"),
        ("data.tracers=[tau,AV1451]", "named twice"),
        ("data.tracers=[fdg9]", "Unknown tracer"),
        ("data.inputs=[T1w,T1w]", "named twice"),
        ("data.augment.turn_degrees=.inf", "finite"),
        ("train.steps=true", "train: steps is true"),
        ("train.steps={", "cannot be read"),
        ("train.steps=!!python/object:os.system x", "could not determine a constructor"),
        ("train.steps=*a", "references"),
        ("train.lr=" + "[" * 5000, "nested too deeply"),
        ("train.steps=" + "9" * 400, "too large"),
        ("train.steps=" + "9" * 5000, "Exceeds the limit"),
        ("method.generator.channels=[8,-8]", "channels"),
        ("method.generator.channels=[]", "channels"),
        ("method.generator.channels=[7,9]", "norm_groups"),
        ("method.generator.channels=[100000000000,8]", "channels"),
        ("method.discriminator.layers=50", "layers"),
        ("method.discriminator_betas=[0.9,1]", "less than 1"),
        ("train.batch_size=100000000", "batch_size"),
        ("train.devices=999", "cores"),
        ("sample.count=99999999999", "count"),
        ("sample.steps=100000", "1000 steps at most"),
        ("data.validation_fraction=0.9", "too few"),
    ],
)
def test_an_unusable_setting_is_refused_before_anything_is_written(
    setting: str, words: str, toy_source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(toy_source, tmp_path / "run", setting) == 2
    said = capsys.readouterr().err
    assert words in said
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "nowhere", "run", "--preset", "demo"], "does not exist"),
        (["train", "nowhere", "run", "--preset", "none"], "demo"),
        (["train", "nowhere", "run"], "--preset"),
        (["train", ".", "run", "--preset", "demo", "--set", "train.stepz=3"], "train.stepz"),
        (["train", "nowhere", "run", "--preset", "demo", "--set", "train.steps"], "key=value"),
        (["train", "nowhere", "run", "--preset", "demo", "--config", "missing.yaml"], "missing.yaml"),
        (["simulate", "out", "--grid", "7mm"], "2.5mm"),
        (["simulate", "out", "--site", "moon"], "research"),
        (["info", "colours"], "tracers"),
        (["info", "presets", "none"], "demo"),
        (["evaluate", "nowhere", "nowhere", "out"], "nowhere"),
        (["synthesize", "a", "b", "group", "--model", "c"], "participant"),
        (["preprocess", ".", "out", "participant", "--fwhm", "-5"], "--fwhm is -5"),
        (["preprocess", ".", "out", "participant", "--fwhm", "nan"], "--fwhm is nan"),
        (
            ["preprocess", ".", "out", "participant", "--fwhm", "8", "--scanner-fwhm", "inf"],
            "--scanner-fwhm is inf",
        ),
        (["simulate", ""], "argument is empty"),
        (["evaluate", ".", ".", ""], "argument is empty"),
    ],
)
def test_unusable_calls(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.startswith("relapet: error: ")
    assert len(said.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())
