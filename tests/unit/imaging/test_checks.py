"""Raw images that cannot be used are refused by one sentence that names the file."""

import os

import nibabel as nib
import numpy as np
import pytest

from relapet.errors import SubjectError, VolumeError
from relapet.imaging.bids import Visit
from relapet.imaging.checks import load_anatomical, open_scan
from relapet.preprocessing.raw import find_raw


def write(path, shape=(40, 44, 40), affine=None, **forms):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.zeros(shape, np.uint8)
    data[data.shape[0] // 2 :] = 1
    image = nib.Nifti1Image(data, np.diag([4.0, 4, 4, 1]) if affine is None else affine)
    for form, value in forms.items():
        getattr(image, f"set_{form}")(value, code=1)
    nib.save(image, path)
    return path


def test_a_head_passes(tmp_path):
    assert load_anatomical(write(tmp_path / "a_T1w.nii.gz")).shape == (40, 44, 40)


@pytest.mark.parametrize(
    ("shape", "affine", "word"),
    [
        ((256, 256, 1), None, "slices"),
        ((40, 44), None, "dimensions"),
        ((40, 44, 40), np.diag([4.0, 4, 12, 1]), "12.0 mm"),
        ((40, 44, 40), np.diag([1.0, 1, 1, 1]), "spans only 40 mm"),
    ],
)
def test_what_is_no_head_is_refused(tmp_path, shape, affine, word):
    with pytest.raises(VolumeError, match=word) as error:
        open_scan(write(tmp_path / "a_T1w.nii.gz", shape, affine))
    assert "a_T1w.nii.gz" in str(error.value)


def test_singular_affine_is_refused(tmp_path):
    image = nib.Nifti1Image(np.ones((40, 44, 40), np.uint8), None)
    image.header.set_sform(np.diag([4.0, 0, 4, 1]), code=1)
    nib.save(nib.Nifti1Image(image.dataobj, None, image.header), tmp_path / "a_T1w.nii")
    with pytest.raises(VolumeError, match="singular"):
        open_scan(tmp_path / "a_T1w.nii")


def test_a_huge_file_is_refused_without_reading_it(tmp_path):
    header = nib.Nifti1Header()
    header.set_data_shape((2000, 2000, 1000))
    header.set_data_dtype(np.float32)
    path = tmp_path / "big_T1w.nii"
    with path.open("wb") as stream:  # the voxels of 16 GB are not there at all
        stream.write(header.binaryblock)
        stream.truncate(352)
    with pytest.raises(VolumeError, match="more than any head"):
        open_scan(path)


def test_an_empty_image_is_refused(tmp_path):
    path = tmp_path / "empty_T1w.nii"
    nib.save(nib.Nifti1Image(np.zeros((40, 44, 40), np.uint8), np.diag([4.0, 4, 4, 1])), path)
    with pytest.raises(VolumeError, match=r"empty_T1w.*every voxel"):
        load_anatomical(path)


def test_a_header_with_two_left_sides_is_refused(tmp_path):
    flipped = np.diag([-4.0, 4, 4, 1])
    path = write(tmp_path / "a_T1w.nii.gz", sform=np.diag([4.0, 4, 4, 1]), qform=flipped)
    with pytest.raises(VolumeError, match="left and right"):
        open_scan(path)


def test_truncated_file_is_refused(tmp_path):
    path = write(tmp_path / "a_T1w.nii.gz")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(VolumeError, match="a_T1w"):
        load_anatomical(path)


def test_two_t1w_and_none(tmp_path):
    visit = Visit("01")
    write(tmp_path / "sub-01/anat/sub-01_run-1_T1w.nii.gz")
    raw = find_raw(tmp_path, visit)
    assert raw.t1w.name == "sub-01_run-1_T1w.nii.gz"
    assert raw.flair is None
    write(tmp_path / "sub-01/anat/sub-01_run-2_T1w.nii.gz")
    with pytest.raises(SubjectError, match="2 T1w images"):
        find_raw(tmp_path, visit)
    with pytest.raises(SubjectError, match="no sub-02"):
        find_raw(tmp_path, Visit("02"))


def test_a_name_that_is_no_utf8(tmp_path):
    write(tmp_path / os.fsdecode(b"sub-01/anat/sub-01_acq-\xff_T1w.nii.gz"))
    with pytest.raises(SubjectError, match=r"acq-\ufffd_T1w.*rename it"):
        find_raw(tmp_path, Visit("01"))


def test_pet_by_tracer_with_aliases_and_problems(tmp_path):
    write(tmp_path / "sub-01/anat/sub-01_T1w.nii.gz")
    for name in ("trc-18FAV1451_pet", "trc-PIB_run-1_pet", "trc-PIB_run-2_pet", "trc-XYZ_pet", "pet"):
        write(tmp_path / f"sub-01/pet/sub-01_{name}.nii.gz")
    raw = find_raw(tmp_path, Visit("01"))
    assert [tracer.name for tracer, _ in raw.pet] == ["tau", "pib"]
    text = " ".join(raw.problems)
    assert "run-2_pet.nii.gz is a second pib scan" in text
    assert "Unknown tracer 'XYZ'" in text
    assert "sub-01_pet.nii.gz names no tracer" in text
