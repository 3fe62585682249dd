from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from relapet.errors import InputError
from relapet.evaluation.scores.voi import (
    brain_mask,
    default_atlas,
    load_region_atlas,
    sum_regions,
    target_vois,
)
from relapet.imaging.grid import GRIDS
from relapet.imaging.nifti import save_volume
from relapet.imaging.template import load_atlas, load_template
from relapet.tracers import get_tracer

GRID = GRIDS["4mm"]


@pytest.fixture
def suvr() -> np.ndarray:
    return np.random.default_rng(0).random(GRID.shape, dtype=np.float32)


def test_voi_means_equal_a_plain_mean_over_the_label(suvr):
    atlas = load_atlas(GRID)
    vois = sum_regions(suvr, atlas.labels, atlas.names).vois()
    for index, name in atlas.names.items():
        voxels = suvr[atlas.labels == index]
        if voxels.size:
            assert vois[name] == pytest.approx(voxels.mean(), rel=1e-5)
        else:
            assert name not in vois


def test_composites_pool_voxels_not_vois(suvr):
    atlas, tau = load_atlas(GRID), get_tracer("tau")
    composites = sum_regions(suvr, atlas.labels, atlas.names).composites(tau)
    assert composites.keys() == tau.composites.keys()
    for name, value in composites.items():
        assert value == pytest.approx(suvr[atlas.mask(tau.composites[name])].mean(), rel=1e-5)


def test_centiloid_anchors_are_0_and_100():
    atlas, pib = load_atlas(GRID), get_tracer("pib")
    scale = pib.centiloid
    target = atlas.mask(pib.composites[scale.composite])
    for ratio, expected in ((scale.intercept_suvr, 0), (scale.intercept_suvr + scale.span_suvr, 100)):
        # cerebellar reference of 0.9, as after division by another region: the ratio must not see it
        volume = np.where(target, ratio * 0.9, 0.9).astype(np.float32)
        regions = sum_regions(volume, atlas.labels, atlas.names)
        assert regions.centiloid(pib) == pytest.approx(expected, abs=1e-3)
    assert np.isnan(regions.centiloid(get_tracer("tau")))


def test_targets_are_grey_matter_without_the_reference_region():
    names = list(default_atlas().names.values())
    targets = target_vois(names, get_tracer("pib"))
    assert "ctx-lh-precuneus" in targets
    assert "Right-Thalamus-Proper" in targets
    assert not {
        "Left-Cerebellum-Cortex", "Left-Lateral-Ventricle", "Right-choroid-plexus", "CSF", "CC_Central",
        "Left-Cerebral-White-Matter", "ctx-rh-unknown",
    } & set(targets)  # fmt: skip


def test_known_grids_take_the_packaged_mask_and_unknown_grids_the_same_by_affine():
    assert (brain_mask(GRID.shape, GRID.affine) == load_template(GRID).brain).all()
    fine = GRIDS["1mm"]
    affine = fine.affine.copy()
    affine[:3, :3] *= 2
    affine[:3, 3] += 2  # off every known grid, on voxel centres of the 1 mm grid
    mask = brain_mask((60, 70, 60), affine)
    assert (mask == load_template(fine).brain[2:122:2, 2:142:2, 2:122:2]).all()
    labels = default_atlas().labels((60, 70, 60), affine)
    assert (labels == load_atlas(fine).labels[2:122:2, 2:142:2, 2:122:2]).all()


@pytest.fixture
def own_atlas(tmp_path):
    labels = np.zeros(GRID.shape, np.int16)
    labels[10:20, 10:20, 10:20] = 1
    labels[20:25, 10:20, 10:20] = 7
    path = tmp_path / "own.nii.gz"
    save_volume(path, labels, GRID.affine, dtype=np.int16)
    (tmp_path / "own.tsv").write_text("index\tname\n0\tbackground\n1\tleft\n7\tright\n")
    return path


def test_a_users_atlas_is_read_with_the_table_beside_it(own_atlas, suvr):
    atlas = load_region_atlas(own_atlas)
    assert atlas.names == {1: "left", 7: "right"}
    vois = sum_regions(suvr, atlas.labels(GRID.shape, GRID.affine), atlas.names).vois()
    assert vois["right"] == pytest.approx(suvr[20:25, 10:20, 10:20].mean(), rel=1e-5)
    assert sum_regions(suvr, atlas.labels(GRID.shape, GRID.affine), atlas.names).composites(
        get_tracer("tau")
    ) == {}  # fmt: skip


def test_a_users_atlas_on_another_grid_is_moved_by_affine(own_atlas):
    fine = load_region_atlas(own_atlas).labels(GRIDS["1mm"].shape, GRIDS["1mm"].affine)
    assert (fine == 1).sum() == pytest.approx(10**3 * 4**3, rel=0.05)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, "has no label table"),
        ("index\tlabel\n1\tleft\n", "lacks the column name"),
        ("index\tname\n1\tleft\n", "no row for index 7"),
        ("index\tname\n1\tleft\none\tright\n", "in line 3"),
        ("index\tname\n1\tleft\n7\tleft\n", "name left twice"),
        ("index\tname\n1\tleft\n1\tright\n", "index 1 twice"),
    ],
)
def test_an_unusable_label_table_is_named_with_the_mend(own_atlas, table, message):
    path = own_atlas.with_name("own.tsv")
    path.unlink() if table is None else path.write_text(table)
    with pytest.raises(InputError, match=message) as caught:
        load_region_atlas(own_atlas)
    assert "own.tsv" in str(caught.value)


def test_an_atlas_of_fractions_is_refused(own_atlas):
    nib.save(nib.Nifti1Image(np.full(GRID.shape, 0.5, np.float32), GRID.affine), own_atlas)
    with pytest.raises(InputError, match="no labels"):
        load_region_atlas(own_atlas)


def test_a_missing_or_broken_atlas_is_refused(own_atlas):
    own_atlas.write_bytes(own_atlas.read_bytes()[:200])
    with pytest.raises(InputError, match=r"own\.nii\.gz"):
        load_region_atlas(own_atlas)
