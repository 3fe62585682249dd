"""Synthetic maps on the T1w's own grid: where they lie, what they hold, and what is said where they cannot be made."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from relapet.api import synthesize
from relapet.cli import main
from relapet.errors import InputError
from relapet.evaluation.uncertainty.conformal import load_calibration
from relapet.imaging import transforms
from relapet.imaging.bids import NATIVE_SPACE, Visit
from relapet.imaging.grid import GRIDS, SPACE
from relapet.imaging.nifti import save_volume
from relapet.imaging.template import load_atlas, load_template
from relapet.preprocessing.names import Names
from relapet.synthesis.synthesize import Request, synthesize_dataset
from relapet.synthesis.synthesizer import Synthesis, Synthesizer
from relapet.tracers import get_tracer
from relapet.types import Json

TAU, VISIT, GRID = get_tracer("tau"), Visit("01"), GRIDS["8mm"]


def own_grid() -> tuple[tuple[int, int, int], np.ndarray]:
    """A T1w's grid as a scanner gives it: oblique, voxels 1.5 x 1.5 x 3 mm, first axis to the left."""
    angle = np.deg2rad(8)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-1.5, 1.5, 3.0])
    shape = (128, 144, 62)
    affine[:3, 3] = np.array([0.0, -16, 12]) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return shape, affine


