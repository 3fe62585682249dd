"""Resampling, composition and the intensity steps, on small volumes with known answers."""

import subprocess
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from relapet.errors import SubjectError, VolumeError
from relapet.imaging.grid import GRIDS
from relapet.imaging.template import load_template
from relapet.imaging.transforms import Step, apply, to_ants
from relapet.preprocessing.brain import extract_brain
from relapet.preprocessing.intensity import scale_by_white_matter
from relapet.preprocessing.registration import (
    Warp,
    isotropic,
    register_linear,
    register_syn,
    similarity,
    to_file_axes,
    write_identity,
)

pytest.importorskip("ants")
GRID = GRIDS["4mm"]


def template_image():
    template = load_template(GRID)
    return nib.Nifti1Image(np.where(template.brain, template.t1, 0).astype(np.float32), GRID.affine)


def rigid(degrees, shift_mm):
    a = np.deg2rad(degrees)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    matrix[:3, 3] = shift_mm
    return matrix


def write_rigid(path, matrix):
    """Write the transform that resamples an image whose content moved by ``matrix`` (RAS mm) back."""
    import ants

    lps = np.diag([-1.0, -1, 1, 1]) @ matrix @ np.diag([-1.0, -1, 1, 1])
    transform = ants.create_ants_transform(
        transform_type="AffineTransform", matrix=lps[:3, :3], translation=lps[:3, 3].tolist()
    )
    ants.write_transform(transform, str(path))
    return path


def test_oblique_image_lands_where_its_affine_says(tmp_path):
    """A point source at a known world position is found there after a known rigid transform."""
    affine = rigid(20, (-30, 12, 5)) @ np.diag([3.0, 3, 3, 1])
    data = np.zeros((30, 32, 28), np.float32)
    data[18, 9, 20] = 1
    data = ndimage.gaussian_filter(data, 1.5)
    world = (affine @ [18, 9, 20, 1])[:3]
    move = rigid(-15, (4, -6, 8))
    # ITK's transform leads from target points to source points.
    step = Step(write_rigid(tmp_path / "move.mat", move))
    target = rigid(-8, (-60, -50, -40)) @ np.diag([2.0, 2, 2, 1])
    for steps, expected in (
        ((), world),
        ((step,), (np.linalg.inv(move) @ [*world, 1])[:3]),
        ((Step(step.path, inverted=True),), (move @ [*world, 1])[:3]),
        ((step, step), (np.linalg.inv(move) @ np.linalg.inv(move) @ [*world, 1])[:3]),
    ):
        moved = apply(nib.Nifti1Image(data, affine), (70, 70, 70), target, steps)
        centre = target @ [*ndimage.center_of_mass(moved), 1]
        assert np.abs(centre[:3] - expected).max() < 0.1


def test_isotropic_keeps_mean_and_place():
    affine = rigid(10, (3, 4, 5)) @ np.diag([2.0, 2, 6, 1])
    data = np.zeros((40, 40, 20), np.float32)
    data[14, 22, 12] = 1000
    data = ndimage.gaussian_filter(data, (3, 3, 1))
    image = nib.Nifti1Image(data, affine)
    cubic = isotropic(image, 3.0)
    assert np.sqrt((cubic.affine[:3, :3] ** 2).sum(axis=0)) == pytest.approx([3, 3, 3])
    assert float(cubic.dataobj[:].sum()) * 27 == pytest.approx(float(data.sum()) * 24, rel=0.02)
    assert (cubic.affine @ [*ndimage.center_of_mass(np.asarray(cubic.dataobj)), 1])[:3] == pytest.approx(
        (affine @ [*ndimage.center_of_mass(data), 1])[:3], abs=0.1
    )


def test_sheared_affine_is_refused():
    affine = np.diag([2.0, 2, 2, 1])
    affine[0, 1] = 0.4
    with pytest.raises(VolumeError, match=r"scan\.nii.*right angles"):
        to_ants(nib.Nifti1Image(np.zeros((50, 50, 50), np.float32), affine), "scan.nii")


