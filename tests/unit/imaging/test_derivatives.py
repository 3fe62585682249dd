"""Trees named exactly as fMRIPrep, sMRIPrep and PETPrep name their outputs, found and taken as they are."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

import relapet
from relapet.cli import main
from relapet.config import load_config
from relapet.data.volumes import load_mri
from relapet.errors import InputError, SubjectError
from relapet.evaluation.config import EvaluationConfig
from relapet.evaluation.evaluate import evaluate
from relapet.imaging.bids import Visit
from relapet.imaging.derivatives import find_foreign_pet, find_mni_images, find_way_back, index_measured
from relapet.imaging.grid import GRIDS
from relapet.imaging.measured import load_suvr
from relapet.imaging.template import load_atlas, load_template
from relapet.tracers import get_tracer
from support import TINY, TINY_SETTINGS

FINE, GRID = GRIDS["2.5mm"], GRIDS["4mm"]
PIB, FBP = get_tracer("pib"), get_tracer("florbetapir")
CASYM, ASYM6 = "MNI152NLin2009cAsym", "MNI152NLin6Asym"


def own_affine() -> np.ndarray:
    """A grid like those of the MNI templates: 3 mm, first axis to the left, another origin than relapet's."""
    affine = np.diag([-3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = (90.0, -126.0, -90.0)
    return affine


SHAPE = (61, 73, 61)


def on_own_grid(data: np.ndarray, order: int = 1) -> np.ndarray:
    to_voxel = np.linalg.inv(FINE.affine) @ own_affine()
    return ndimage.affine_transform(
        np.asarray(data, np.float32), to_voxel[:3, :3], to_voxel[:3, 3], SHAPE, order=order
    )


def brain() -> np.ndarray:
    return on_own_grid(load_template(FINE).brain, 0) > 0


def head(level: float) -> np.ndarray:
    """A T1w with its skull: a bright shell of scalp around the brain, as fMRIPrep leaves it."""
    template = load_template(FINE)
    inside = on_own_grid(100 * (0.5 * template.grey + 0.9 * template.white + 0.1 * template.csf))
    mask = brain()
    shell = ndimage.binary_dilation(mask, iterations=4) & ~ndimage.binary_dilation(mask, iterations=1)
    return np.where(mask, level * inside, np.where(shell, 300.0, 3.0)).astype(np.float32)


def save(path: Path, data: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, own_affine()), path)


def smriprep(root: Path, subject: str, session: str = "", level: float = 1.0, flair: str = "") -> None:
    """What sMRIPrep and fMRIPrep write of one subject, with the skull; an fMRIPrep tree has no FLAIR of its own."""
    anat = root / f"sub-{subject}" / session / "anat"
    stem = f"sub-{subject}_{session}_" if session else f"sub-{subject}_"
    for space, res in (("", ""), (f"space-{CASYM}_", ""), (f"space-{ASYM6}_", "res-2_")):
        save(anat / f"{stem}{space}{res}desc-preproc_T1w.nii.gz", head(level))
        save(anat / f"{stem}{space}{res}desc-brain_mask.nii.gz", brain().astype(np.uint8))
        save(anat / f"{stem}{space}{res}dseg.nii.gz", brain().astype(np.uint8))
    for one, other in (("T1w", CASYM), (CASYM, "T1w")):
        (anat / f"{stem}from-{one}_to-{other}_mode-image_xfm.h5").write_bytes(b"")
    if flair:
        save(anat / f"{stem}{flair}", head(1.3))
    (root / f"sub-{subject}.html").write_text("report")
    (root / "dataset_description.json").write_text(
        json.dumps({"Name": "fMRIPrep", "DatasetType": "derivative"})
    )


def uptake(cortex: float) -> np.ndarray:
    """Activity, kBq/mL: cerebellum and what adjoins it 8, all else of the brain by choice, on the tools' grid."""
    atlas = load_atlas(FINE)
    cerebellum = np.isin(atlas.labels, [i for i, n in atlas.names.items() if "Cerebellum" in n])
    value = np.where(ndimage.binary_dilation(cerebellum, iterations=2), 8.0, 8.0 * cortex)
    return on_own_grid(np.where(ndimage.binary_dilation(load_template(FINE).brain, iterations=3), value, 0))


def petprep(root: Path, subject: str, name: str, cortex: float = 1.5, **sidecar: object) -> Path:
    """What PETPrep writes of one scan: motion-corrected frames, with the acquisition's own sidecar."""
    path = root / f"sub-{subject}" / "pet" / f"sub-{subject}_{name}.nii.gz"
    frames = np.stack([factor * uptake(cortex) for factor in (2.0, 1.1, 0.9)], axis=-1)
    save(path, frames.astype(np.float32))
    fields = {
        "Units": "kBq/mL",
        "InjectionStart": 0,
        "FrameTimesStart": [0, 3000, 3600],
        "FrameDuration": [3000, 600, 600],
        "ImageDecayCorrected": True,
    }
    path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps({**fields, **sidecar}))
    return path


