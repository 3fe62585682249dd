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
    with pytest.raises(InputError, match="trained on measured PET of sub-02, sub-05; name others") as caught:
        evaluate(cohort.root, [root], tmp_path / "out", FAST)
    assert str(caught.value).endswith("in `participants`: sub-01, sub-03, sub-04, sub-06 and 6 more.")
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


def test_split_test_takes_those_whom_every_model_held_out(cohort, trees, tmp_path):
    seen = [sha256(cohort.visits[1].pet(cohort.root, get_tracer("tau")))]
    others = [visit.subject for visit in cohort.visits if visit.subject != "02"]
    roots = [
        trees.synthetic(tmp_path / name, cohort, cohort.halfway, name, seen, TestParticipants=held_out)
        for name, held_out in (("a", others), ("b", others[2:]))
    ]
    with pytest.raises(
        InputError, match=r"`split` test takes those that were held out, sub-01, sub-03, .* and 7 more"
    ):
        evaluate(cohort.root, roots[:1], tmp_path / "out", FAST)
    result = evaluate(cohort.root, roots, tmp_path / "out", EvaluationConfig(bootstrap=20, split="test"))
    assert set(result.tables["image_metrics"]["subject"]) == {f"sub-{subject}" for subject in others[2:]}


def test_who_is_held_out_must_be_known_and_there(small, trees, tmp_path):
    measured, root = small
    held_out = EvaluationConfig(bootstrap=20, split="test")
    with pytest.raises(InputError, match="does not say whom its model held out"):
        evaluate(measured.root, [root], tmp_path / "out", held_out)
    seen = [sha256(visit.pet(measured.root, get_tracer("tau"))) for visit in measured.visits]
    told = trees.synthetic(tmp_path / "t", measured, measured.visible, "rela", seen, TestParticipants=["77"])
    with pytest.raises(InputError, match="no measured SUVr map of the chosen participants"):
        evaluate(measured.root, [told], tmp_path / "out", held_out)
    with pytest.raises(InputError, match="no other participant, so synthesize held-out ones"):
        evaluate(measured.root, [told], tmp_path / "out", FAST)
    broken = trees.synthetic(tmp_path / "b", measured, measured.visible, "rela", [], TestParticipants=5)
    with pytest.raises(InputError, match="TestParticipants is no list of words"):
        evaluate(measured.root, [broken], tmp_path / "out", FAST)
    with pytest.raises(InputError, match="`split` and `participants` both"):
        EvaluationConfig(split="test", participants=("01",))
    with pytest.raises(InputError, match="`split` is 'train'; give one of 'test'"):
        EvaluationConfig(split="train")


def test_trees_of_one_method_go_by_method_and_run_then_by_method_and_folder(small, trees, tmp_path):
    measured, root = small
    make = lambda folder, **model: trees.synthetic(  # noqa: E731
        tmp_path / folder, measured, measured.halfway, "rela", [], **model
    )
    first, second = make("x", Name="run 1"), make("y", Name="run 2")
    third, fourth = make("s2", Name="same"), make("other/s2", Name="same")
    result = evaluate(measured.root, [root, first, second, third, fourth], tmp_path / "out", FAST)
    assert result.summary["inputs"]["synthetic"] == {
        "rela-s": str(root),
        "rela-run-1": str(first),
        "rela-run-2": str(second),
        "rela-s2": str(third),
        "rela-s2-2": str(fourth),
    }
    assert any(f"{first} is called rela-run-1" in note for note in result.summary["notes"])
    mae = result.tables["image_metrics"].groupby("method")["mae"].mean()
    assert mae["rela-s"] < mae["rela-s2"] == mae["rela-s2-2"]


def test_trees_are_called_as_the_user_says(small, trees, tmp_path):
    measured, root = small
    second = trees.synthetic(tmp_path / "s2", measured, measured.halfway, "rela", [])
    named = EvaluationConfig(bootstrap=20, names=("200 steps", "half"))
    result = evaluate(measured.root, [root, second], tmp_path / "out", named)
    assert result.summary["inputs"]["synthetic"] == {"200 steps": str(root), "half": str(second)}
    assert set(result.tables["image_metrics"]["method"]) == {"200 steps", "half"}
    for names, fault in (
        (("one",), "`names` has 1 for 2 synthetic trees"),
        (("one", "one"), "The name one is given twice"),
        (("visible_ceiling", "half"), "reserved name; give another one in `names`"),
    ):
        with pytest.raises(InputError, match=fault):
            evaluate(measured.root, [root, second], tmp_path / "none", EvaluationConfig(names=names))
    for name in ("", "a\tb", "a|b", "-q", "x" * 61):
        with pytest.raises(InputError, match=r"`names`: .* is no name"):
            EvaluationConfig(names=(name,))
    with pytest.raises(InputError, match=r"The synthetic tree .* is given twice"):
        evaluate(measured.root, [root, root], tmp_path / "none", FAST)


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