@pytest.mark.parametrize("codes", ["LPS", "PIR", "RAS", "ASL"])
def test_to_file_axes_undoes_the_reorientation(codes):
    data = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    ras = nib.Nifti1Image(data, np.diag([2.0, 3, 4, 1]))
    raw = ras.as_reoriented(
        nib.orientations.ornt_transform([[0, 1], [1, 1], [2, 1]], nib.orientations.axcodes2ornt(codes))
    )
    assert nib.aff2axcodes(raw.affine) == tuple(codes)
    back = to_file_axes(np.asarray(nib.as_closest_canonical(raw).dataobj), raw)
    assert np.array_equal(back, np.asarray(raw.dataobj))


def test_rigid_registration_finds_a_known_move(tmp_path):
    """The template, rotated and shifted far from its own header, comes back within 1 mm."""
    fixed = template_image()
    move = rigid(12, (9, -14, 6))
    moving = nib.Nifti1Image(np.asarray(fixed.dataobj), move @ fixed.affine)
    out = register_linear(fixed, moving, tmp_path / "found.mat", "Rigid")
    found = apply(moving, fixed.shape, fixed.affine, [Step(out)])
    inside = np.asarray(fixed.dataobj) > 0
    assert np.corrcoef(found[inside], np.asarray(fixed.dataobj)[inside])[0, 1] > 0.97
    import ants

    transform = ants.read_transform(str(out))
    points = np.argwhere(inside)[::97] @ fixed.affine[:3, :3].T + fixed.affine[:3, 3]
    lps = np.array([-1.0, -1, 1])
    got = np.array([transform.apply_to_point((p * lps).tolist()) for p in points]) * lps
    true = points @ move[:3, :3].T + move[:3, 3]
    assert np.median(np.linalg.norm(got - true, axis=1)) < 1.0


def test_results_reach_another_file_system_than_that_of_temporary_files(tmp_path, monkeypatch):
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs two file systems")
    with tempfile.TemporaryDirectory(dir=memory) as other:
        monkeypatch.setattr(tempfile, "tempdir", other)
        fixed = template_image()
        start = write_identity(tmp_path / "start.mat")
        warp = Warp(tmp_path / "there.h5", tmp_path / "back.h5")
        register_syn(fixed, fixed, start, warp, (1, 0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back.h5", "start.mat", "there.h5"]


def test_brain_extraction_imports_nothing_from_the_working_folder(monkeypatch):
    called = []

    def run(command, **options):
        called.append(command)
        return subprocess.CompletedProcess(command, 1, "", "no brain")

    monkeypatch.setattr("relapet.preprocessing.brain.find_spec", lambda name: object())
    monkeypatch.setattr("relapet.preprocessing.brain.subprocess.run", run)
    head = nib.Nifti1Image(np.ones((200, 200, 200), np.float32), np.eye(4))
    with pytest.raises(SubjectError, match="found no brain"):
        extract_brain(head, "a_T1w.nii.gz")
    assert called[0][1] == "-P"


def test_similarity_knows_the_right_image_from_its_mirror():
    fixed = template_image()
    mask = nib.Nifti1Image((np.asarray(fixed.dataobj) > 0).astype(np.float32), GRID.affine)
    other = nib.Nifti1Image(np.roll(np.asarray(fixed.dataobj), 3, axis=1), GRID.affine)
    inverse = nib.Nifti1Image(300 - np.asarray(fixed.dataobj), GRID.affine)
    assert similarity(fixed, inverse, mask) > 2 * similarity(fixed, other, mask)


def test_an_extracted_brain_is_its_own_mask():
    image = template_image()
    template = load_template(GRID)
    mask = extract_brain(image, "a_T1w.nii.gz")
    overlap = 2 * (mask & template.brain).sum() / (mask.sum() + template.brain.sum())
    assert overlap > 0.99


def test_scanners_look_alike_after_scaling():
    template = load_template(GRID)
    white = template.white > 0.9
    one = scale_by_white_matter(template.t1, white, template.brain, "a")
    other = scale_by_white_matter(7.5 * template.t1, white, template.brain, "b")
    assert np.abs(one - other).max() < 1e-5
    assert np.median(one[white]) == pytest.approx(1)
    assert not one[~template.brain].any()
    with pytest.raises(SubjectError, match=r"c\.nii.*white matter"):
        scale_by_white_matter(np.zeros_like(template.t1), white, template.brain, "c.nii")