def cortical(suvr: np.ndarray) -> float:
    atlas = load_atlas(GRID)
    inner = [i for i, n in atlas.names.items() if n.endswith(("-insula", "-superiortemporal", "-precuneus"))]
    return float(np.median(suvr[np.isin(atlas.labels, inner)]))


def test_the_closest_mni_space_is_taken_and_its_parts_belong_together(tmp_path: Path) -> None:
    smriprep(tmp_path, "01")
    found = find_mni_images(tmp_path, Visit("01"))
    assert found.space == CASYM
    assert found.t1w is not None
    assert found.mask is not None
    assert CASYM in found.t1w.name
    assert CASYM in found.mask.name
    assert found.flair is None
    for path in (tmp_path / "sub-01" / "anat").glob(f"*{CASYM}*"):
        path.unlink()
    save(tmp_path / f"sub-01/anat/sub-01_space-{ASYM6}_res-1_desc-brain_mask.nii.gz", brain().astype("u1"))
    found = find_mni_images(tmp_path, Visit("01"))
    assert found.mask is not None
    assert "res-2" in found.mask.name


def test_a_session_without_anat_takes_the_subject_s(tmp_path: Path) -> None:
    """fMRIPrep writes one T1w of all sessions beside the session folders."""
    smriprep(tmp_path, "01")
    (tmp_path / "sub-01" / "ses-baseline" / "pet").mkdir(parents=True)
    visit = Visit("01", "baseline")
    assert find_mni_images(tmp_path, visit).t1w == find_mni_images(tmp_path, Visit("01")).t1w
    back = find_way_back(tmp_path, visit, CASYM)
    assert back.t1w.name == "sub-01_desc-preproc_T1w.nii.gz"
    assert back.transform.name == f"sub-01_from-{CASYM}_to-T1w_mode-image_xfm.h5"
    with pytest.raises(SubjectError, match="no way back"):
        find_way_back(tmp_path, visit, ASYM6)


def test_a_head_with_its_skull_is_masked_before_anything(tmp_path: Path) -> None:
    """The tree's own mask takes the skull away: the model sees the same as of a brain-extracted T1w."""
    smriprep(tmp_path / "whole", "01")
    smriprep(tmp_path / "extracted", "01")
    for path in (tmp_path / "extracted").rglob("*_T1w.nii.gz"):
        save(path, np.where(brain(), head(1.0), 0))
    seen = [load_mri(index_measured(tmp_path / kind)[0], GRID)[0] for kind in ("whole", "extracted")]
    np.testing.assert_array_equal(*seen)
    template = load_template(GRID)
    inside = ndimage.binary_erosion(template.brain, iterations=2)
    truth = 0.5 * template.grey + 0.9 * template.white + 0.1 * template.csf
    assert np.corrcoef(seen[0][inside], truth[inside])[0, 1] > 0.95
    assert (seen[0][~ndimage.binary_dilation(template.brain)] == -1).all()


