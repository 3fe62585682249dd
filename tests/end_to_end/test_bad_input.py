"""What users may hand over: one clear sentence, the right exit status, nothing half-written, others done."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from relapet.cli import main
from relapet.imaging.bids import Visit
from relapet.runs import RunFolder
from relapet.tracers import get_tracer
from support import TINY

FIRST, SECOND, THIRD = Visit("01"), Visit("02"), Visit("03")
TAU = get_tracer("tau")


@pytest.fixture
def three(toy: Path) -> Path:
    for number in range(4, 9):
        shutil.rmtree(toy / f"sub-{number:02d}")
    return toy


def synthesize(source: Path, out: Path, model: Path, *more: str) -> int:
    arguments = ["synthesize", str(source), str(out), "participant", "--model", str(model), "--tracer", "tau"]
    return main([*arguments, "--steps", "1", "--samples", "1", "--quiet", *more])


def rewrite(path: Path, change: Any) -> None:
    image = nib.load(path)
    data, affine = change(np.asarray(image.dataobj), image.affine)
    nib.save(nib.Nifti1Image(data, affine), path)


def drop_flair(root: Path) -> None:
    SECOND.flair(root).unlink()


def flair_on_another_grid(root: Path) -> None:
    rewrite(SECOND.flair(root), lambda data, affine: (data[1:], affine))


def truncated(root: Path) -> None:
    path = SECOND.t1w(root)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def not_a_number(root: Path) -> None:
    def change(data: Any, affine: Any) -> Any:
        data = data.copy()
        data[3, 4, 5] = np.nan
        return data, affine

    rewrite(SECOND.t1w(root), change)


def four_dimensions(root: Path) -> None:
    rewrite(SECOND.t1w(root), lambda data, affine: (np.stack([data, data], axis=-1), affine))


def affine_that_is_not_mni(root: Path) -> None:
    shift = np.eye(4)
    shift[:3, 3] = (0, 60, -40)
    for path in (SECOND.t1w(root), SECOND.flair(root), SECOND.mask(root)):
        rewrite(path, lambda data, affine: (data, shift @ affine))


def head_that_is_not_extracted(root: Path) -> None:
    SECOND.mask(root).unlink()
    rewrite(SECOND.t1w(root), lambda data, affine: (data + 100, affine))


def negative(root: Path) -> None:
    rewrite(SECOND.t1w(root), lambda data, affine: (-data, affine))


def nothing_in_mni_space(root: Path) -> None:
    for path in (SECOND.t1w(root), SECOND.flair(root)):
        path.rename(path.with_name(path.name.replace("_space-MNI152NLin2009aSym_desc-preproc", "")))


CASES = {
    drop_flair: ("no FLAIR", "anat"),
    flair_on_another_grid: ("another grid", "sub-02"),
    truncated: ("truncated", "T1w.nii.gz"),
    not_a_number: ("NaN", "T1w.nii.gz"),
    four_dimensions: ("4 dimensions", "T1w.nii.gz"),
    affine_that_is_not_mni: ("MNI", "sub-02"),
    head_that_is_not_extracted: ("brain_mask", "sub-02"),
    negative: ("no tissue", "sub-02"),
    nothing_in_mni_space: ("relapet preprocess", "anat"),
}


@pytest.mark.parametrize("damage", CASES, ids=lambda damage: damage.__name__)
def test_one_bad_subject_is_named_and_the_others_are_done(
    damage: Any, three: Path, tmp_path: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(three)
    out = tmp_path / "out"
    assert synthesize(three, out, tiny_run) == 1
    said = capsys.readouterr().err
    for text in CASES[damage]:
        assert text in said
    assert "Traceback" not in said
    reasons = [line for line in said.splitlines() if line.startswith("  sub-")]
    assert len(reasons) == 1
    assert reasons[0].endswith(".")
    assert FIRST.pet(out, TAU, "synth").is_file()
    assert THIRD.pet(out, TAU, "synth").is_file()
    assert not list(out.glob("sub-02/**/*.*"))
    assert not list(out.rglob(".tmp*"))


def test_a_full_disk_stops_one_subject_and_leaves_nothing_half_written(
    three: Path,
    tmp_path: Path,
    tiny_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    original = nib.save

    def save(image: Any, path: Path) -> None:
        original(image, path)
        if "sub-02" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("relapet.imaging.nifti.nib.save", save)
    out = tmp_path / "out"
    assert synthesize(three, out, tiny_run) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert not list(out.glob("sub-02/**/*.*"))
    assert not list(out.rglob(".tmp*"))
    assert THIRD.pet(out, TAU, "synth").is_file()


def test_no_such_folder(tmp_path: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert synthesize(tmp_path / "nowhere", out, tiny_run) == 2
    assert "does not exist" in capsys.readouterr().err
    assert not out.exists()


def test_no_subjects(tmp_path: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert synthesize(tmp_path / "empty", tmp_path / "out", tiny_run) == 2
    assert "no sub-" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_unknown_tracer_is_answered_with_those_there_are(
    three: Path, tmp_path: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert synthesize(three, tmp_path / "out", tiny_run, "--tracer", "fdg9") == 2
    said = capsys.readouterr().err
    assert "fdg9" in said
    assert "pib" in said
    assert "tau" in said
    assert not (tmp_path / "out").exists()


def test_a_run_folder_of_a_newer_version(
    three: Path, tmp_path: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(manifest | {"run_format": 99}))
    assert synthesize(three, tmp_path / "out", run) == 2
    assert "newer relapet" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("broken", ["weights/generator_ema.safetensors", "manifest.json", "config.yaml"])
def test_a_broken_run_folder_names_the_file(
    broken: str, three: Path, tmp_path: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    (run / broken).write_bytes(b"\x00{[")
    assert synthesize(three, tmp_path / "out", run) == 2
    assert Path(broken).name in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_cannot_be_written(
    three: Path, tmp_path: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert synthesize(three, tmp_path / "file" / "out", tiny_run) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_participant_who_is_not_there(
    three: Path, tmp_path: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert synthesize(three, tmp_path / "out", tiny_run, "--participant_label", "01", "77") == 2
    assert "77" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--atlas", "atlas.nii.gz"], "atlas.nii.gz does not exist"),
        (
            ["--phenotype", "scores.tsv", "--outcome", "attention"],
            "lacks the column attention; it has: memory",
        ),
        (["--phenotype", "scores.tsv"], "without --outcome"),
        (["--outcome", "memory"], "needs --phenotype"),
        (["--phenotype", "none.tsv", "--outcome", "memory"], "none.tsv does not exist"),
        (["--internal", "none"], "none does not exist"),
        (["--internal", "."], "give a folder that evaluate wrote"),
        (["--participant-label", "99"], "no participant 99"),
    ],
)
def test_evaluate_refuses_in_one_sentence_and_writes_nothing(
    options: list[str],
    words: str,
    three: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    people = "\n".join(f"sub-{number:02d}\t{60 + number}" for number in range(1, 4))
    (three / "participants.tsv").write_text(f"participant_id\tage\n{people}\n")
    Path("scores.tsv").write_text(f"participant_id\tmemory\n{people}\n")
    assert main(["evaluate", str(three), str(three), "out", *options]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.startswith("relapet: error: ")
    assert len(said.strip().splitlines()) == 1
    assert not Path("out").exists()


def train(source: Path, run: Path, *settings: str) -> int:
    single = ["train.steps=1", "train.calibrate=false", *settings]
    return main(["train", str(source), str(run), "--config", str(TINY), "--quiet", "--set", *single])


@pytest.mark.parametrize("broken", ["01", "02"])
def test_training_names_a_broken_scan_whoever_it_is_of_and_goes_on(
    broken: str, toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Visit(broken).t1w(toy)
    path.write_bytes(b"no image")
    assert train(toy, tmp_path / "run", "data.test_fraction=0") == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"  sub-{broken}: {path} cannot be read")
    run = RunFolder(tmp_path / "run")
    assert list(run.read_manifest().left_out) == [f"sub-{broken}"]
    assert run.averaged_weights("generator").is_file()


@pytest.mark.parametrize("name", ["sub-A[1]", "sub-04_x", "sub-", "sub-02/ses-a b", "sub-09"])
def test_no_participant_is_left_out_without_a_word(
    name: str, three: Path, tmp_path: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = three / name
    if name == "sub-09":
        odd.symlink_to(tmp_path / "gone")
    else:
        shutil.copytree(three / "sub-01", odd)
    out = tmp_path / "out"
    for call in (
        lambda: synthesize(three, out, tiny_run),
        lambda: train(three, out),
        lambda: main(["evaluate", str(three), str(three), str(out)]),
    ):
        assert call() == 2
        assert str(odd) in capsys.readouterr().err
        assert not out.exists()


def test_more_steps_than_the_model_knows_are_refused(
    three: Path, tmp_path: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert synthesize(three, tmp_path / "out", tiny_run, "--steps", "1001") == 2
    assert "--steps is 1001" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_traceback_only_when_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "nowhere", "nowhere", str(tmp_path), "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err
