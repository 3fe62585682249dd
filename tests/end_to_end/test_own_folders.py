"""No command writes into its input or among files that are not its own, and an output folder is of one call."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from relapet import api
from relapet.cli import main
from relapet.config import load_config
from relapet.imaging.bids import Visit, write_raw_description
from relapet.imaging.descriptions import is_made_by_relapet, is_simulated
from relapet.runs import RunFolder
from relapet.tracers import get_tracer
from support import TINY, TINY_SETTINGS

FIRST = Visit("01")
TAU = get_tracer("tau")


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def synthesize(source: Path, out: Path, model: Path, *more: str) -> int:
    arguments = ["synthesize", str(source), str(out), "participant", "--model", str(model), "--tracer", "tau"]
    return main([*arguments, "--participant-label", "01", "--quiet", *more])


@pytest.fixture(scope="module")
def other_run(toy_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another training of the same data."""
    settings = (*TINY_SETTINGS, "train.steps=1", "train.seed=5", "train.calibrate=false")
    return api.train(
        load_config(file=TINY, settings=settings), toy_source, tmp_path_factory.mktemp("o") / "run"
    ).path


def test_a_folder_is_of_one_model(
    toy_source: Path, tiny_run: Path, other_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert synthesize(toy_source, out, tiny_run) == 0
    before = contents(out)
    assert synthesize(toy_source, out, other_run) == 2
    assert "maps of another model (run)" in capsys.readouterr().err
    assert contents(out) == before
    assert synthesize(toy_source, out, tiny_run) == 0


def test_the_description_stands_before_any_map(
    toy_source: Path, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("relapet.synthesis.synthesize.write_synthesis", interrupt)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        api.synthesize(toy_source, out, tiny_run, ["tau"])
    model = json.loads((out / "dataset_description.json").read_text())["RelapetModel"]
    assert model["WeightsSHA256"] == RunFolder(tiny_run).weights_sha256()
    assert model["TrainingChecksums"]


@pytest.mark.parametrize("damage", ["replaced", "removed"])
def test_maps_of_a_model_that_the_description_does_not_name_are_not_scored(
    damage: str, toy_source: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert synthesize(toy_source, out, tiny_run) == 0
    path = out / "dataset_description.json"
    content = json.loads(path.read_text())
    if damage == "removed":
        path.unlink()
    else:
        model = content["RelapetModel"] | {"WeightsSHA256": "0" * 64, "TrainingChecksums": []}
        path.write_text(json.dumps(content | {"RelapetModel": model}))
    assert main(["evaluate", str(toy_source), str(out), str(tmp_path / "evaluation")]) == 2
    said = capsys.readouterr().err
    assert FIRST.pet(out, TAU, "synth").name in said
    assert "another model" in said
    assert not (tmp_path / "evaluation").exists()


def test_no_output_inside_its_input(
    toy: Path, tiny_run: Path, flat_layout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flat = Path(shutil.copytree(flat_layout, tmp_path / "flat"))
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    synthetic = tmp_path / "synthetic"
    assert synthesize(toy, synthetic, run) == 0
    before = {root: contents(root) for root in (toy, run, flat, synthetic)}
    for out in (toy, toy / "out"):
        calls = [
            ["synthesize", toy, out, "participant", "--model", run],
            ["preprocess", toy, out, "participant"],
            ["train", toy, out, "--preset", "demo"],
            ["evaluate", toy, synthetic, out],
        ]
        for call in calls:
            assert main([*map(str, call)]) == 2, call
            assert "the input" in capsys.readouterr().err, call
    for call in (
        ["synthesize", toy, run / "out", "participant", "--model", run],
        ["evaluate", toy, synthetic, synthetic / "evaluation"],
        ["import-layout", flat, flat, "--units", "SUVR"],
        ["import-layout", flat, flat / "out", "--units", "SUVR"],
    ):
        assert main([*map(str, call)]) == 2, call
        assert "the input" in capsys.readouterr().err, call
    assert {root: contents(root) for root in before} == before


def test_nobodys_own_files_are_overwritten(
    toy_source: Path, tiny_run: Path, flat_layout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for name in ("participants.tsv", "dataset_description.json", "config.yaml", "manifest.json", "log.tsv"):
        (own / name).write_text("{}")
    before = contents(own)
    for call in (
        ["simulate", own, "--subjects", "1"],
        ["simulate", own, "--subjects", "1", "--as-scanned"],
        ["train", toy_source, own, "--preset", "demo"],
        ["train", toy_source, own, "--config", own / "config.yaml", "--preset", "demo"],
        ["synthesize", toy_source, own, "participant", "--model", tiny_run],
        ["preprocess", toy_source, own, "participant"],
        ["import-layout", flat_layout, own, "--units", "SUVR"],
        ["evaluate", toy_source, toy_source, own],
    ):
        assert main([*map(str, call)]) == 2, call
        said = capsys.readouterr().err
        assert f"{own} is not empty" in said, said
        assert len(said.strip().splitlines()) == 1
    assert contents(own) == before


@pytest.mark.parametrize("resume", [False, True])
def test_trained_weights_whose_checkpoints_are_gone_stay(
    resume: bool, toy_source: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    shutil.rmtree(run / "checkpoint")
    before = contents(run)
    call = ["train", str(toy_source), str(run)]
    assert main([*call, *(["--resume"] if resume else ["--preset", "demo"])]) == 2
    assert "trained weights but no checkpoint" in capsys.readouterr().err
    assert contents(run) == before


def test_what_a_visit_has_is_of_one_call(toy_source: Path, tiny_run: Path, tmp_path: Path) -> None:
    def names(*more: str) -> list[str]:
        assert synthesize(toy_source, tmp_path / "out", tiny_run, *more) == 0
        return sorted(path.name for path in FIRST.folder(tmp_path / "out", "pet").iterdir())

    one = names("--samples", "1")
    assert any("synthstd" in name for name in names("--samples", "2"))
    assert names("--samples", "1") == one
    assert synthesize(toy_source, tmp_path / "out", tiny_run, "--tracer", "pib") == 0
    assert any("trc-AV1451" in name for name in one)
    assert set(one) < {path.name for path in FIRST.folder(tmp_path / "out", "pet").iterdir()}


def test_an_evaluation_leaves_nothing_of_the_one_before(
    toy_source: Path, tiny_run: Path, tmp_path: Path
) -> None:
    from relapet.evaluation.config import EvaluationConfig
    from relapet.evaluation.evaluate import evaluate
    from relapet.evaluation.folder import require_evaluation_folder

    held_out = RunFolder(tiny_run).read_manifest().split["test"]
    api.synthesize(toy_source, tmp_path / "synthetic", tiny_run, ["tau"], held_out)
    out = tmp_path / "out"
    (out / "figures").mkdir(parents=True)
    for name in ("voi.tsv", "downstream.tsv", "figures/boxes_psnr.png", "figures/correlations.png"):
        (out / name).write_text("of an evaluation that was killed")
    require_evaluation_folder(out)
    config = EvaluationConfig(bootstrap=20, permutations=20)
    evaluate(toy_source, [tmp_path / "synthetic"], out, config)
    assert not list((out / "figures").iterdir())
    assert not (out / "downstream.tsv").exists()
    assert (out / "voi.tsv").read_text().startswith("subject")
    (out / "my-notes.txt").write_text("keep")
    (out / "figures" / "mine.png").write_text("keep")
    (out / "downstream.tsv").write_text("of the call before")
    evaluate(toy_source, [tmp_path / "synthetic"], out, config)
    assert (out / "my-notes.txt").is_file()
    assert (out / "figures" / "mine.png").is_file()
    assert not (out / "downstream.tsv").exists()


def test_descriptions_and_sidecars_tell_no_path(
    toy_source: Path, tiny_run: Path, flat_layout: Path, tmp_path: Path
) -> None:
    source = Path(shutil.copytree(flat_layout, tmp_path / "flat"))
    (source / "A1").rename(source / "Smith_J")
    for path in (source / "Smith_J").iterdir():
        path.rename(path.with_name(path.name.replace("A1", "Smith_J")))
    assert synthesize(toy_source, tmp_path / "synthetic", tiny_run) == 0
    assert (
        main(["import-layout", str(source), str(tmp_path / "imported"), "--units", "SUVR", "--grid", "4mm"])
        == 1
    )
    for root in (tmp_path / "synthetic", tmp_path / "imported"):
        assert is_made_by_relapet(root)
        for path in root.rglob("*.json"):
            text = path.read_text()
            assert "file://" not in text, path
            assert str(tmp_path) not in text, path
            assert "Smith_J" not in text, path
    description = json.loads((tmp_path / "synthetic" / "dataset_description.json").read_text())
    assert description["SourceDatasets"] == [{"URL": "bids:source:"}]
    found = (tmp_path / "synthetic" / description["DatasetLinks"]["source"]).resolve()
    assert found == toy_source.resolve()


def test_who_learned_from_simulated_people_says_so_everywhere(
    toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    description = json.loads((toy / "dataset_description.json").read_text())
    (toy / "dataset_description.json").write_text(json.dumps(description | {"Simulated": True}))
    run = RunFolder(tmp_path / "run")
    config = load_config(file=TINY, settings=(*TINY_SETTINGS, "train.steps=1"))
    api.train(config, toy, run.path)
    assert json.loads(run.manifest.read_text())["trained_on"] == "simulated"
    out = tmp_path / "out"
    assert main(["synthesize", str(toy), str(out), "participant", "--model", str(run.path)]) == 0
    assert "learned from simulated people" in capsys.readouterr().err
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["RelapetModel"]["TrainedOn"] == "simulated"
    assert "simulated people" in description["Description"]
    for path in FIRST.folder(out, "pet").glob("*.json"):
        assert json.loads(path.read_text())["TrainedOn"] == "simulated", path
    assert FIRST.voi_table(out, TAU, "synth").with_suffix(".json").is_file()


def test_a_sidecar_alone_says_simulated(toy: Path, tmp_path: Path) -> None:
    assert not is_simulated(toy, [FIRST.t1w(toy)])
    FIRST.t1w(toy).with_name(FIRST.t1w(toy).name.replace(".nii.gz", ".json")).write_text(
        '{"Simulated": true}'
    )
    assert is_simulated(toy, [FIRST.t1w(toy)])
    write_raw_description(tmp_path / "raw", "raw", "note", Simulated=True)
    assert is_simulated(tmp_path / "raw")
