from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from relapet.errors import InputError, VolumeError
from relapet.evaluation.downstream.design import (
    Background,
    Design,
    make_design,
    positivity_outcome,
    read_background,
    read_outcome,
)
from relapet.evaluation.downstream.mri_features import mri_feature_table, tissue_like, visit_features
from relapet.evaluation.downstream.prediction import PredictionConfig
from relapet.evaluation.downstream.studies import Downstream, check_outcomes, predict_outcomes
from relapet.evaluation.scores.voi import default_atlas
from relapet.imaging.bids import Visit, index_derivative
from relapet.imaging.grid import GRIDS
from relapet.imaging.nifti import load_volume, save_volume
from relapet.imaging.template import load_atlas, load_template
from relapet.tracers import get_tracer

GRID = GRIDS["4mm"]
SUBJECTS = 40
QUICK = PredictionConfig(outer_folds=3, inner_folds=2, repeats=1, bootstrap=200, permutations=199)


def t1w_image(rng: np.random.Generator) -> np.ndarray:
    template = load_template(GRID)
    t1w = 30 * template.csf + 70 * template.grey + 110 * template.white
    return np.where(template.brain, t1w + rng.normal(0, 2, GRID.shape), 0).clip(0).astype(np.float32)


def flair_image(rng: np.random.Generator) -> np.ndarray:
    template = load_template(GRID)
    flair = 10 * template.csf + 90 * template.grey + 70 * template.white
    return np.where(template.brain, flair + rng.normal(0, 2, GRID.shape), 0).clip(0).astype(np.float32)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """Forty subjects whose memory follows age and, mostly, one VOI of their measured tau PET."""
    root = tmp_path_factory.mktemp("study")
    rng = np.random.default_rng(0)
    brain = load_template(GRID).brain.astype(np.float32)
    age, tau = rng.normal(70, 5, SUBJECTS), rng.normal(1.4, 0.2, SUBJECTS)
    for number in range(SUBJECTS):
        visit = Visit(f"{number:02d}")
        save_volume(visit.t1w(root / "mri"), t1w_image(rng), GRID.affine)
        save_volume(visit.flair(root / "mri"), flair_image(rng), GRID.affine)
        save_volume(visit.mask(root / "mri"), brain, GRID.affine)
    names = [f"sub-{number:02d}" for number in range(SUBJECTS)]
    people = pd.DataFrame({"participant_id": names, "age": age, "sex": ["F", "M"] * (SUBJECTS // 2)})
    people.to_csv(root / "mri" / "participants.tsv", sep="\t", index=False)
    memory = 10 - 0.1 * (age - 70) - 8 * (tau - 1.4) + rng.normal(0, 0.5, SUBJECTS)
    phenotype = pd.DataFrame({"participant_id": names, "memory": memory, "education": "12", "word": names})
    phenotype["impaired"] = np.where(memory < np.median(memory), "yes", "no")
    phenotype["rare"] = [1, 1, 1] + [0] * (SUBJECTS - 3)
    phenotype.to_csv(root / "cognition.tsv", sep="\t", index=False)
    rows = []
    for method, error in (("rela", 0.4), ("other", 0.01)):
        for voi, target in (("ctx-lh-entorhinal", True), ("ctx-rh-entorhinal", True), ("braak_1_2", False)):
            synth = tau + rng.normal(0, error, SUBJECTS)
            rows.append(
                pd.DataFrame({"subject": names, "tracer": "tau", "method": method, "voi": voi})
                .assign(real_suvr=tau, synth_suvr=synth, target=target)
            )  # fmt: skip
    pd.concat(rows).to_csv(root / "voi.tsv", sep="\t", index=False)
    return root


@pytest.fixture(scope="module")
def background(study: Path) -> Background:
    return read_background(study / "mri")


def voi_of(study: Path) -> pd.DataFrame:
    return pd.read_csv(study / "voi.tsv", sep="\t")


def design_of(
    study: Path,
    background: Background,
    column: str = "memory",
    phenotype: str = "cognition.tsv",
    method: str = "rela",
) -> Design:
    return make_design(read_outcome(study / phenotype, column), background, voi_of(study), method)


def predict(study: Path, *names: str, method: str = "rela") -> Downstream:
    phenotype = study / "cognition.tsv"
    return predict_outcomes(study / "mri", voi_of(study), phenotype, names, [method], QUICK)


def test_features_measure_signal_tissue_and_lesions(study, tmp_path):
    files = index_derivative(study / "mri")[0]
    atlas = default_atlas()
    features = visit_features(files, atlas)
    assert features["t1w:Left-Cerebral-White-Matter"] > features["t1w:ctx-lh-precentral"]
    assert features["flair:ctx-lh-precentral"] > features["flair:Left-Lateral-Ventricle"]
    assert features["fluid:Left-Lateral-Ventricle"] > 3 * features["fluid:Left-Thalamus-Proper"]
    assert features["grey:ctx-lh-precentral"] > features["grey:Left-Cerebral-White-Matter"]
    brain = load_template(GRID).brain
    assert features["volume:brain"] == pytest.approx(brain.sum() * 0.064)
    # A bright lesion of 3 x 3 x 3 voxels in white matter is found, in mL; scanner units do not matter.
    flair, t1w = (np.asarray(load_volume(path).dataobj).copy() for path in (files.flair, files.t1w))
    white = load_template(GRID).white
    place = tuple(slice(int(i) - 1, int(i) + 2) for i in np.argwhere(white > 0.98)[20])
    before = features["volume:lesion"]
    flair[place] = 200
    visit = files.visit
    save_volume(visit.t1w(tmp_path), 7 * t1w, GRID.affine)
    save_volume(visit.flair(tmp_path), 0.1 * flair, GRID.affine)
    save_volume(visit.mask(tmp_path), brain.astype(np.float32), GRID.affine)
    changed = visit_features(index_derivative(tmp_path)[0], atlas)
    assert changed["volume:lesion"] - before == pytest.approx(27 * 0.064, abs=0.5)
    assert changed["t1w:ctx-lh-precentral"] == pytest.approx(features["t1w:ctx-lh-precentral"], rel=1e-4)


def test_tissue_fractions_follow_the_truth():
    template, rng = load_template(GRID), np.random.default_rng(1)
    grey, fluid, lesion = tissue_like(t1w_image(rng), flair_image(rng), template.brain)
    inside = template.brain
    assert np.corrcoef(grey[inside], template.grey[inside])[0, 1] > 0.7
    assert np.corrcoef(fluid[inside], template.csf[inside])[0, 1] > 0.7
    assert not grey[~inside].any()
    assert not fluid[~inside].any()
    assert lesion.sum() < 0.01 * inside.sum()


def test_atrophy_is_seen_in_the_voi_that_shrinks(study):
    """Half of the left hippocampus' voxels turned to fluid."""
    atlas, labels = default_atlas(), load_atlas(GRID)
    rng = np.random.default_rng(2)
    t1w, flair = t1w_image(rng), flair_image(rng)
    left = labels.mask(("Left-Hippocampus",))
    t1w[left & (np.indices(GRID.shape)[1] % 2 == 0)] = 25
    _, fluid, _ = tissue_like(t1w, flair, load_template(GRID).brain)
    right = labels.mask(("Right-Hippocampus",))
    assert fluid[left].mean() > fluid[right].mean() + 0.25
    assert set(atlas.names) == set(labels.names)


def test_unusable_mri_is_refused(study, tmp_path):
    visit = Visit("01")
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="does not exist"):
        mri_feature_table(tmp_path / "nowhere")
    save_volume(visit.t1w(tmp_path), t1w_image(rng), GRID.affine)
    with pytest.raises(InputError, match="no visit with both"):
        mri_feature_table(tmp_path)
    save_volume(visit.flair(tmp_path), flair_image(rng)[1:], GRID.affine)
    with pytest.raises(VolumeError, match="another grid"):
        mri_feature_table(tmp_path)
    save_volume(visit.flair(tmp_path), 0 * flair_image(rng), GRID.affine)
    with pytest.raises(VolumeError, match=r"FLAIR\S+ is empty"):
        mri_feature_table(tmp_path)
    save_volume(visit.flair(tmp_path), flair_image(rng), GRID.affine)
    assert len(mri_feature_table(tmp_path)) == 1  # without a mask file the template's mask serves


def test_measured_pet_gains(study):
    done = predict(study, "memory")
    table = done.table
    assert set(table["model"]) == {"ridge", "kernel_ridge"}
    assert set(table["metric"]) == {"r2", "mae", "r"}
    assert (table["n"] == SUBJECTS).all()
    ridge = table[table["model"] == "ridge"].set_index(["features", "metric"])
    real = ridge.loc[("mri+real", "r2")]
    assert real["value"] > 0.5
    assert real["gain_low"] > 0
    assert real["p"] <= real["p_holm"] < 0.05
    assert ridge.loc[("mri+real", "r2"), "value"] > ridge.loc[("mri+synthetic", "r2"), "value"]
    assert ridge.loc[("mri", "r2"), ["gain", "p"]].isna().all()
    assert ridge.loc[("mri+real", "mae"), "gain"] < 0
    (summary,) = done.studies
    assert summary["missing_demographics"] == ["education"]
    assert summary["features"]["real:tau"] == 2  # composites repeat VOIs and are left out
    assert summary["n"] == SUBJECTS
    assert len(done.predictions) == 2 * 3 * SUBJECTS
    again = predict(study, "memory")
    pd.testing.assert_frame_equal(again.table, table)
    pd.testing.assert_frame_equal(again.predictions, done.predictions)


def test_two_values_are_a_classification(study):
    done = predict(study, "impaired", method="other")
    assert set(done.table["metric"]) == {"auc"}
    values = done.table[done.table["model"] == "logistic_ridge"].set_index("features")["value"]
    assert values["mri+real"] > 0.8
    assert values["mri+synthetic"] > 0.8
    assert done.studies[0]["classes"] == ("no", "yes")


def test_positivity_of_a_tracer_is_an_outcome_of_its_own(study, background):
    tau = get_tracer("tau")
    rows = voi_of(study).query("voi == 'braak_1_2'").assign(voi=tau.positivity.composite, kind="composite")
    rows["real_suvr"] += tau.positivity.threshold - 1.4  # about half of the subjects are positive
    voi = pd.concat([voi_of(study).assign(kind="voi"), rows])
    outcome = positivity_outcome(voi, tau)
    assert outcome.task == "classification"
    positive = rows.drop_duplicates("subject").set_index("subject")["real_suvr"] > tau.positivity.threshold
    np.testing.assert_array_equal(outcome.values, positive)
    done = predict_outcomes(study / "mri", voi, None, ["tau_positivity", "pib_positivity"], ["rela"], QUICK)
    assert set(done.table["outcome"]) == {"tau_positivity"}
    auc = done.table.query("model == 'logistic_ridge'").set_index("features")["value"]
    assert auc["mri+real"] > 0.9  # by definition nearly known
    assert done.unmet == {
        "downstream pib_positivity rela": "Positivity of pib is unknown: no threshold or no measured composite."
    }
    assert make_design(outcome, background, voi, "rela").outcome.sum() == positive.sum()


def test_design_keeps_complete_subjects_in_order(study, background):
    table = pd.read_csv(study / "cognition.tsv", sep="\t").sample(frac=1, random_state=0)
    table.loc[table["participant_id"] == "sub-05", "memory"] = np.nan
    table = pd.concat([table, pd.DataFrame({"participant_id": ["sub-99"], "memory": [3.0]})])
    table.to_csv(study / "other.tsv", sep="\t", index=False, na_rep="n/a")
    design = design_of(study, background, phenotype="other.tsv")
    assert design.subjects == sorted(f"{n:02d}" for n in range(SUBJECTS) if n != 5)
    assert set(design.excluded.values()) == {1}
    assert [block.shape[0] for block in design.features("mri+real")] == [SUBJECTS - 1] * 3
    assert len(design.features("mri")) == 2
    expected = table.set_index("participant_id").loc[[f"sub-{s}" for s in design.subjects], "memory"]
    np.testing.assert_allclose(design.outcome, expected)
    assert list(design.blocks["demographics"].columns) == ["age", "sex=F", "sex=M"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"column": "attention"},
            "lacks the column attention; it has: memory, education, word, impaired, rare",
        ),
        ({"column": "word"}, "holds words with 40 values"),
        ({"column": "education"}, r"education \(\S+\) is 12 in every complete subject"),
        ({"column": "rare"}, "is seen in 3 complete subjects; at least 10"),
        ({"method": "none"}, "no grey-matter VOI of none"),
    ],
)
def test_what_the_tables_lack_is_named(study, background, change, message):
    with pytest.raises(InputError, match=message):
        design_of(study, background, **change)


