"""A run folder is checked once, as it is opened: each fault is one sentence that names the file and the field."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from relapet.cli import main
from relapet.errors import InputError
from relapet.runs import RunFolder
from relapet.synthesis.synthesizer import Synthesizer

Damage = Callable[[RunFolder], None]


def manifest(**values: Any) -> Damage:
    def damage(run: RunFolder) -> None:
        run.manifest.write_text(json.dumps(json.loads(run.manifest.read_text()) | values))

    return damage


def tracer(**values: Any) -> Damage:
    def damage(run: RunFolder) -> None:
        content = json.loads(run.manifest.read_text())
        content["tracers"]["tau"] |= values
        run.manifest.write_text(json.dumps(content))

    return damage


def setting(part: str, value: Any) -> Damage:
    def damage(run: RunFolder) -> None:
        content = yaml.safe_load(run.config.read_text())
        run.config.write_text(yaml.safe_dump(content | {part: value}))

    return damage


def arrays(name: str, change: Callable[[dict[str, np.ndarray]], object]) -> Damage:
    def damage(run: RunFolder) -> None:
        path = run.weights / name
        content = {key: array.copy() for key, array in load_file(path).items()}
        change(content)
        save_file(content, path)

    return damage


def first_is(value: float) -> Callable[[dict[str, np.ndarray]], None]:
    def change(content: dict[str, np.ndarray]) -> None:
        next(iter(content.values())).flat[0] = value

    return change


def half_width(value: Any) -> Damage:
    def damage(run: RunFolder) -> None:
        content = json.loads(run.calibration.read_text())
        vois = next(iter(content["vois"].values()))
        next(iter(vois.values()))["half_width"] = value
        run.calibration.write_text(json.dumps(content))

    return damage


CASES: list[tuple[Damage, tuple[str, ...]]] = [
    (manifest(grid="9mm"), ("manifest.json", "grid")),
    (manifest(grid=3), ("manifest.json", "grid")),
    (manifest(grid="4mm"), ("training_mean.safetensors", "4mm")),
    (manifest(space="Talairach"), ("manifest.json", "space")),
    (manifest(tracers={}), ("manifest.json", "tracers")),
    (manifest(tracer_slots=0), ("manifest.json", "tracer_slots")),
    (manifest(tracer_slots=10**9), ("manifest.json", "tracer_slots")),
    (manifest(inputs=["CT"]), ("manifest.json", "inputs")),
    (manifest(inputs=["T1w"]), ("manifest.json", "required_inputs")),
    (manifest(method=None), ("manifest.json", "method")),
    (manifest(split=3), ("manifest.json", "split")),
    (tracer(index=99), ("manifest.json", "indices")),
    (tracer(index=-1), ("manifest.json", "tracers.tau.index")),
    (tracer(suvr_window=[float("nan"), 2.0]), ("manifest.json", "suvr_window")),
    (tracer(suvr_window=[3.0, 1.0]), ("manifest.json", "suvr_window")),
    (setting("method", 3), ("config.yaml", "method")),
    (setting("method", {"name": "oracle"}), ("config.yaml", "oracle")),
    (setting("method", {"name": "rela", "generator": {"channels": ["a"]}}), ("config.yaml", "channels")),
    (setting("sample", {"steps": 0}), ("config.yaml", "steps")),
    (setting("train", None), ("config.yaml", "train")),
    (lambda run: run.config.write_text("a: " + "[" * 3000) and None, ("config.yaml", "nested")),
    (lambda run: run.manifest.write_text("[" * 100000) and None, ("manifest.json", "JSON")),
    (arrays("generator_ema.safetensors", first_is(np.nan)), ("generator_ema.safetensors", "NaN")),
    (arrays("generator_ema.safetensors", first_is(np.inf)), ("generator_ema.safetensors", "infinity")),
    (arrays("generator_ema.safetensors", dict.popitem), ("weights", "does not fit")),
    (arrays("training_mean.safetensors", first_is(np.nan)), ("training_mean.safetensors", "NaN")),
    (arrays("training_mean.safetensors", lambda c: c.pop("tau")), ("training_mean.safetensors", "tau")),
    (lambda run: run.training_mean.unlink(), ("training_mean.safetensors", "cannot be read")),
    (half_width({"0.5": float("nan")}), ("calibration.json", "half_width")),
    (half_width({"0.5": -1.0}), ("calibration.json", "half_width")),
    (half_width({}), ("calibration.json", "half_width")),
]


@pytest.mark.parametrize(
    ("damage", "named"), CASES, ids=[f"{i}-{c[1][0]}-{c[1][1]}" for i, c in enumerate(CASES)]
)
def test_a_broken_run_is_refused_before_anything_is_written(
    damage: Damage,
    named: tuple[str, ...],
    toy_source: Path,
    tiny_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = RunFolder(tmp_path / "run")
    shutil.copytree(tiny_run, run.path, ignore=shutil.ignore_patterns("cache", "checkpoint", "figures"))
    damage(run)
    out = tmp_path / "out"
    assert main(["synthesize", str(toy_source), str(out), "participant", "--model", str(run.path)]) == 2
    said = capsys.readouterr().err
    for text in named:
        assert text in said
    assert said.startswith("relapet: error: ")
    assert len(said.strip().splitlines()) == 1
    assert not out.exists()


def test_a_run_that_is_whole_opens(tiny_run: Path) -> None:
    assert Synthesizer.from_run(tiny_run).manifest.trained_on is None


def test_what_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run folder"):
        Synthesizer.from_run(tmp_path)
