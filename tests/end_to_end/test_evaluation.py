"""One call of evaluate with everything that it can do: samples, outcomes, another cohort, figures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from relapet.cli import main
from relapet.imaging.bids import Visit, write_dataset_description
from relapet.imaging.nifti import load_volume, save_volume
from relapet.imaging.template import load_atlas
from relapet.tracers import get_tracer
from support import TOY_GRID, write_toy_derivative

TAU = get_tracer("tau")
SUBJECTS = 22
SAMPLES = 5


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Measured tau PET with phenotype, and synthetic maps with samples and intervals of known error."""
    root = tmp_path_factory.mktemp("everything")
    real = write_toy_derivative(root / "real", SUBJECTS)
    grid, rng = TOY_GRID, np.random.default_rng(0)
    atlas = load_atlas(grid)
    rows = []
    for number in range(1, SUBJECTS + 1):
        visit = Visit(f"{number:02d}")
        measured = np.asarray(load_volume(visit.pet(real, TAU)).dataobj)
        shifts = rng.normal(0, 0.1, SAMPLES)
        mean = np.maximum(measured + np.float32(shifts.mean()), 0)
        save_volume(visit.pet(root / "synth", TAU, "synth"), mean, grid.affine)
        vois = pd.Series(atlas.means(measured))
        head = pd.DataFrame({"index": vois.index, "name": [atlas.names[i] for i in vois.index]})
        table = visit.voi_table(root / "synth", TAU, "synth")
        middle = vois.to_numpy() + shifts.mean()
        # Every other subject is covered.
        reach = 1.0 if number % 2 else 0.01 * abs(shifts.mean())
        head.assign(
            mean=middle, sd=shifts.std(ddof=1), volume=512, low=middle - reach, high=middle + reach
        ).to_csv(table, sep="\t", index=False)
        table.with_suffix(".json").write_text(json.dumps({"IntervalLevel": 0.9}))
        samples = {f"sample-{i}": vois.to_numpy() + shift for i, shift in enumerate(shifts)}
        head.assign(**samples).to_csv(
            visit.voi_table(root / "synth", TAU, "synthsamples"), sep="\t", index=False
        )
        level = float(vois.mean())
        person = {"participant_id": visit.stem, "age": 60 + rng.integers(10), "sex": "FM"[number % 2]}
        rows.append(person | {"memory": -10 * level + rng.normal(0, 0.1)})
    people = pd.DataFrame(rows)
    people[["participant_id", "age", "sex"]].to_csv(real / "participants.tsv", sep="\t", index=False)
    people[["participant_id", "memory"]].to_csv(root / "cognition.tsv", sep="\t", index=False)
    write_dataset_description(
        root / "synth", "test", [], RelapetModel={"Method": "exact", "TrainingChecksums": []}
    )
    return real, root / "synth"


@pytest.fixture(scope="module")
def done(trees: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    real, synth = trees
    out = tmp_path_factory.mktemp("evaluation")
    phenotype = str(synth.parent / "cognition.tsv")
    wanted = ["--phenotype", phenotype, "--outcome", "memory", "pib_positivity"]
    # Positivity of a tracer that was not scored cannot be predicted: named, exit status 1, all else written.
    assert main(["evaluate", str(real), str(synth), str(out), *wanted, "--quiet"]) == 1
    return out


def test_uncertainty_is_judged_and_shown(done: Path) -> None:
    coverage = pd.read_csv(done / "uncertainty_coverage.tsv", sep="\t").query("voi == 'all'")
    conformal = coverage[coverage["interval"] == "conformal"].iloc[0]
    assert (conformal["level"], conformal["coverage"], conformal["n"]) == (0.9, 0.5, SUBJECTS)
    samples = coverage[coverage["interval"] == "samples"]
    assert list(samples["level"]) == [0.5, 0.8, 0.9, 0.95]
    assert (samples["n_samples"] == SAMPLES).all()
    assert (done / "uncertainty_crps.tsv").is_file()
    text = (done / "summary.md").read_text()
    assert "| tau | exact | conformal | 90% | 22 | 0.5 [" in text
    assert "nan" not in text


def test_outcomes_are_predicted_and_what_cannot_be_is_named(done: Path) -> None:
    table = pd.read_csv(done / "downstream.tsv", sep="\t")
    assert set(table["outcome"]) == {"memory"}
    summary = json.loads((done / "summary.json").read_text())
    assert summary["downstream"]["studies"][0]["n"] == SUBJECTS
    assert list(summary["unmet"]) == ["downstream pib_positivity exact"]
    text = (done / "summary.md").read_text()
    assert "Measured PET " in text
    assert "Positivity of pib is unknown" in text


def test_figures_stand_beside_the_tables_that_they_are_drawn_from(done: Path) -> None:
    listed = pd.read_csv(done / "figures" / "figures.tsv", sep="\t")
    drawn = sorted(path.name for path in (done / "figures").glob("*.png"))
    assert sorted(listed["figure"]) == drawn
    kinds = {name.split("_")[0] for name in drawn}
    assert {"scatter", "bland-altman", "boxes", "spectra.png", "coverage", "sample-mean"} <= kinds
    assert {"subject-best", "subject-median", "subject-worst", "downstream-memory"} <= kinds
    for tables in listed["tables"]:
        assert all((done / name).is_file() for name in tables.split(", "))


def test_the_drop_from_an_internal_evaluation_is_written(
    trees: tuple[Path, Path], done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first ten subjects against all of them; no truth, no phenotype, no MRI beside the PET."""
    real, synth = trees
    bare = Path(shutil.copytree(real, tmp_path / "bare", ignore=shutil.ignore_patterns("anat", "*.tsv")))
    chosen = [f"{number:02d}" for number in range(1, 11)]
    arguments = ["evaluate", str(bare), str(synth), str(tmp_path / "out"), "--internal", str(done)]
    assert main([*arguments, "--participant-label", *chosen, "--quiet"]) == 0
    assert "subject-best_tracer-tau_method-exact.png is not drawn" in capsys.readouterr().err
    table = pd.read_csv(tmp_path / "out" / "external.tsv", sep="\t").set_index("metric")
    assert (table.loc["mae", "n_internal"], table.loc["mae", "n_external"]) == (SUBJECTS, 10)
    assert "## Another cohort" in (tmp_path / "out" / "summary.md").read_text()
    assert main([*arguments[:-1], str(tmp_path / "none"), "--quiet"]) == 2
    assert "does not exist; check the path" in capsys.readouterr().err


def test_two_subjects_have_no_correlation_and_the_reason_is_said(
    trees: tuple[Path, Path], tmp_path: Path
) -> None:
    real, synth = trees
    arguments = ["evaluate", str(real), str(synth), str(tmp_path), "--participant-label", "01", "02"]
    assert main([*arguments, "--quiet"]) == 0
    agreement = pd.read_csv(tmp_path / "agreement.tsv", sep="\t")
    assert agreement["r"].isna().all()
    assert set(agreement["reason"]) == {"fewer than 3 subjects"}
    text = (tmp_path / "summary.md").read_text()
    assert "With fewer than 3 subjects there is no correlation, interval or test." in text
    assert (tmp_path / "figures" / "scatter_tracer-tau_method-exact.png").is_file()
