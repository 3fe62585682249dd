"""The whole path on a small raw data set whose true positions and SUVr are known."""

import json
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from relapet.errors import InputError, SubjectError
from relapet.imaging.bids import Visit, index_derivative, sidecar_path, write_dataset_description
from relapet.imaging.derivatives import find_way_back
from relapet.imaging.grid import GRIDS
from relapet.imaging.nifti import load_volume
from relapet.imaging.template import load_atlas, load_template
from relapet.imaging.transforms import Step, apply_like, bring_back
from relapet.messages import Silent
from relapet.preprocessing.names import Names
from relapet.preprocessing.pipeline import PreprocessConfig, preprocess
from relapet.tracers import get_tracer
from support import bids_errors

pytest.importorskip("ants")
VISIT = Visit("01")
TAU = get_tracer("tau")
GRID = GRIDS["3mm"]
# The template is its own subject: a few coarse iterations are enough.
CONFIG = PreprocessConfig(grid=GRID, syn_iterations=(5, 0))


@pytest.fixture(scope="session")
def done(raw_tree, tmp_path_factory):
    out = tmp_path_factory.mktemp("derivatives")
    return out, preprocess(raw_tree.root, out, CONFIG)


@pytest.mark.slow
def test_one_subject_is_written_and_the_other_named(done):
    out, outcome = done
    assert outcome.done == ("sub-01",)
    assert list(outcome.failed) == ["sub-03"]
    assert "T1w" in outcome.failed["sub-03"]
    assert outcome.warnings == {}
    files = next(f for f in index_derivative(out) if f.visit == VISIT)
    assert files.t1w is not None
    assert files.flair is not None
    assert files.mask is not None
    assert list(files.pet) == ["tau"]


@pytest.mark.slow
def test_mri_lies_on_the_template(done):
    out, _ = done
    template = load_template(GRID)
    for path, truth in (
        (VISIT.t1w(out), template.t1),
        (VISIT.flair(out), 150 * template.grey + 118 * template.white),
    ):
        image = load_volume(path)
        assert GRID.matches(image.shape, image.affine)
        data = np.asarray(image.dataobj)
        mask = np.asarray(load_volume(VISIT.mask(out)).dataobj) > 0
        assert not data[~mask].any()
        inside = mask & template.brain
        assert np.corrcoef(data[inside], truth[inside])[0, 1] > 0.9
        assert np.median(data[inside & (template.white > 0.9)]) == pytest.approx(1, abs=0.02)


@pytest.mark.slow
def test_transforms_are_the_true_ones(done, raw_tree):
    """FLAIR and PET to T1w: median distance to the truth inside the brain below 1.5 mm."""
    import ants

    out, _ = done
    names = Names(out, VISIT)
    t1w = load_volume(names.native_t1w)
    brain = np.asarray(load_volume(names.native_mask).dataobj) > 0
    points = np.argwhere(brain)[::53] @ t1w.affine[:3, :3].T + t1w.affine[:3, 3]
    lps = np.array([-1.0, -1, 1])
    for path, move in ((names.flair_to_t1w, raw_tree.flair_move), (names.pet_to_t1w(TAU), raw_tree.pet_move)):
        transform = ants.read_transform(str(path))
        got = np.array([transform.apply_to_point((p * lps).tolist()) for p in points]) * lps
        true = points @ move[:3, :3].T + move[:3, 3]
        assert np.median(np.linalg.norm(got - true, axis=1)) < 1.5


@pytest.mark.slow
def test_suvr_is_the_true_one(done, raw_tree):
    out, _ = done
    data = np.asarray(load_volume(VISIT.pet(out, TAU)).dataobj)
    atlas = load_atlas(GRID)
    got, true = atlas.means(data), atlas.means(raw_tree.suvr.astype(np.float32))
    cortex = [
        i
        for i, name in atlas.names.items()
        if name.startswith("ctx-") and i in true and "unknown" not in name
    ]
    error = np.array([abs(got[i] / true[i] - 1) for i in cortex])
    assert np.median(error) < 0.03
    assert error.max() < 0.15
    record = json.loads(VISIT.pet(out, TAU).with_suffix("").with_suffix(".json").read_text())
    assert record["Units"] == "unitless"
    assert record["SourceUnits"] == "Bq/mL"
    assert record["Frames"] == [0, 1, 2, 3]


@pytest.mark.slow
def test_there_and_back_keeps_voi_means(done, raw_tree):
    out, _ = done
    way_back = find_way_back(out, VISIT)
    pet = load_volume(VISIT.pet(out, TAU))
    raw = nib.load(raw_tree.root / "sub-01/anat/sub-01_T1w.nii.gz")
    native = bring_back(pet, way_back)
    assert native.shape == raw.shape
    assert np.allclose(native.affine, raw.affine, atol=1e-4)
    back = apply_like(pet, native, [Step(Names(out, VISIT).warp.forward)])
    atlas = load_atlas(GRID)
    before, after = atlas.means(np.asarray(pet.dataobj)), atlas.means(np.asarray(back.dataobj))
    large = [i for i, volume in atlas.volumes_mm3(27.0).items() if volume > 3000]
    change = np.array([abs(after[i] / before[i] - 1) for i in large])
    assert np.median(change) < 0.02
    labels = nib.Nifti1Image(atlas.labels.astype(np.float32), GRID.affine)
    found = set(np.unique(np.asarray(bring_back(labels, way_back, 0).dataobj)))
    assert found <= {0.0, *map(float, atlas.names)}
    with pytest.raises(SubjectError, match="no way back"):
        find_way_back(out, Visit("09"))