def to_template() -> np.ndarray:
    """T1w mm to template mm: a turned, larger brain."""
    angle = np.deg2rad(5)
    move = np.diag([1.05, 0.97, 1.02, 1.0])
    move[:2, :2] = move[:2, :2] @ [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    move[:3, 3] = (3, -5, 4)
    return move


def add_native_files(root: Path, visit: Visit = VISIT, transform: bool = True) -> None:
    """Write what preprocess keeps beside the model-ready files; the transform is affine, so its truth is known."""
    names, (shape, affine) = Names(root, visit), own_grid()
    for path, order in ((names.native_t1w, 1), (names.native_mask, 0)):
        template = load_template(GRID)
        data = np.where(template.brain, template.t1, 0) if order else template.brain
        save_volume(path, sampled(data.astype(np.float32), shape, affine, order), affine, code=1)
    names.warp.forward.write_bytes(b"")
    names.warp.inverse.write_bytes(b"")
    if transform:
        ants = pytest.importorskip("ants")
        lps = np.diag([-1.0, -1, 1, 1])
        move = lps @ to_template() @ lps
        parameters = np.concatenate([move[:3, :3].ravel(), move[:3, 3]])
        made = ants.create_ants_transform(
            transform_type="AffineTransform", dimension=3, parameters=parameters
        )
        ants.write_transform(made, str(names.warp.inverse))


def sampled(data: np.ndarray, shape: tuple[int, int, int], affine: np.ndarray, order: int) -> np.ndarray:
    """A map on the model's grid as the T1w's grid sees it, by the known transform."""
    to_voxel = np.linalg.inv(GRID.affine) @ to_template() @ affine
    return ndimage.affine_transform(data, to_voxel[:3, :3], to_voxel[:3, 3], shape, order=order)


@pytest.fixture
def native_source(toy: Path) -> Path:
    add_native_files(toy)
    return toy


def test_native_maps_are_the_model_s_maps_interpolated_once(
    native_source: Path, tiny_run: Path, tmp_path: Path
) -> None:
    out, (shape, affine) = tmp_path / "out", own_grid()
    settings = {"count": 2, "steps": 1}
    outcome = synthesize(
        native_source, out, tiny_run, ["tau"], ["01"], settings, output_spaces=("MNI", "native")
    )
    assert outcome.failed == {}
    path = VISIT.pet(out, TAU, "synth", NATIVE_SPACE)
    assert path.name == "sub-01_trc-AV1451_space-T1w_meas-SUVR_desc-synth_mimap.nii.gz"
    native = nib.load(path)
    assert native.shape == shape
    np.testing.assert_allclose(native.affine, affine, atol=1e-4)
    assert native.header["sform_code"] == native.header["qform_code"] == 1
    mean = np.asarray(nib.load(VISIT.pet(out, TAU, "synth")).dataobj)
    expected = sampled(mean, shape, affine, order=1)
    deep = ndimage.binary_erosion(sampled(np.ones_like(mean), shape, affine, 0) > 0, iterations=4)
    np.testing.assert_allclose(np.asarray(native.dataobj)[deep], expected[deep], atol=2e-3)
    sd = np.asarray(nib.load(VISIT.pet(out, TAU, "synthstd", NATIVE_SPACE)).dataobj)
    assert sd[deep].max() > 0
    assert len(pd.read_csv(VISIT.voi_table(out, TAU, "synthsamples", NATIVE_SPACE), sep="\t").columns) == 4


class Wide:
    """Intervals of 0.2 SUVr."""

    def add(self, synthesis: Synthesis, table: pd.DataFrame) -> tuple[pd.DataFrame, Json]:
        return table.assign(low=table["mean"] - 0.1, high=table["mean"] + 0.1), {"IntervalLevel": 0.8}


def test_the_native_table_has_what_the_other_has(native_source: Path, tiny_run: Path, tmp_path: Path) -> None:
    synthesizer = Synthesizer.from_run(tiny_run)
    sample = synthesizer.sample.changed(steps=1, count=2)
    request = Request(
        (synthesizer.tracer("tau"),), sample, ("01",), spaces=("MNI", "native"), intervals=Wide()
    )
    assert synthesize_dataset(native_source, tmp_path / "out", synthesizer, request).failed == {}
    paths = [VISIT.voi_table(tmp_path / "out", TAU, "synth", space) for space in (SPACE, NATIVE_SPACE)]
    template, native = (pd.read_csv(path, sep="\t") for path in paths)
    assert list(native.columns) == list(template.columns)
    assert list(native.columns[-2:]) == ["low", "high"]
    np.testing.assert_allclose(native["high"] - native["mean"], 0.1, atol=1e-5)
    for desc, told in (("synth", {"mean", "sd"}), ("synthsamples", {"sample-0", "sample-1"})):
        path = VISIT.voi_table(tmp_path / "out", TAU, desc)
        about = json.loads(path.with_suffix(".json").read_text())
        columns = set(pd.read_csv(path, sep="\t").columns) - {
            "low",
            "high",
        }  # of these the interval's maker tells
        assert columns <= set(about)
        assert {
            name for name in about if isinstance(about[name], dict) and about[name].get("Units") == "SUVr"
        } == told
    assert [json.loads(path.with_suffix(".json").read_text())["IntervalLevel"] for path in paths] == [
        0.8,
        0.8,
    ]


def test_the_native_table_tells_the_probability_of_its_own_mean(
    native_source: Path, tiny_run: Path, tmp_path: Path
) -> None:
    out, name = tmp_path / "out", "temporal_meta_roi"
    settings = {"count": 2, "steps": 3}
    synthesize(native_source, out, tiny_run, ["tau"], ["01"], settings, output_spaces=("native",))
    path = VISIT.voi_table(out, TAU, "synth", NATIVE_SPACE)
    row = pd.read_csv(path, sep="\t").set_index("name").loc[name]
    found = load_calibration(tiny_run / "calibration.json").positivity["tau"]
    expected = found.probability(row["mean"], found.width(row["sd"], 2, averaged=True), 1.23)
    assert row["probability_positive"] == pytest.approx(expected, rel=1e-3)
    assert json.loads(path.with_suffix(".json").read_text())["PositivityThreshold"] == 1.23


def test_the_native_mask_and_sidecar_lead_to_the_t1w(
    native_source: Path, tiny_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    synthesize(native_source, out, tiny_run, ["tau"], ["01"], {"steps": 1}, output_spaces=("native",))
    assert not VISIT.pet(out, TAU, "synth").exists()
    names = Names(native_source, VISIT)
    mask = nib.load(VISIT.mask(out, NATIVE_SPACE))
    np.testing.assert_array_equal(np.asarray(mask.dataobj), np.asarray(nib.load(names.native_mask).dataobj))
    assert mask.get_data_dtype() == np.uint8
    sidecar = json.loads(
        VISIT.pet(out, TAU, "synth", NATIVE_SPACE).with_suffix("").with_suffix(".json").read_text()
    )
    anat = "bids:source:sub-01/anat/sub-01_"
    assert sidecar["SpatialReference"] == f"{anat}desc-preproc_T1w.nii.gz"
    assert {
        f"{anat}from-{SPACE}_to-T1w_mode-image_xfm.h5",
        f"{anat}desc-preproc_T1w.nii.gz",
        f"{anat}desc-brain_mask.nii.gz",
        f"{anat}space-{SPACE}_desc-preproc_FLAIR.nii.gz",
    } <= set(sidecar["Sources"])
    assert sidecar["ModelResolution"] == "8.0 mm isotropic"
    assert "1.5 x 1.5 x 3 mm" in sidecar["Resolution"]


def test_native_vois_are_those_of_the_template(native_source: Path, tiny_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    synthesize(native_source, out, tiny_run, ["tau"], ["01"], {"steps": 1}, output_spaces=("MNI", "native"))
    mni, native = (
        pd.read_csv(VISIT.voi_table(out, TAU, "synth", space), sep="\t").set_index("name")
        for space in (SPACE, NATIVE_SPACE)
    )
    atlas = load_atlas(GRIDS["1mm"])
    large = [atlas.names[i] for i, volume in atlas.volumes_mm3(1.0).items() if volume > 5000]
    change = np.log(native.loc[large, "mean"] / mni.loc[large, "mean"]).abs()
    assert change.median() < 0.05  # voxels of 8 mm hold more than one VOI
    # The brain is smaller in the T1w than in the template by the transform's determinant.
    fine = pd.Series({atlas.names[i]: volume for i, volume in atlas.volumes_mm3(1.0).items()})
    ratio = native.loc[large, "volume"] / fine[large]
    assert ratio.median() == pytest.approx(1 / np.linalg.det(to_template()), rel=0.02)


def test_a_tree_in_template_space_alone_is_refused_before_any_work(
    toy: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["synthesize", str(toy), str(out), "participant", "--model", str(tiny_run)]
    assert main([*arguments, "--output-space", "MNI", "native"]) == 2
    said = capsys.readouterr().err
    assert "from-MNI" in said
    assert "relapet preprocess" in said
    assert said.count("\n") == 1
    assert not out.exists()


def test_without_antspy_native_space_is_refused(
    toy: Path,
    tiny_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def absent(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    add_native_files(toy, transform=False)
    monkeypatch.setattr(transforms, "import_module", absent)
    transforms.load_ants.cache_clear()
    out = tmp_path / "out"
    arguments = ["synthesize", str(toy), str(out), "participant", "--model", str(tiny_run)]
    try:
        assert main([*arguments, "--output-space", "native"]) == 2
    finally:
        transforms.load_ants.cache_clear()
    assert "pip install 'relapet[preprocess]'" in capsys.readouterr().err
    assert not out.exists()


def test_a_visit_without_transforms_fails_alone(native_source: Path, tiny_run: Path, tmp_path: Path) -> None:
    outcome = synthesize(
        native_source,
        tmp_path / "out",
        tiny_run,
        ["tau"],
        ["01", "02"],
        {"steps": 1},
        output_spaces=("native",),
    )
    assert outcome.done == ("sub-01",)
    assert "no way back" in outcome.failed["sub-02"]


def test_an_unknown_output_space_is_refused(
    toy: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["synthesize", str(toy), str(tmp_path / "out"), "participant", "--model", str(tiny_run)]
    assert main([*arguments, "--output-space", "fsaverage"]) == 2
    assert "fsaverage" in capsys.readouterr().err


def test_raw_scans_are_refused_as_a_whole(tiny_run: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for label in ("01", "02"):
        anat = raw / f"sub-{label}" / "anat"
        anat.mkdir(parents=True)
        (anat / f"sub-{label}_T1w.nii.gz").touch()
    with pytest.raises(InputError, match=r"raw holds raw scans, none in an MNI space .* relapet preprocess"):
        synthesize(raw, tmp_path / "out", tiny_run)
    assert not (tmp_path / "out").exists()
    (raw / "dataset_description.json").write_text('{"DatasetType": "derivative"}')
    assert set(synthesize(raw, tmp_path / "out", tiny_run, report=False).failed) == {"sub-01", "sub-02"}
