"""Raw data sets in which all goes wrong: each case is one sentence that names the file, and the others go on."""

import json
import re
import shutil

import nibabel as nib
import numpy as np
import pytest

from relapet.cli import main
from relapet.imaging.bids import Visit
from relapet.imaging.grid import GRIDS
from relapet.preprocessing.mri import flair_warnings
from relapet.preprocessing.names import Names
from relapet.preprocessing.pipeline import PreprocessConfig, preprocess
from relapet.tracers import get_tracer

pytest.importorskip("ants")
SHAPE, AFFINE = (40, 48, 40), np.diag([4.0, 4, 4, 1])


def write_t1w(root, subject, data, affine=AFFINE, run=""):
    folder = root / f"sub-{subject}" / "anat"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"sub-{subject}{run}_T1w.nii"
    nib.save(nib.Nifti1Image(np.asarray(data, np.float32), affine), path)
    return path


def empty_head(root, subject):
    write_t1w(root, subject, np.zeros(SHAPE))


def single_slices(root, subject):
    write_t1w(root, subject, np.random.default_rng(0).random((200, 200, 2)))


def two_t1w(root, subject):
    for run in "12":
        write_t1w(root, subject, np.random.default_rng(0).random(SHAPE), run=f"_run-{run}")


def exchanged_sides(root, subject):
    data = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    path = write_t1w(root, subject, data)
    image = nib.Nifti1Image(data, None)
    image.set_sform(AFFINE, code=1)
    image.set_qform(np.diag([-4.0, 4, 4, 1]), code=1)
    nib.save(image, path)


def ten_gigabytes(root, subject):
    """All voxels are there, in a file with holes that takes no space."""
    header = nib.Nifti1Header()
    header.set_data_shape((1500, 1500, 1200))
    header.set_data_dtype(np.float32)
    path = write_t1w(root, subject, np.zeros(SHAPE))
    with path.open("wb") as stream:
        stream.write(header.binaryblock)
        stream.truncate(352 + 1500 * 1500 * 1200 * 4)
    assert path.stat().st_size > 10e9


def truncated(root, subject):
    path = write_t1w(root, subject, np.random.default_rng(0).random(SHAPE))
    path.write_bytes(path.read_bytes()[:5000])


HEADS = {
    empty_head: ("01", "every voxel", "sub-01_T1w.nii"),
    single_slices: ("02", "2 slices", "sub-02_T1w.nii"),
    two_t1w: ("03", "2 T1w images", "sub-03_run-2_T1w.nii"),
    exchanged_sides: ("04", "left and right", "sub-04_T1w.nii"),
    ten_gigabytes: ("05", "more than any head", "sub-05_T1w.nii"),
    truncated: ("06", "truncated", "sub-06_T1w.nii"),
}


def test_heads_that_are_none_are_named_each(tmp_path, capsys):
    raw, out = tmp_path / "raw", tmp_path / "out"
    for case, (subject, *_) in HEADS.items():
        case(raw, subject)
    assert main(["preprocess", str(raw), str(out), "participant", "--grid", "4mm", "--quiet"]) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    reasons = dict(line.strip().split(": ", 1) for line in said.splitlines() if line.startswith("  sub-"))
    assert len(reasons) == len(HEADS)
    for subject, *words in HEADS.values():
        for word in words:
            assert word in reasons[f"sub-{subject}"]
        assert "failed" in (out / "logs" / f"sub-{subject}.log").read_text()
    assert not list(out.glob("sub-*/**/*.nii.gz"))


def test_a_derivative_is_not_taken_for_raw_scans(toy_source, tmp_path, capsys):
    assert main(["preprocess", str(toy_source), str(tmp_path / "out"), "participant"]) == 2
    assert "is a derivative, as its dataset_description.json says" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def sidecar(window, **change):
    start, end = window
    fields = {
        "Units": "Bq/mL",
        "InjectionStart": 0,
        "FrameTimesStart": [60 * start],
        "FrameDuration": [60 * (end - start)],
        "ImageDecayCorrected": True,
        **change,
    }
    return {key: value for key, value in fields.items() if value is not None}