@pytest.mark.slow
def test_done_and_unchanged_is_skipped_by_content(done, raw_tree, monkeypatch):
    out, _ = done
    names = Names(out, VISIT)
    assert json.loads(names.provenance.read_text())["Measures"]["DiceWithTemplate"] > 0.95
    before = VISIT.t1w(out).stat().st_mtime_ns
    assert preprocess(raw_tree.root, out, CONFIG, ["sub-01"]).unchanged == ("sub-01",)
    assert VISIT.t1w(out).stat().st_mtime_ns == before
    ran = []
    monkeypatch.setattr("relapet.preprocessing.pipeline.process_visit", lambda *a: ran.append(a) or stop())

    def stop():
        raise SubjectError("stopped by the test.")

    preprocess(raw_tree.root, out, CONFIG, ["01"])
    assert ran == []
    preprocess(raw_tree.root, out, PreprocessConfig(grid=GRID, syn_iterations=(5, 0), force=True), ["01"])
    preprocess(raw_tree.root, out, PreprocessConfig(grid=GRID, syn_iterations=(6, 0)), ["01"])
    sidecar = raw_tree.root / "sub-01/pet/sub-01_trc-AV1451_pet.json"
    text = sidecar.read_text()
    sidecar.write_text(text + "\n")
    preprocess(raw_tree.root, out, CONFIG, ["01"])
    sidecar.write_text(text)
    mask = names.native_mask
    content = mask.read_bytes()
    mask.write_bytes(content[:-1])
    preprocess(raw_tree.root, out, CONFIG, ["01"])
    mask.write_bytes(content)
    assert len(ran) == 4


@pytest.mark.slow
def test_the_derivative_passes_the_bids_validator(done):
    assert bids_errors(done[0]) == []


@pytest.mark.slow
def test_page_shows_every_step(done):
    out, _ = done
    page = (out / "preprocess.html").read_text()
    for step in ("1mask", "2template", "3flair", "4petAV1451"):
        assert f"sub-01/figures/sub-01_desc-{step}.png" in page
        assert (out / f"sub-01/figures/sub-01_desc-{step}.png").stat().st_size > 10_000
    assert "sub-03" in page
    assert 'class="fail"' in page


def test_calls_that_cannot_be_used(raw_tree, tmp_path):
    with pytest.raises(InputError, match="no participant 77; it has 01"):
        preprocess(raw_tree.root, tmp_path, CONFIG, ["77"])
    with pytest.raises(InputError, match="no session x"):
        preprocess(raw_tree.root, tmp_path, CONFIG, sessions=["x"])
    with pytest.raises(InputError, match="is the input"):
        preprocess(raw_tree.root, raw_tree.root, CONFIG)
    with pytest.raises(InputError, match="`scanner_fwhm_mm`"):
        PreprocessConfig(fwhm_mm=8)
    with pytest.raises(InputError, match="finer"):
        PreprocessConfig(fwhm_mm=4, scanner_fwhm_mm=6)
    with pytest.raises(InputError, match="`n_procs` is 0"):
        PreprocessConfig(n_procs=0)


def test_what_raw_data_no_longer_give_goes_and_is_told(tmp_path, monkeypatch):
    out, visit = tmp_path / "out", Visit("01")
    names = Names(out, visit)
    kept = [visit.t1w(out), Visit("02").t1w(out)]
    gone = [
        visit.flair(out),
        visit.pet(out, get_tracer("pib")),
        sidecar_path(visit.pet(out, get_tracer("pib"))),
    ]
    gone += [names.flair_to_t1w, names.pet_to_t1w(get_tracer("pib"))]
    for path in (*kept, *gone):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("of an earlier run")
    write_dataset_description(out, "relapet preprocess", {})
    raw = tmp_path / "raw"
    (raw / "sub-01" / "anat").mkdir(parents=True)
    (raw / "sub-01" / "anat" / "sub-01_T1w.nii.gz").touch()
    module = "relapet.preprocessing.visit"
    monkeypatch.setattr(f"{module}.process_mri", lambda *given: SimpleNamespace(measures={}, warnings=()))
    monkeypatch.setattr(f"{module}._draw_mri", lambda *given: None)
    monkeypatch.setattr(f"{module}.write_provenance", lambda *given: None)
    said = []
    messages = SimpleNamespace(warn=said.append, track=Silent().track, say=Silent().say)
    outcome = preprocess(raw, out, CONFIG, messages=messages)
    assert outcome.done == ("sub-01",)
    assert all(path.is_file() for path in kept)
    assert not any(path.exists() for path in gone)
    assert len(said) == 3
    assert "sub-02 of earlier runs" in said[0]
    assert {path.name for path in gone if any(path.name in text for text in said)} == {
        gone[0].name,
        gone[1].name,
    }