def test_synthesize_takes_an_fmriprep_tree_as_it_is(
    toy_source: Path, tmp_path: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    smriprep(tmp_path / "fmriprep", "01")
    smriprep(tmp_path / "fmriprep", "02", flair=f"space-{CASYM}_FLAIR.nii.gz")
    config = load_config(file=TINY, settings=(*TINY_SETTINGS, "train.steps=2", "data.inputs=[T1w]"))
    t1w_alone = relapet.train(config, toy_source, tmp_path / "run").path
    for model, done, status in ((t1w_alone, ["01", "02"], 0), (tiny_run, ["02"], 1)):
        out = tmp_path / f"out-{status}"
        arguments = ["synthesize", str(tmp_path / "fmriprep"), str(out), "participant", "--model", str(model)]
        assert main([*arguments, "--tracer", "pib", "--steps", "1", "--samples", "1"]) == status
        assert [s for s in ("01", "02") if Visit(s).pet(out, PIB, "synth").is_file()] == done
        said = capsys.readouterr().err
        assert f"is in {CASYM}" in said
    assert "no FLAIR" in said


@pytest.mark.parametrize(
    ("name", "sidecar"),
    [
        (f"trc-18FAV45_space-{CASYM}_desc-preproc_pet", {}),
        (f"trc-18FAV45_rec-acdyn_space-{CASYM}_res-2_desc-preproc_pet", {"Units": "Bq/mL"}),
        (f"space-{CASYM}_desc-preproc_pet", {"TracerName": "florbetapir"}),
    ],
)
def test_frames_of_petprep_become_suvr(tmp_path: Path, name: str, sidecar: dict[str, str]) -> None:
    path = petprep(tmp_path, "01", name, **sidecar)
    assert find_foreign_pet(tmp_path, Visit("01")) == {"florbetapir": path}
    assert cortical(load_suvr(path, FBP, GRID)) == pytest.approx(1.5, rel=0.03)


def test_static_images_are_taken_by_their_unit(tmp_path: Path) -> None:
    path = tmp_path / "sub-01/pet/sub-01_trc-18FAV45_space-MNI152NLin6Asym_meas-SUVR_mimap.nii.gz"
    sidecar = path.with_name(path.name.replace(".nii.gz", ".json"))
    petprep(tmp_path, "01", f"trc-18FAV45_space-{CASYM}_desc-preproc_pet")
    save(path, uptake(1.5))
    assert find_foreign_pet(tmp_path, Visit("01")) == {"florbetapir": path}
    sidecar.write_text(json.dumps({"Units": "SUVR"}))
    assert cortical(load_suvr(path, FBP, GRID)) == pytest.approx(12.0, rel=0.02)
    sidecar.write_text(json.dumps({"Units": "g/mL"}))
    assert cortical(load_suvr(path, FBP, GRID)) == pytest.approx(1.5, rel=0.02)
    for text, fault in (("{}", "Units"), ('{"Units": "counts"}', "counts")):
        sidecar.write_text(text)
        with pytest.raises(SubjectError, match=fault):
            load_suvr(path, FBP, GRID)
    sidecar.unlink()
    with pytest.raises(SubjectError, match="no sidecar"):
        load_suvr(path, FBP, GRID)


def test_what_is_no_measured_pet_is_passed_over(tmp_path: Path) -> None:
    for name in (
        "trc-18FAV45_pet",  # raw
        f"trc-18FAV45_space-{CASYM}_desc-synth_pet",
        f"trc-18FAV45_space-{CASYM}_meas-VT_mimap",
        f"trc-11CRAC_space-{CASYM}_desc-preproc_pet",
        "trc-18FAV45_space-fsaverage_desc-preproc_pet",
    ):
        petprep(tmp_path, "01", name)
    assert find_foreign_pet(tmp_path, Visit("01")) == {}
    for run in ("1", "2"):
        petprep(tmp_path, "01", f"trc-18FAV45_run-{run}_space-{CASYM}_desc-preproc_pet")
    with pytest.raises(InputError, match=r"run-1.*run-2"):
        index_measured(tmp_path)


def test_pet_on_the_t1w_is_brought_to_the_template_by_the_tree_s_transform(tmp_path: Path) -> None:
    ants = pytest.importorskip("ants")
    smriprep(tmp_path, "01")
    path = petprep(tmp_path, "01", "trc-18FAV45_space-T1w_desc-preproc_pet")
    shift = (6.0, -9.0, 12.0)
    image = nib.load(path)
    moved = own_affine()
    moved[:3, 3] += shift
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), moved), path)
    transform = ants.create_ants_transform(
        transform_type="AffineTransform",
        dimension=3,
        # from template to T1w, in ITK's LPS
        parameters=np.array([1, 0, 0, 0, 1, 0, 0, 0, 1, -shift[0], -shift[1], shift[2]], float),
    )
    to_mni = tmp_path / f"sub-01/anat/sub-01_from-T1w_to-{CASYM}_mode-image_xfm.h5"
    ants.write_transform(transform, str(to_mni))
    assert cortical(load_suvr(path, FBP, GRID)) == pytest.approx(1.5, rel=0.03)
    to_mni.unlink()
    with pytest.raises(SubjectError, match="from-T1w_to-MNI"):
        load_suvr(path, FBP, GRID)


