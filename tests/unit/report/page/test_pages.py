"""Report pages of a synthesis, an evaluation and a training, from real folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from page_checks import check_page
from relapet import api
from relapet.cli import main
from relapet.errors import InputError
from relapet.evaluation.config import EvaluationConfig
from relapet.imaging.bids import Visit
from relapet.report.page import PAGE, cohort
from relapet.report.page.any import write_page_of
from relapet.report.page.document import brief_number, from_markdown, shown_number
from relapet.report.page.evaluation import write_evaluation_page
from relapet.report.page.run import write_run_page
from relapet.report.page.synthesis import write_synthesis_page
from relapet.tracers import get_tracer

TAU = get_tracer("tau")
HOSTILE = "<script>alert('x')</script> \"onload=alert(1) x=\" {{ 7 * 7 }}"


@pytest.fixture
def tree(synthetic: Path, toy_source: Path, tmp_path: Path) -> Path:
    """A copy of the synthetic maps that a test may change, beside the images that they are of."""
    copy = Path(shutil.copytree(synthetic, tmp_path / "maps"))
    describe(copy, DatasetLinks={"source": str(toy_source)})
    return copy


def describe(tree: Path, **changes: object) -> None:
    path = tree / "dataset_description.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def model_of(tree: Path) -> dict[str, object]:
    return dict(json.loads((tree / "dataset_description.json").read_text())["RelapetModel"])


@pytest.fixture(scope="module")
def evaluation(synthetic: Path, toy_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluation") / "scores"
    return api.evaluate(toy_source, [synthetic], out, EvaluationConfig(bootstrap=20), command="relapet x").out


def test_a_synthesis_writes_a_page_of_its_maps(synthetic: Path) -> None:
    page = check_page(synthetic / PAGE)
    visits = sorted(path.name for path in synthetic.glob("sub-*"))
    for visit in visits:
        assert f"#{visit}" in {a.get("href") for a in page.of("a")}
        alts = " ".join(str(image["alt"]) for image in page.of("img"))
        for what in (
            "T1w",
            "FLAIR",
            "Measured tau (trc-AV1451) PET",
            "Synthetic, tau",
            "Synthetic − measured, tau",
        ):
            assert what in alts
        assert f"T1w of {visit}, four slices" in alts
        assert "Uncertainty (SD)" in alts
    for words in ("Braak I–II", "Temporal meta-ROI", "ctx-lh-entorhinal", "SHA-256 of the weights", "% from"):
        assert words in page.said
    assert model_of(synthetic)["WeightsSHA256"] in page.text
    assert "simulated people" not in page.said
    viewer = json.loads(page.text.partition('id="viewer-data">')[2].partition("</script>")[0])
    assert [scan["label"] for scan in viewer["scans"]] == [f"{visit}, tau (trc-AV1451)" for visit in visits]
    assert [layer["label"] for layer in viewer["scans"][0]["layers"]] == ["Synthetic", "Measured"]
    assert len(viewer["volumes"]) == 3 * len(visits)
    assert len(page.text) < 3_000_000


def test_the_words_of_files_stay_text(tree: Path) -> None:
    describe(tree, RelapetModel=model_of(tree) | {"Name": HOSTILE, "TrainedOn": "simulated"})
    write_synthesis_page(tree, tree / PAGE, command=f"relapet synthesize {HOSTILE}")
    page = check_page(tree / PAGE)
    assert f"Synthetic PET by the model {HOSTILE}" in page.said
    assert f"relapet synthesize {HOSTILE}" in page.said
    assert "The model learned from simulated people, not from patients" in page.said
    assert len(page.of("script")) == 3
    assert "<script>alert" not in page.text


def test_a_region_s_and_a_label_s_words_stay_text(tree: Path) -> None:
    for path in tree.rglob("*_desc-synth_suvr.tsv"):
        path.write_text(
            path.read_text().replace("Left-Thalamus-Proper", "</script><script>alert(2)</script>")
        )
    write_synthesis_page(tree, tree / PAGE)
    page = check_page(tree / PAGE)
    assert "</script><script>alert(2)</script>" in page.said
    view = cohort.view_visit(Visit("a'\"><script>alert(3)</script>"), None, {"": tree})
    content = {
        "shown": view,
        "title": view.visit.stem,
        "up": "../report.html",
        "cautions": [],
        "provenance": [],
    }
    cohort.write_document(tree / "one.html", "visit.html", view.viewer, {**content, "overviews": []})
    assert "<script>alert" not in (tree / "one.html").read_text()


def test_a_large_cohort_has_a_page_a_visit(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    visits = sorted(path.name for path in tree.glob("sub-*"))
    for limit in ("MOST_BYTES", "MOST_VISITS"):
        monkeypatch.setattr(cohort, limit, 1)
        shutil.rmtree(tree / "report", ignore_errors=True)
        write_synthesis_page(tree, tree / PAGE)
        page = check_page(tree / PAGE)
        assert {f"report/{visit}.html" for visit in visits} <= {a.get("href") for a in page.of("a")}
        assert not page.of("img")
        assert len(page.text) < 100_000
        for visit in visits:
            assert f"T1w of {visit}, four slices" in {
                i["alt"] for i in check_page(tree / f"report/{visit}.html").of("img")
            }
    marked = tree / "report" / f"{visits[0]}.html"
    marked.write_text("as it was")
    write_synthesis_page(tree, tree / PAGE, {visits[1]})
    assert marked.read_text() == "as it was"
    assert f"report/{visits[0]}.html" in (tree / PAGE).read_text()
    write_synthesis_page(tree, tree / PAGE, {visits[0]})
    check_page(marked)


def test_what_cannot_be_shown_is_told(tree: Path, toy_source: Path, tmp_path: Path) -> None:
    images = Path(shutil.copytree(toy_source, tmp_path / "images"))
    describe(tree, DatasetLinks={"source": "../images"})
    first, second = sorted(path.name.removeprefix("sub-") for path in tree.glob("sub-*"))
    broken = Visit(first).pet(images, TAU)
    broken.write_bytes(b"no image")
    map_path = Visit(second).pet(tree, TAU, "synth")
    image = nib.load(map_path)
    nib.save(nib.Nifti1Image(np.full(image.shape, np.nan, np.float32), image.affine), map_path)
    page = check_page(write_synthesis_page(tree, tree / PAGE))
    assert broken.name in page.said
    assert f"{map_path.name} has" in page.said
    alts = {image["alt"] for image in page.of("img")}
    assert f"Synthetic, tau (trc-AV1451) PET of sub-{first}, four slices" in alts
    assert not [alt for alt in alts if f"sub-{second}" in str(alt)]
    shutil.rmtree(images)
    page = check_page(write_synthesis_page(tree, tree / PAGE))
    assert not page.of("canvas")
    assert f"Synthetic, tau (trc-AV1451) PET of sub-{first}, four slices" in {
        i["alt"] for i in page.of("img")
    }


def test_an_evaluation_writes_a_page_of_its_tables_figures_and_scans(
    evaluation: Path, synthetic: Path
) -> None:
    page = check_page(evaluation / PAGE)
    for words in (
        "PSNR (dB)",
        "Mean over subjects",
        "Coverage of regional SUVr intervals",
        "relapet x",
        "trc-AV1451",
    ):
        assert words in page.said
    alts = {str(image["alt"]) for image in page.of("img")}
    assert "PSNR by method and tracer: higher is better" in alts
    assert {f"T1w of {path.name}, four slices" for path in synthetic.glob("sub-*")} <= alts
    assert model_of(synthetic)["WeightsSHA256"] in page.said
    assert len(page.text) < 5_000_000
    assert len(page.of("table")) > 5


def test_an_evaluation_s_page_goes_with_the_evaluation(
    evaluation: Path, synthetic: Path, toy_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(evaluation, tmp_path / "scores"))
    monkeypatch.setattr(cohort, "MOST_VISITS", 1)
    write_evaluation_page(out, out / PAGE)
    assert list((out / "report").glob("sub-*.html"))
    (out / "summary.json").unlink()  # as of one that was killed: its folder is known again
    call = ["evaluate", str(toy_source), str(synthetic), str(out), "--no-report", "--quiet"]
    assert main(call) == 0
    assert not (out / PAGE).exists()
    assert not list((out / "report").glob("*"))


def test_an_evaluation_without_its_trees_keeps_its_tables(evaluation: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(evaluation, tmp_path / "scores"))
    summary = json.loads((out / "summary.json").read_text())
    summary["inputs"] |= {"real": "gone", "synthetic": {"rela": "gone"}}
    (out / "summary.json").write_text(json.dumps(summary))
    page = check_page(write_evaluation_page(out, out / PAGE))
    assert "PSNR (dB)" in page.said
    assert not page.of("canvas")


def test_a_training_leaves_a_page(tiny_run: Path) -> None:
    page = check_page(tiny_run / PAGE)
    for words in ("Losses by step", "train.steps", "Trust", "Files trained or validated on", "Method rela"):
        assert words in page.said
    assert "simulated people" not in page.said


def test_a_training_on_simulated_people_says_so(tiny_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(
        json.dumps(manifest | {"trained_on": "simulated", "git_revision": HOSTILE})
    )
    page = check_page(write_run_page(run, tmp_path / "run.html", "relapet train a b"))
    assert "The model learned from simulated people" in page.said
    assert HOSTILE in page.said
    assert "relapet train a b" in page.said


def test_the_command_makes_the_page_of_any_folder(
    tree: Path, evaluation: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, folder in enumerate((tree, evaluation, tiny_run)):
        page = tmp_path / f"{number}.html"
        assert main(["report", str(folder), str(page)]) == 0
        assert f"Report written to {page}." in capsys.readouterr().out
        assert f"relapet report {folder} {page}" in check_page(page).said
    (tmp_path / "empty").mkdir()
    for call, words in (
        ([str(tmp_path / "empty")], "is no run folder, no evaluation and no derivative"),
        ([str(tiny_run), str(tmp_path / "page.txt")], "is no .html name"),
        ([str(tmp_path / "none")], "does not exist"),
    ):
        assert main(["report", *call]) == 2
        assert words in capsys.readouterr().err
    with pytest.raises(InputError):
        write_page_of(tmp_path / "empty", tmp_path / "x.html")


def test_synthesize_without_a_report(
    toy_source: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["synthesize", str(toy_source), str(tmp_path / "out"), "participant", "--model", str(tiny_run)]
    only = ["--participant-label", "01", "--tracer", "tau", "--samples", "1", "--steps", "1"]
    assert main([*call, *only, "--no-report"]) == 0
    assert not (tmp_path / "out" / PAGE).exists()
    assert main([*call, *only]) == 0
    assert f"Report written to {tmp_path / 'out' / PAGE}." in capsys.readouterr().out
    assert "--tracer tau --samples 1" in check_page(tmp_path / "out" / PAGE).said


def test_a_page_that_cannot_be_made_is_told_and_takes_nothing(
    toy_source: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (out / PAGE).mkdir(parents=True)
    call = [
        "synthesize",
        str(toy_source),
        str(out),
        "participant",
        "--model",
        str(tiny_run),
        "--tracer",
        "tau",
    ]
    assert main([*call, "--participant-label", "01", "--quiet"]) == 2  # a folder that is not its own
    shutil.rmtree(out)
    assert main([*call, "--participant-label", "01", "--quiet"]) == 0
    (out / PAGE).unlink()
    (out / PAGE).mkdir()
    assert main([*call, "--participant-label", "01", "--quiet", "--force"]) == 0
    assert "There is no report: " in capsys.readouterr().err


def test_markdown_of_others_forms_no_tag() -> None:
    html = from_markdown(
        "# A\n\n| a | <b>x</b> |\n|---|---|\n| 1 | [x](http://there) ![y](http://there/z.png) |\n"
    )
    assert '<div class="wide" tabindex="0" role="region" aria-label="Table"><table>' in html
    assert "<b>" not in html
    assert "<a " not in html
    assert "<img" not in html


def test_numbers_in_few_characters() -> None:
    assert [brief_number(value) for value in (1.234, -12.34, float("nan"))] == ["1.23", "−12.3", "n/a"]
    values = (1.0, 1.3, -0.1, 0.9996, 0.0, 12.3, float("nan"))
    assert [shown_number(v) for v in values] == ["1.00", "1.30", "−0.100", "1.00", "0", "12.30", "n/a"]