def test_phenotypes_that_cannot_be_used_are_refused(study, background):
    table = pd.read_csv(study / "cognition.tsv", sep="\t")
    path = study / "bad.tsv"
    table[:19].to_csv(path, sep="\t", index=False)
    with pytest.raises(InputError, match=r"Only 19 subjects .* at least 20 are needed"):
        design_of(study, background, phenotype="bad.tsv")
    pd.concat([table, table[:1]]).to_csv(path, sep="\t", index=False)
    with pytest.raises(InputError, match="several rows for sub-00"):
        design_of(study, background, phenotype="bad.tsv")
    table.rename(columns={"participant_id": "id"}).to_csv(path, sep="\t", index=False)
    with pytest.raises(InputError, match="lacks the column participant_id"):
        design_of(study, background, phenotype="bad.tsv")
    with pytest.raises(InputError, match="not a readable"):
        design_of(study, background, phenotype="missing.tsv")


def test_outcomes_are_checked_before_anything_is_scored(study, tmp_path):
    derivative, phenotype = study / "mri", study / "cognition.tsv"
    check_outcomes(derivative, None, [])
    check_outcomes(derivative, phenotype, ["memory", "tau_positivity"])
    with pytest.raises(InputError, match="without --outcome; name a column, it has: memory"):
        check_outcomes(derivative, phenotype, [])
    with pytest.raises(InputError, match="memory needs --phenotype FILE; without one there are: pib_positiv"):
        check_outcomes(derivative, None, ["memory"])
    with pytest.raises(InputError, match="lacks the column attention"):
        check_outcomes(derivative, phenotype, ["attention"])
    with pytest.raises(InputError, match=r"participants\.tsv is not a readable"):
        check_outcomes(tmp_path, phenotype, ["memory"])


def test_an_outcome_that_cannot_be_predicted_is_named_and_the_others_are(study):
    done = predict(study, "rare", "memory")
    assert set(done.table["outcome"]) == {"memory"}
    assert "at least 10 are needed" in done.unmet["downstream rare rela"]
