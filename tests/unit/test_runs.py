"""The checksum that sidecars give: of every file that decides what a model gives, and of nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from relapet.cli import main
from relapet.evaluation.uncertainty.conformal import load_calibration
from relapet.files import read_json, sha256, write_json
from relapet.run_contents import Adjustment
from relapet.runs import RunFolder


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> RunFolder:
    """A copy of the tiny run, without what a checksum could not depend on."""
    left = shutil.ignore_patterns("cache", "checkpoint", "figures")
    return RunFolder(Path(shutil.copytree(tiny_run, tmp_path / "run", ignore=left)))


def test_every_file_that_decides_the_maps_decides_the_checksum(run: RunFolder) -> None:
    seen = {run.weights_sha256()}
    decisive = (run.averaged_weights("generator"), run.fitted, run.prior, run.training_mean, run.adjustment)
    for number, path in enumerate(decisive, 2):
        path.write_bytes((path.read_bytes() if path.is_file() else b"") + b" ")
        seen.add(run.weights_sha256())
        assert len(seen) == number, path.name


def test_what_decides_no_map_leaves_the_checksum(run: RunFolder) -> None:
    before = run.weights_sha256()
    for path in (run.calibration, run.log, run.raw_weights("generator")):
        path.write_bytes(path.read_bytes() + b" ")
    assert run.weights_sha256() == before


def test_a_calibration_that_counted_fewer_files_still_holds(
    run: RunFolder, toy_source: Path, tmp_path: Path
) -> None:
    assert load_calibration(run.calibration).weights_sha256 == run.weights_sha256()
    earlier = run.earlier_weights_sha256()
    assert earlier == sha256(run.averaged_weights("generator")) != run.weights_sha256()
    run.write_adjustment({"tau": Adjustment(trust=0.5, spread=1.0)})
    assert run.earlier_weights_sha256() == earlier
    call = ["synthesize", str(toy_source), str(tmp_path / "out"), "participant", "--model", str(run.path)]
    only = ["--participant-label", "01", "--tracer", "tau", "--quiet"]
    assert main([*call, *only]) == 2  # of this run before the adjustment
    write_json(run.calibration, read_json(run.calibration) | {"weights_sha256": earlier})
    assert main([*call, *only]) == 0
