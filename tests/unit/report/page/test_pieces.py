"""The pieces of a page: pictures, small volumes, regions and curves."""

from __future__ import annotations

import base64
import gzip
import io
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from relapet.errors import InputError
from relapet.evaluation.scores.voi import default_atlas, sum_regions
from relapet.imaging.bids import Visit
from relapet.imaging.grid import GRIDS, SPACE
from relapet.imaging.template import load_atlas
from relapet.report.page.curves import read_log, training_curves
from relapet.report.page.pictures import Picture, colour_scale, slices_picture
from relapet.report.page.regions import read_regions, regions_of_map
from relapet.report.page.volumes import small_nifti
from relapet.report.panels import cut_plane
from relapet.report.style import voi_label
from relapet.tracers import get_tracer

TAU, PIB = get_tracer("tau"), get_tracer("pib")
GRID = GRIDS["8mm"]


def pixels(picture: Picture) -> np.ndarray:
    kind, _, coded = picture.source.removeprefix("data:image/").partition(";base64,")
    assert kind in ("png", "jpeg")
    with Image.open(io.BytesIO(base64.b64decode(coded))) as image:
        assert image.size == (picture.width, picture.height)
        return np.asarray(image.convert("RGB"), dtype=int)


def decoded(text: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


@pytest.fixture
def ramp() -> np.ndarray:
    """0 at the left to 1 at the right, brighter above."""
    x, _, z = np.indices(GRID.shape, dtype=np.float32)
    return (0.5 * x / (GRID.shape[0] - 1) + 0.5 * z / (GRID.shape[2] - 1)).astype(np.float32)


def test_slices_show_left_on_the_left_and_above_above(ramp: np.ndarray) -> None:
    brain = np.ones(GRID.shape, bool)
    cut = cut_plane("coronal", 0, brain, GRID.affine)
    shown = pixels(slices_picture(ramp, [cut], "gray", (0, 1), "a ramp"))
    assert shown.shape == (*cut.of(ramp).shape, 3)
    assert (np.diff(shown[..., 0], axis=1) > 0).all()
    assert (np.diff(shown[..., 0], axis=0) < 0).all()
    np.testing.assert_allclose(shown[0, 0, 0], 255 * ramp[0, 0, -1], atol=1.5)


def test_what_lies_outside_or_is_nan_is_not_drawn(ramp: np.ndarray) -> None:
    brain = np.ones(GRID.shape, bool)
    cuts = [cut_plane(plane, 0, brain, GRID.affine) for plane in ("axial", "sagittal")]
    inside = np.zeros(GRID.shape, bool)
    inside[:12] = True
    ramp[:, :, 0] = np.nan
    shown = pixels(slices_picture(ramp, cuts, "inferno", (0, 1), "a ramp", inside))
    blank = (shown == 38).all(axis=2)
    assert shown.shape[0] == cuts[0].of(ramp).shape[0] + 1 + cuts[1].of(ramp).shape[0]
    assert blank[: GRID.shape[1], 12:].all()
    assert not blank[: GRID.shape[1], :12].any()
    assert blank[-1].all()


def test_slices_of_many_pixels_are_jpeg(ramp: np.ndarray) -> None:
    fine = np.kron(ramp, np.ones((8, 8, 8), np.float32))
    affine = GRIDS["1mm"].affine
    cuts = [cut_plane("axial", mm, fine >= 0, affine) for mm in (0, 10)]
    picture = slices_picture(fine, cuts, "inferno", (0, 1), "a ramp")
    assert picture.source.startswith("data:image/jpeg;")
    shown = pixels(picture)
    assert shown[50, 180].sum() > shown[50, 10].sum()


def test_a_colour_bar_has_the_colours_of_the_pictures() -> None:
    bar = colour_scale("gray", (0.5, 2.5), "SUVr")
    assert (bar.low, bar.high, bar.unit) == (0.5, 2.5, "SUVr")
    assert (bar.colours[0], bar.colours[-1]) == ("rgb(0 0 0)", "rgb(255 255 255)")


def test_a_small_volume_keeps_values_to_a_step_and_places(ramp: np.ndarray) -> None:
    text = small_nifti(ramp, GRID.affine, (0.0, 2.0))
    assert text == small_nifti(ramp, GRID.affine, (0.0, 2.0))
    image = decoded(text)
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_allclose(image.get_fdata(), ramp, atol=1.01 / 255)
    np.testing.assert_allclose(image.affine, GRID.affine)
    clipped = decoded(small_nifti(4 * ramp - 1, GRID.affine, (0.0, 2.0))).get_fdata()
    assert (clipped.min(), clipped.max()) == (0, pytest.approx(2))


def test_fine_voxels_are_averaged_where_they_lie() -> None:
    rng = np.random.default_rng(0)
    affine = GRIDS["1mm"].affine
    data = rng.uniform(0, 1, (20, 22, 21)).astype(np.float32)
    image = decoded(small_nifti(data, affine, (0.0, 1.0)))
    assert image.shape == (10, 11, 10)
    np.testing.assert_allclose(image.get_fdata()[3, 4, 5], data[6:8, 8:10, 10:12].mean(), atol=0.003)
    middle = affine @ [6.5, 8.5, 10.5, 1]
    np.testing.assert_allclose(image.affine @ [3, 4, 5, 1], middle)


def test_regions_are_the_means_of_the_written_map(toy_source: Path, synthetic: Path) -> None:
    visit = Visit(next(synthetic.glob("sub-*")).name.removeprefix("sub-"))
    atlas = load_atlas(GRID)
    maps = {root: np.asarray(nib.load(path).dataobj) for root, path in (
        ("synthetic", visit.pet(synthetic, TAU, "synth")), ("measured", visit.pet(toy_source, TAU)),
    )}  # fmt: skip
    measured = sum_regions(maps["measured"], atlas.labels, default_atlas().names)
    found = read_regions(synthetic, visit, TAU, measured, SPACE)
    assert found is not None
    for name, labels in TAU.composites.items():
        region = found.composite(voi_label(name))
        inside = atlas.mask(labels)
        assert region.mean == pytest.approx(maps["synthetic"][inside].mean(), rel=1e-4)
        assert region.measured == pytest.approx(maps["measured"][inside].mean(), rel=1e-4)
        assert region.difference == pytest.approx(region.mean - region.measured)
    samples = pd.read_csv(visit.voi_table(synthetic, TAU, "synthsamples"), sep="\t").set_index("name")
    rule = TAU.positivity
    assert rule is not None
    drawn = samples.loc[rule.composite].filter(like="sample-").astype(float)
    region = found.composite(voi_label(rule.composite))
    assert region.sd == pytest.approx(drawn.std(ddof=1), rel=1e-3)
    table = pd.read_csv(visit.voi_table(synthetic, TAU, "synth"), sep="\t").set_index("name")
    assert (region.low, region.high) == pytest.approx(tuple(table.loc[rule.composite, ["low", "high"]]))
    assert found.probability == pytest.approx(table.loc[rule.composite, "probability_positive"])
    assert found.level == 0.5
    assert len(found.vois) == len(table) - 1
    assert found.centiloid is None


def test_a_map_without_tables_gives_regions_and_centiloids() -> None:
    atlas = load_atlas(GRID)
    suvr = np.where(atlas.mask(PIB.composites["centiloid_cortex"]), 2.0, 1.0).astype(np.float32)
    found = regions_of_map(suvr, GRID.affine, PIB, None)
    assert found.composite("Centiloid cortex").mean == pytest.approx(2)
    assert found.centiloid is not None
    assert found.centiloid.mean == pytest.approx(100 * (2 - 1.009) / 1.067)
    assert np.isnan([found.probability, found.level, found.vois[0].measured]).all()
    assert np.isnan(found.composite("no such").mean)


def test_regions_of_a_broken_table_are_refused(synthetic: Path, tmp_path: Path) -> None:
    visit = Visit("01")
    path = visit.voi_table(tmp_path, TAU, "synth")
    path.parent.mkdir(parents=True)
    assert read_regions(tmp_path, visit, TAU, None, SPACE) is None
    for text in ("index\tmean\n1\t2\n", "name\tvolume\na\tmany\n", "name\tvolume\na\t3\n"):
        path.write_text(text)
        with pytest.raises(InputError, match=path.name):
            read_regions(tmp_path, visit, TAU, None, SPACE)


def test_curves_show_every_loss_and_every_tracer(tmp_path: Path) -> None:
    rows = [
        f"{step}\t{name}\t{1 / step}"
        for step in (1, 2, 3)
        for name in ("generator/total", "critic/r1", "seconds")
    ]
    rows += [f"{step}\tmae/{tracer}\t0.1" for step in (2, 3) for tracer in ("tau", "pib")]
    log = tmp_path / "log.tsv"
    log.write_text("\n".join(["step\tname\tvalue", *rows, ""]))
    losses, validation = training_curves(read_log(log))
    assert [ax.get_title() for ax in losses.axes] == ["generator/total", "critic/r1"]
    np.testing.assert_allclose(losses.axes[0].lines[0].get_ydata(), [1, 1 / 2, 1 / 3])
    assert [line.get_label() for line in validation.axes[0].lines] == ["tau", "pib"]
    log.write_text("step\tname\tvalue\none\tloss\t1\n")
    with pytest.raises(InputError, match=r"log\.tsv holds words"):
        read_log(log)