def test_a_model_is_trained_and_judged_on_a_petprep_tree(tmp_path: Path) -> None:
    tree = tmp_path / "petprep"
    for number, cortex in enumerate((1.1, 1.3, 1.5, 1.7, 1.9), 1):
        smriprep(tree, f"{number:02d}", level=cortex)
        petprep(tree, f"{number:02d}", f"trc-18FAV45_space-{CASYM}_desc-preproc_pet", cortex)
    settings = (*TINY_SETTINGS, "data.tracers=[florbetapir]", "data.inputs=[T1w]", "train.steps=2")
    with pytest.raises(InputError, match=r"data\.grid"):
        relapet.train(load_config(file=TINY, settings=settings), tree, tmp_path / "no-grid")
    config = load_config(file=TINY, settings=(*settings, "data.grid=4mm", "data.test_fraction=0.4"))
    run = relapet.train(config, tree, tmp_path / "run")
    manifest, mean = run.read_manifest(), run.read_training_mean()["florbetapir"]
    assert manifest.grid == "4mm"
    held_out = manifest.split["test"]
    truth = np.mean([(1.1, 1.3, 1.5, 1.7, 1.9)[int(s) - 1] for s in manifest.split["train"]])
    assert cortical(mean) == pytest.approx(truth, rel=0.03)
    relapet.synthesize(tree, tmp_path / "out", run.path, participants=held_out, settings={"steps": 1})
    result = evaluate(tree, [tmp_path / "out"], tmp_path / "scores", EvaluationConfig(bootstrap=20))
    assert result.problems == []
    # The table beside a synthetic map and the evaluation mean the same by a VOI.
    voi = result.tables["voi"]
    vois = voi[(voi["method"] == "rela") & (voi["kind"] == "voi")]
    for subject in held_out:
        table = pd.read_csv(Visit(subject).voi_table(tmp_path / "out", FBP, "synth"), sep="\t")
        scored = vois[vois["subject"] == f"sub-{subject}"].set_index("voi")["synth_suvr"]
        assert len(scored) > 80
        np.testing.assert_allclose(table.set_index("name").loc[scored.index, "mean"], scored, rtol=1e-4)
    measured = voi[voi["voi"] == "ctx-lh-insula"].groupby("subject")["real_suvr"].first()
    for subject in held_out:
        assert measured[f"sub-{subject}"] == pytest.approx(
            (1.1, 1.3, 1.5, 1.7, 1.9)[int(subject) - 1], rel=0.12
        )