PETS = {
    "AV1451": sidecar((80, 100)),
    "PBR28": sidecar((60, 90), Units=None),
    "PIB": sidecar((50, 70), Units="counts"),
    "AV45": sidecar((0, 5)),
    "FBB": None,
    "FDG": sidecar((30, 60), FrameDuration=[600, 600]),
}
"""Label of each scan of one subject to its sidecar; the first is right."""
SAID = {
    "PBR28": "has no Units",
    "PIB": "Units is 'counts'",
    "AV45": "50 to 70 min",
    "FBB": "no sidecar",
    "FDG": "has 2 values",
}


@pytest.fixture(scope="module")
def result(raw_tree, tmp_path_factory):
    """A person with one good and five bad PET scans, and a phantom."""
    raw, out = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("out")
    shutil.copytree(raw_tree.root / "sub-01", raw / "sub-01")
    folder = raw / "sub-01" / "pet"
    (raw / "sub-01" / "anat" / "sub-01_FLAIR.nii.gz").unlink()
    frames = nib.load(folder / "sub-01_trc-AV1451_pet.nii.gz")
    frame = nib.Nifti1Image(np.asarray(frames.dataobj)[..., :1], frames.affine)
    shutil.rmtree(folder)
    folder.mkdir()
    for label, fields in PETS.items():
        nib.save(frame, folder / f"sub-01_trc-{label}_pet.nii.gz")
        if fields is not None:
            (folder / f"sub-01_trc-{label}_pet.json").write_text(json.dumps(fields))
    voxels = np.indices(SHAPE) * 4.0 - np.array([80, 96, 80]).reshape(3, 1, 1, 1)
    ball = np.sqrt((voxels**2).sum(axis=0)) < 74
    noise = np.random.default_rng(0).standard_normal(SHAPE)
    write_t1w(raw, "02", np.where(ball, 500 + 20 * noise, 0))
    config = PreprocessConfig(grid=GRIDS["4mm"], syn_iterations=(5, 0))
    return out, preprocess(raw, out, config)


@pytest.mark.slow
def test_a_bad_pet_is_named_and_the_others_are_written(result):
    out, outcome = result
    said, visit = outcome.failed["sub-01"], Visit("01")
    for label, words in SAID.items():
        assert words in said
        assert f"sub-01_trc-{label}_pet" in said
        assert not visit.pet(out, get_tracer(label)).exists()
    assert visit.pet(out, get_tracer("tau")).is_file()
    assert visit.t1w(out).is_file()
    assert "no FLAIR" in outcome.warnings["sub-01"][0]
    assert not Names(out, visit).provenance.exists()  # what failed is tried again next time


@pytest.mark.slow
def test_a_phantom_is_no_head(result):
    out, outcome = result
    assert "sub-02_T1w.nii" in outcome.failed["sub-02"]
    # by its little likeness to the template, or where the registration found no place for it at all
    assert re.search("not of a phantom|T1w of a whole head", outcome.failed["sub-02"])
    assert not Visit("02").t1w(out).exists()


@pytest.mark.parametrize(
    ("nats", "mirrored", "word"),
    [
        # measured on four sessions of three people (Lesjak 2017); see mri._LEAST_NATS
        *((nats, mirrored, None) for nats, mirrored in ((0.436, 0.205), (0.242, 0.107), (0.578, 0.243))),
        *(
            (nats, mirrored, "of one person")
            for nats, mirrored in ((0.158, 0.152), (0.092, 0.014), (0.016, 0.153))
        ),
        (0.107, 0.242, "left and right"),
        (0.205, 0.436, "left and right"),
        (1.2, 1.2, None),  # a symmetric brain
    ],
)
def test_flair_of_another_person_or_side_is_warned_of(nats, mirrored, word, tmp_path):
    warnings = flair_warnings(nats, nats / mirrored, tmp_path / "sub-01_FLAIR.nii.gz")
    assert len(warnings) == (word is not None)
    for text in warnings:
        assert word in text
        assert "sub-01_FLAIR.nii.gz" in text
