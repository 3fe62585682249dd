from __future__ import annotations

import pytest

from relapet.errors import InputError
from relapet.evaluation.config import EvaluationConfig
from relapet.evaluation.evaluate import evaluate
from relapet.files import sha256
from relapet.imaging.nifti import save_volume
from relapet.report.summary import write_summary
from relapet.tracers import get_tracer

FAST = EvaluationConfig(bootstrap=200)


def test_a_subject_whose_pet_was_trained_on_is_an_error_before_anything_is_written(cohort, trees, tmp_path):
    seen = [sha256(cohort.visits[i].pet(cohort.root, get_tracer("tau"))) for i in (1, 4)]
    root = trees.synthetic(tmp_path / "s", cohort, cohort.halfway, "rela", seen)
    with pytest.raises(InputError, match="trained on measured PET of sub-02, sub-05"):
        evaluate(cohort.root, [root], tmp_path / "out", FAST)
    assert not (tmp_path / "out").exists()
    held_out = EvaluationConfig(bootstrap=50, participants=("sub-01", "03", "04"))
    result = evaluate(cohort.root, [root], tmp_path / "out", held_out)
    assert set(result.tables["image_metrics"]["subject"]) == {"sub-01", "sub-03", "sub-04"}


def test_another_session_of_a_trained_on_subject_is_a_leak_too(trees, tmp_path):
    measured = trees.cohort(tmp_path / "real", 3, ("tau",), sessions=("a", "b"), truth=False)
    first = [sha256(v.pet(measured.root, get_tracer("tau"))) for v in measured.visits if v.session == "a"][:1]
    later = lambda visit, tracer: measured.visible(visit, tracer) if visit.session == "b" else None  # noqa: E731
    root = trees.synthetic(tmp_path / "s", measured, later, "rela", first)
    with pytest.raises(InputError, match="sub-01"):
        evaluate(measured.root, [root], tmp_path / "out", FAST)


def test_no_subject_in_common_names_some_of_each_side(small, trees, tmp_path):
    measured, _ = small
    others = trees.cohort(tmp_path / "others", 7, ("tau",), truth=False)
    keep = lambda visit, tracer: None if visit.subject < "05" else others.visible(visit, tracer)  # noqa: E731
    root = trees.synthetic(tmp_path / "o", others, keep, "rela", [])
    with pytest.raises(InputError, match=r"No subject in common.*sub-01.*sub-05") as caught:
        evaluate(measured.root, [root], tmp_path / "out", FAST)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_sessions_named_differently_are_explained(trees, tmp_path):
    measured = trees.cohort(tmp_path / "real", 2, ("tau",), truth=False)
    other = trees.cohort(tmp_path / "other", 2, ("tau",), sessions=("a",), truth=False)
    with pytest.raises(InputError, match=r"No session and tracer in common.*sub-01_ses-a_trc-tau"):
        evaluate(measured.root, [other.root], tmp_path / "out", FAST)


def test_a_tracer_on_one_side_only_is_named_as_skipped(small, trees, tmp_path):
    measured, _ = small
    only_tau = lambda visit, tracer: measured.visible(visit, tracer) if tracer == "tau" else None  # noqa: E731
    root = trees.synthetic(tmp_path / "t", measured, only_tau, "rela", [])
    path = measured.visits[0].pet(root, get_tracer("pbr28"), "synth")
    save_volume(path, measured.visible(measured.visits[0], "tau"), measured.grid.affine)
    result = evaluate(measured.root, [root], tmp_path / "out", FAST)
    assert result.summary["skipped_tracers"] == {"pib": "no synthetic map", "pbr28": "no measured map"}
    assert "pib: no synthetic map" in write_summary(result).read_text()


def test_trees_of_one_method_go_by_their_folders(small, trees, tmp_path):
    measured, root = small
    second = trees.synthetic(tmp_path / "s2", measured, measured.halfway, "rela", [])
    third = trees.synthetic(tmp_path / "other" / "s2", measured, measured.halfway, "rela", [])
    result = evaluate(measured.root, [root, second, third], tmp_path / "out", FAST)
    first = root.name
    assert result.summary["inputs"]["synthetic"] == {first: str(root), "s2": str(second), "s2-2": str(third)}
    mae = result.tables["image_metrics"].groupby("method")["mae"].mean()
    assert mae[first] < mae["s2"] == mae["s2-2"]


def test_a_tree_without_model_entry_goes_by_its_folder_and_says_what_is_unchecked(small, trees, tmp_path):
    measured, _ = small
    root = trees.synthetic(tmp_path / "their_method", measured, measured.visible)
    result = evaluate(measured.root, [root], tmp_path / "out", FAST)
    assert set(result.tables["image_metrics"]["method"]) == {"their_method"}
    assert any("leaks by file were not checked" in note for note in result.summary["notes"])


def test_unusable_trees_are_refused(small, trees, tmp_path):
    measured, root = small
    with pytest.raises(InputError, match="No synthetic tree"):
        evaluate(measured.root, [], tmp_path / "out", FAST)
    with pytest.raises(InputError, match="does not exist"):
        evaluate(measured.root, [tmp_path / "none"], tmp_path / "out", FAST)
    (tmp_path / "empty" / "sub-01").mkdir(parents=True)
    with pytest.raises(InputError, match="no SUVr map"):
        evaluate(measured.root, [tmp_path / "empty"], tmp_path / "out", FAST)
    with pytest.raises(InputError, match="no measured SUVr map"):
        evaluate(root, [root], tmp_path / "out", FAST)
    named = trees.synthetic(tmp_path / "n", measured, measured.visible, "visible_ceiling", [])
    with pytest.raises(InputError, match="reserved name"):
        evaluate(measured.root, [named], tmp_path / "out", FAST)
