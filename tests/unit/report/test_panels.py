from __future__ import annotations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from relapet.imaging.grid import GRIDS
from relapet.report.panels import PanelView, subject_panel
from relapet.report.style import alternative_text, save_figure
from relapet.tracers import TracerSpec, get_tracer

GRID = GRIDS["4mm"]


@pytest.fixture(scope="module")
def tracer() -> TracerSpec:
    return get_tracer("pib").model_copy(update={"name": "toy", "display_window": (0.5, 2.5)})


@pytest.fixture(scope="module")
def images() -> dict[str, np.ndarray]:
    """An ellipsoid "brain"; PET is 1 SUVr on the patient's left and 2 on the right."""
    index = np.indices(GRID.shape).astype(np.float32)
    mm = index * GRID.voxel_size + GRID.affine[:3, 3].reshape(3, 1, 1, 1)
    centre = np.array([0, -18, 4], dtype=np.float32).reshape(3, 1, 1, 1)
    brain = (((mm - centre) / np.array([60, 75, 60]).reshape(3, 1, 1, 1)) ** 2).sum(axis=0) < 1
    t1w = np.where(brain, 100 + index[2], 0).astype(np.float32)
    real = np.where(mm[0] < 0, 1.0, 2.0).astype(np.float32)
    return {"t1w": t1w, "flair": t1w * 2, "real": real, "synthetic": real + np.float32(0.25)}


def _tiles(figure: Figure) -> list:
    return [axes for axes in figure.axes if axes.get_images()]


def _texts(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.texts)


def test_columns_with_and_without_a_real_pet(images, tracer):
    full = subject_panel(**images, tracer=tracer, affine=GRID.affine, title="sub-01")
    titles = [axes.get_title() for axes in _tiles(full) if axes.get_title()]
    assert titles == ["T1w", "FLAIR", "Measured toy", "Synthetic toy", "Synthetic − measured"]
    assert len(_tiles(full)) == 4 * 5
    patient = subject_panel(**{**images, "real": None}, tracer=tracer, affine=GRID.affine, title="sub-01")
    titles = [axes.get_title() for axes in _tiles(patient) if axes.get_title()]
    assert titles == ["T1w", "FLAIR", "Synthetic toy"]
    assert "not for clinical use" in _texts(patient)
    alone = subject_panel(**{**images, "flair": None}, tracer=tracer, affine=GRID.affine, title="sub-01")
    assert [axes.get_title() for axes in _tiles(alone)[:2]] == ["T1w", "Measured toy"]


def test_display_window_and_symmetric_difference(images, tracer):
    tiles = _tiles(subject_panel(**images, tracer=tracer, affine=GRID.affine, title="sub-01"))
    real, difference = tiles[2].get_images()[0], tiles[4].get_images()[0]
    assert real.get_clim() == (0.5, 2.5)
    assert difference.get_clim() == (-0.5, 0.5)
    shown = difference.get_array()
    assert np.ma.is_masked(shown)  # outside the brain no difference is shown
    np.testing.assert_allclose(shown.compressed(), 0.25, rtol=1e-5)


def _left_half_is_darker(figure: Figure, path) -> bool:
    """Whether the real PET of the first axial tile is lower on the picture's left, from the pixels."""
    save_figure(figure, path)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("L"), dtype=float)
    box = _tiles(figure)[2].get_position()
    height, width = pixels.shape
    rows = slice(int((1 - box.y1) * height) + 20, int((1 - box.y0) * height) - 20)
    middle = int((box.x0 + box.x1) / 2 * width)
    quarter = int((box.x1 - box.x0) * width / 5)
    return bool(
        pixels[rows, middle - quarter : middle].mean() < pixels[rows, middle : middle + quarter].mean()
    )


@pytest.mark.parametrize(("convention", "marks"), [("neurological", "L R"), ("radiological", "R L")])
def test_convention_is_stated_marked_and_drawn(images, tracer, convention, marks, tmp_path):
    figure = subject_panel(
        **images, tracer=tracer, affine=GRID.affine, title="sub-01", view=PanelView(convention=convention)
    )
    assert f"{convention} convention" in _texts(figure)
    for tile in _tiles(figure)[:5]:
        assert " ".join(text.get_text() for text in tile.texts) == marks
    sagittal = _tiles(figure)[-1]
    assert [text.get_text() for text in sagittal.texts] == ["P", "A"]
    # The patient's left has the lower uptake.
    assert _left_half_is_darker(figure, tmp_path / "p.png") is (convention == "neurological")


def test_slice_shown_is_the_one_named(images, tracer):
    marked = images["real"].copy()
    wanted_mm = -18.0
    index = round((wanted_mm - GRID.affine[1, 3]) / GRID.voxel_size)
    marked[:, index] = 9.0
    view = PanelView(slices=(("coronal", wanted_mm),))
    figure = subject_panel(
        **{**images, "real": marked}, tracer=tracer, affine=GRID.affine, title="t", view=view
    )
    assert (_tiles(figure)[2].get_images()[0].get_array() == 9.0).all()
    true_mm = GRID.affine[1, 3] + index * GRID.voxel_size
    assert f"y = {true_mm:+.0f} mm".replace("-", "−") in _texts(figure)


@pytest.mark.parametrize("missing", [(), ("real",), ("real", "flair")])
def test_no_text_is_cut_or_lies_on_another(images, missing):
    """Also with two columns and the longest name of a reference region."""
    tau = get_tracer("tau")
    given = {name: None if name in missing else image for name, image in images.items()}
    figure = subject_panel(
        **given, tracer=tau, affine=GRID.affine, title=f"sub-01: synthetic {tau.ligand} PET"
    )
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    labels = [text for axes in figure.axes for text in (axes.title, axes.xaxis.label)]
    ticks = [label for axes in figure.axes if not axes.get_images() for label in axes.get_xticklabels()]
    texts = [text for text in [*figure.texts, *labels, *ticks] if text.get_text()]
    boxes = [text.get_window_extent(renderer) for text in texts]
    for number, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0, texts[number]
        assert box.x1 <= figure.bbox.x1, texts[number]
        for other, at in zip(texts[number + 1 :], boxes[number + 1 :], strict=True):
            assert not box.overlaps(at), (texts[number], other)


def test_png_is_reproducible_and_titled(images, tracer, tmp_path):
    paths = [
        save_figure(
            subject_panel(**images, tracer=tracer, affine=GRID.affine, title="sub-01, [11C]Toy"),
            tmp_path / f"{name}.png",
        )
        for name in ("a", "b")
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with Image.open(paths[0]) as image:
        assert image.info["Title"] == "sub-01, [11C]Toy"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_unusable_images_are_refused(images, tracer):
    rest = {"tracer": tracer, "affine": GRID.affine, "title": "t"}
    with pytest.raises(ValueError, match="share one 3-D shape"):
        subject_panel(**{**images, "flair": images["flair"][1:]}, **rest)
    with pytest.raises(ValueError, match="empty"):
        subject_panel(**{**images, "t1w": np.zeros(GRID.shape, np.float32)}, **rest)
    with pytest.raises(ValueError, match="missing"):
        subject_panel(**{**images, "t1w": None, "flair": None}, **rest)
    with pytest.raises(ValueError, match="RAS"):
        subject_panel(**images, **{**rest, "affine": np.diag([-4.0, 4, 4, 1])})


def test_figure_without_title_or_with_another_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no title"):
        alternative_text(Figure())
    with pytest.raises(ValueError, match=r"\.png"):
        save_figure(Figure(), tmp_path / "a.jpg")
    assert not list(tmp_path.iterdir())
