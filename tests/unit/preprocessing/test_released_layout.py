"""The release's flat layout becomes model-ready derivatives with the unit that the caller states."""

import nibabel as nib
import numpy as np
import pytest

from relapet.errors import InputError
from relapet.imaging.bids import Visit, index_derivative
from relapet.imaging.grid import GRIDS, Grid
from relapet.imaging.nifti import load_volume
from relapet.imaging.template import load_atlas, load_template
from relapet.preprocessing.released_layout import import_layout
from relapet.tracers import get_tracer

GRID = GRIDS["4mm"]
SOURCE = Grid("mni", 2.0, (88, 104, 88))


@pytest.fixture
def flat(tmp_path):
    template = load_template(SOURCE)
    brain = np.where(template.brain, template.t1, 0).astype(np.float32)
    uptake = np.where(template.brain, 3000 * (1 + template.grey), 0).astype(np.float32)
    for name, files in {"AB_01": ("T1", "T2", "TAU"), "AB_02": ("T1", "T2", "PIB", "PBR")}.items():
        folder = tmp_path / "flat" / name
        folder.mkdir(parents=True)
        for suffix in files:
            data = brain if suffix.startswith("T") and suffix != "TAU" else uptake
            nib.save(nib.Nifti1Image(data, SOURCE.affine), folder / f"{name}_{suffix}.nii")
    return tmp_path / "flat"


def test_files_arrive_under_bids_names(flat, tmp_path):
    outcome = import_layout(flat, tmp_path / "out", "Bq/mL", GRID)
    assert outcome.done == {"AB_01": "AB01", "AB_02": "AB02"}
    assert outcome.failed == {}
    first, second = index_derivative(tmp_path / "out")
    assert list(first.pet) == ["tau"]
    assert sorted(second.pet) == ["pbr28", "pib"]
    t1w = load_volume(first.t1w)
    assert GRID.matches(t1w.shape, t1w.affine)
    mask = np.asarray(load_volume(first.mask).dataobj) > 0
    assert not np.asarray(t1w.dataobj)[~mask].any()


def test_units_decide_on_the_reference_region(flat, tmp_path):
    import_layout(flat, tmp_path / "activity", "Bq/mL", GRID)
    import_layout(flat, tmp_path / "suvr", "SUVR", GRID)
    pib, visit = get_tracer("pib"), Visit("AB02")
    scaled = np.asarray(load_volume(visit.pet(tmp_path / "activity", pib)).dataobj)
    kept = np.asarray(load_volume(visit.pet(tmp_path / "suvr", pib)).dataobj)
    reference = load_atlas(GRID).mask(pib.reference_region.labels)
    assert scaled[reference].mean() == pytest.approx(1, abs=0.03)
    assert kept[reference].mean() > 3000
    with pytest.raises(InputError, match="--units"):
        import_layout(flat, tmp_path / "none", "counts", GRID)


def test_a_bad_folder_fails_alone_and_clashing_names_stop(flat, tmp_path):
    data = np.ones((60, 60, 60), np.float32)
    nib.save(nib.Nifti1Image(data, np.diag([2.0, 2, 2, 1])), flat / "AB_01" / "AB_01_T1.nii")
    outcome = import_layout(flat, tmp_path / "out", "SUVR", GRID)
    assert list(outcome.done) == ["AB_02"]
    assert "AB_01" in outcome.failed["AB_01"]
    (flat / "AB-02").mkdir()
    (flat / "AB-02" / "AB-02_T1.nii").write_bytes((flat / "AB_02" / "AB_02_T1.nii").read_bytes())
    with pytest.raises(InputError, match="AB02"):
        import_layout(flat, tmp_path / "more", "SUVR", GRID)
    with pytest.raises(InputError, match="no folder ID"):
        import_layout(flat / "AB_01", tmp_path / "x", "SUVR", GRID)


def test_no_folder_with_images_is_left_out_without_a_word(flat, tmp_path):
    (flat / "AB_01").rename(flat / "AB[1]")
    for path in (flat / "AB[1]").iterdir():
        path.rename(path.with_name(path.name.replace("AB_01", "AB[1]")))
    (flat / "other").mkdir()
    (flat / "other" / "scan_T1.nii").write_bytes((flat / "AB_02" / "AB_02_T1.nii").read_bytes())
    outcome = import_layout(flat, tmp_path / "out", "SUVR", GRID)
    assert outcome.done == {"AB[1]": "AB1", "AB_02": "AB02"}
    assert list(outcome.failed) == ["other"]
    assert "other_T1.nii" in outcome.failed["other"]
