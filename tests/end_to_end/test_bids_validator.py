"""Every tree that relapet writes passes the BIDS validator without errors, as far as the standard reaches.

Names beyond it (.bidsignore) are those of proposals; what `preprocess` writes is tried beside its other tests.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from relapet.cli import main
from relapet.imaging.grid import GRIDS
from relapet.simulation.cohort import SimulationConfig, simulate_cohort
from support import bids_errors


@pytest.mark.slow
def test_as_scanned(as_scanned: Path) -> None:
    assert bids_errors(as_scanned) == []
    assert bids_errors(as_scanned / "derivatives" / "truth") == []


def test_the_validator_finds_what_is_wrong(toy: Path) -> None:
    """A name that no standard knows is an error: the patterns of .bidsignore do not hide everything."""
    (toy / "sub-01" / "anat" / "sub-01_T9w.json").write_text("{}")
    assert any("sub-01_T9w.json" in error for error in bids_errors(toy))


def test_simulated_cohort_and_its_truth(tmp_path: Path) -> None:
    simulate_cohort(SimulationConfig(subjects=1, grid=GRIDS["4mm"]), tmp_path)
    assert bids_errors(tmp_path) == []
    assert bids_errors(tmp_path / "truth") == []


def test_imported_layout(flat_layout: Path, tmp_path: Path) -> None:
    arguments = ["import-layout", str(flat_layout), str(tmp_path), "--units", "SUVR", "--grid", "4mm"]
    assert main([*arguments, "--quiet"]) == 1  # one of the two folders cannot be used
    assert bids_errors(tmp_path) == []


def test_synthetic_derivative(toy_source: Path, tiny_run: Path, tmp_path: Path) -> None:
    arguments = ["synthesize", str(toy_source), str(tmp_path), "participant", "--model", str(tiny_run)]
    more = ["--participant-label", "01", "--samples", "2", "--steps", "1", "--tracer", "tau"]
    assert main([*arguments, *more, "--quiet"]) == 0
    table = next(tmp_path.rglob("*_desc-synth_suvr.tsv"))
    table.with_suffix(".json").write_text('{"low": {"Units": "SUVr"}}')  # as a calibrated run has it
    assert bids_errors(tmp_path) == []
