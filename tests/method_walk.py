"""A method's life through the real commands: train, kill, resume, synthesize, evaluate."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import yaml

from relapet.imaging.bids import Visit
from relapet.runs import RunFolder
from relapet.setting_files import compose
from relapet.tracers import simulated_tracers
from relapet.training.checkpoint import checkpoints
from support import TOY_GRID, assert_equal_runs, write_toy_derivative

ENVIRONMENT = {
    **{key: value for key, value in os.environ.items() if key not in ("RANK", "LOCAL_RANK")},
    "OMP_NUM_THREADS": "1",
}
STEPS = 6
_COMMANDS = """
import json, sys
module, register, calls = json.loads(sys.argv[1])
if module:
    import importlib, pathlib
    sys.path.insert(0, str(pathlib.Path(module).parent))
    names = vars(importlib.import_module(pathlib.Path(module).stem))
    from relapet.methods import METHODS
    exec(register, {**names, "METHODS": METHODS})
from relapet.cli import main
print(json.dumps([main(call) for call in calls]), file=sys.stderr)
"""


@dataclass(frozen=True)
class Subject:
    """Which method is walked: a module that a line registers (none for a shipped method), and its preset."""

    module: Path | None
    register: str
    preset: Path | str
    """A packaged preset's name, or a YAML file."""

    def settings(self) -> list[str]:
        """The preset, shrunk to what six steps take a second for."""
        given = ["--config", str(self.preset)] if isinstance(self.preset, Path) else ["--preset", self.preset]
        single = [
            *(f"train.steps={STEPS}", "train.seconds=null", "train.checkpoint_every=2", "train.log_every=1"),
            *("train.precision=32-true", "train.validate_every=4", "sample.steps=2", "sample.count=2"),
        ]
        preset = self.preset
        content = yaml.safe_load(preset.read_text()) if isinstance(preset, Path) else compose(preset)
        method = content["method"]
        if "generator" in method:
            single += ["method.generator.channels=[8,8]", "method.generator.residual_blocks=1"]
        if "discriminator" in method:
            single += ["method.discriminator.layers=2", "method.discriminator.channels=4"]
        if "adversarial_start" in method:
            single += ["method.adversarial_start=1"]
        # What is counted in steps ends within the walk's, so that every phase has a turn.
        single += [f"method.{name}={STEPS // 2}" for name in method if name.endswith("_steps")]
        return [*given, "--set", *single]


def _process(subject: Subject, calls: Sequence[Sequence[str]]) -> subprocess.Popen[str]:
    module = None if subject.module is None else str(subject.module)
    what = json.dumps([module, subject.register, [list(call) for call in calls]])
    return subprocess.Popen(
        [sys.executable, "-c", _COMMANDS, what],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(subject: Subject, calls: Sequence[Sequence[str]]) -> tuple[list[int], str]:
    """Exit status of each command, called one after another in one process, and what was said."""
    out, err = _process(subject, calls).communicate(timeout=900)
    lines = err.strip().splitlines()
    assert lines, out
    assert lines[-1].startswith("["), err
    return json.loads(lines[-1]), out + err


def kill_when_begun(subject: Subject, call: Sequence[str], folder: RunFolder) -> None:
    """Start training and SIGKILL it after its first checkpoint (a closed form: once its folder stands)."""
    process = _process(subject, [call])
    try:
        deadline = time.monotonic() + 600
        while process.poll() is None and time.monotonic() < deadline:
            if checkpoints(folder.checkpoints) or (folder.fitted.exists() or folder.prior.exists()):
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    finally:
        process.kill()


def walk_through_the_commands(subject: Subject, folder: Path) -> None:
    """Train, train again with a kill and a resume, synthesize, evaluate; refuse another method's run."""
    cohort = write_toy_derivative(folder / "cohort", 8)
    whole, killed = RunFolder(folder / "whole"), RunFolder(folder / "killed")
    settings = subject.settings()
    kill_when_begun(subject, ["train", str(cohort), str(killed.path), *settings], killed)
    other = "linear" if subject.preset != "linear" else "tracer_mean"
    synthetic, evaluation = folder / "synthetic", folder / "evaluation"
    status, said = run(
        subject,
        [
            ["train", str(cohort), str(whole.path), *settings, "--quiet"],
            ["train", str(cohort), str(killed.path), *settings, "--resume", "--quiet"],
            ["train", str(cohort), str(killed.path), "--preset", other, "--resume", "--quiet"],
        ],
    )
    assert status == [0, 0, 2], said
    assert_equal_runs(whole, killed)
    assert whole.calibration.is_file()
    people = whole.read_manifest().split["test"]
    synthesize = ["synthesize", str(cohort), str(synthetic), "participant", "--model", str(killed.path)]
    status, said = run(
        subject,
        [
            [*synthesize, "--participant-label", *people, "--quiet"],
            ["evaluate", str(cohort), str(synthetic), str(evaluation), "--quiet"],
        ],
    )
    assert status == [0, 0], said
    for tracer in simulated_tracers().values():
        image = nib.load(Visit(people[0]).pet(synthetic, tracer, "synth"))
        assert TOY_GRID.matches(image.shape, image.affine)
        assert np.isfinite(image.get_fdata()).all()
        assert image.get_fdata().max() > 0.5  # SUVr of a brain
    metrics = pd.read_csv(evaluation / "image_metrics.tsv", sep="\t")
    assert {"psnr", "ssim", "mae"} <= set(metrics.columns)
    assert set(metrics["tracer"]) == set(simulated_tracers())
    _check_mixed_folders(subject, whole, folder / "mixed", [str(cohort), str(folder / "out")])


def _check_mixed_folders(subject: Subject, run_folder: RunFolder, mixed: Path, paths: list[str]) -> None:
    """A run folder whose settings are of another method is refused in one sentence, and nothing is written."""
    mixed.mkdir()
    for path in run_folder.path.iterdir():
        (mixed / path.name).symlink_to(path)
    settings = run_folder.read_settings()
    (mixed / "config.yaml").unlink()
    own = settings["method"]["name"]
    settings["method"] = {"name": "tracer_mean" if own != "tracer_mean" else "regression"}
    (mixed / "config.yaml").write_text(yaml.safe_dump(settings))
    call = ["synthesize", paths[0], paths[1], "participant", "--model", str(mixed), "--quiet"]
    status, said = run(subject, [call])
    assert status == [2], said
    assert "train again" in said
    assert not Path(paths[1]).exists()
