"""Tables and words of other people's files: what is broken is named, and their words do nothing but be read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from relapet.cli import main


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("synthsamples_suvr.tsv", b"\x00\xff", "not a readable"),
        ("synthsamples_suvr.tsv", b"name\tsample-0\tsample-1\nCSF\t1\tx\n", "holds words"),
        ("desc-synth_suvr.tsv", b"name\tmean\tlow\thigh\nCSF\tabc\ta\tb\n", "holds words, such as 'abc'"),
        ("desc-synth_suvr.tsv", b"name\tmean\tlow\thigh\nCSF\t1\t1\t1\nCSF\t1\t1\t1\n", "several rows"),
        ("synthsamples_suvr.tsv", b"name\tsample-0\tsample-1\nCSF\t1\t1e308\n", "holds 1e+308"),
        ("desc-synth_suvr.json", b"[", "not a readable JSON"),
    ],
)
def test_a_broken_table_takes_its_own_analysis_alone(
    name: str,
    content: bytes,
    words: str,
    toy_source: Path,
    synthetic: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = Path(shutil.copytree(synthetic, tmp_path / "synthetic"))
    path = next(source.glob(f"sub-*/pet/*{name}"))
    path.write_bytes(content)
    out = tmp_path / "out"
    assert main(["evaluate", str(toy_source), str(source), str(out), "--quiet"]) == 1
    said = capsys.readouterr().err.splitlines()
    # Tables of the mean map have intervals and a probability: both judgements name the file.
    assert len(said) == (2 if "samples" in name else 3)
    for line in said[1:]:
        assert path.name in line
        assert words in line
    for made in ("summary.json", "summary.md", "voi.tsv"):
        assert (out / made).is_file()


@pytest.mark.parametrize("said", ["<script>x</script>", "a\n# Verdict", "\x1b[31m", "", "x" * 99, ["rela"]])
def test_a_method_that_is_no_word_is_refused(
    said: Any, toy_source: Path, synthetic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Path(shutil.copytree(synthetic, tmp_path / "synthetic"))
    path = source / "dataset_description.json"
    content = json.loads(path.read_text())
    content["RelapetModel"]["Method"] = said
    path.write_text(json.dumps(content))
    assert main(["evaluate", str(toy_source), str(source), str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert str(path) in told
    assert "\x1b" not in told
    assert len(told.strip().splitlines()) == 1


def test_words_of_other_files_steer_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "\x1b[31mred\nrelapet: all is well"
    assert main(["evaluate", str(folder), str(folder), str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "\x1b" not in told
    assert len(told.strip().splitlines()) == 1


def test_an_atlas_beside_the_brain_is_refused(
    toy_source: Path, synthetic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    atlas = tmp_path / "atlas.nii.gz"
    affine = np.eye(4)
    affine[:3, 3] = 1e4
    nib.save(nib.Nifti1Image(np.ones((9, 9, 9), np.int16), affine), atlas)
    (tmp_path / "atlas.tsv").write_text("index\tname\n1\tcortex\n")
    call = ["evaluate", str(toy_source), str(synthetic), str(tmp_path / "out"), "--atlas", str(atlas)]
    assert main(call) == 2
    assert "atlas.nii.gz has no region where the scans have voxels" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
