from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from relapet.errors import InputError, VolumeError
from relapet.imaging.bids import Visit
from relapet.imaging.grid import GRIDS
from relapet.imaging.nifti import save_volume
from relapet.imaging.template import load_template
from relapet.report.subjects import draw_subject, panel_of_visit
from relapet.tracers import get_tracer

TAU = get_tracer("tau")


def panel_titles(figure: Figure) -> list[str]:
    return [ax.get_title() for ax in figure.axes if ax.get_title()]


def test_subject_drawn_from_its_trees(tmp_path: Path):
    grid, visit = GRIDS["4mm"], Visit("01")
    brain = load_template(grid).brain.astype(np.float32)
    for path in (visit.t1w(tmp_path), visit.flair(tmp_path), visit.pet(tmp_path, TAU, "synth")):
        save_volume(path, brain, grid.affine)
    path = draw_subject(tmp_path, tmp_path, "01", TAU, tmp_path / "figures")
    assert path == tmp_path / "figures" / "sub-01_trc-AV1451_desc-synth.png"
    with Image.open(path) as image:
        assert image.info["Title"] == "sub-01: synthetic tau PET"
    with pytest.raises(InputError, match="no subject 02"):
        draw_subject(tmp_path, tmp_path, "02", TAU, tmp_path)


def test_panel_from_files(tmp_path: Path):
    grid, visit = GRIDS["4mm"], Visit("01")
    brain = load_template(grid).brain.astype(np.float32)
    for path in (visit.t1w(tmp_path), visit.flair(tmp_path)):
        save_volume(path, 100 * brain, grid.affine)
    save_volume(visit.pet(tmp_path, TAU, "synth"), 1.5 * brain, grid.affine)
    figure = panel_of_visit(tmp_path, tmp_path, visit, TAU, "sub-01")
    assert "Measured tau" not in panel_titles(figure)
    save_volume(visit.pet(tmp_path, TAU), brain, grid.affine)
    figure = panel_of_visit(tmp_path, tmp_path, visit, TAU, "sub-01")
    assert panel_titles(figure)[2:4] == ["Measured tau", "Synthetic tau"]
    visit.t1w(tmp_path).unlink()
    assert panel_titles(panel_of_visit(tmp_path, tmp_path, visit, TAU, "sub-01"))[0] == "FLAIR"
    save_volume(visit.flair(tmp_path), brain[1:], grid.affine)
    with pytest.raises(VolumeError, match="FLAIR of sub-01 is on another grid"):
        panel_of_visit(tmp_path, tmp_path, visit, TAU, "sub-01")
    visit.flair(tmp_path).unlink()
    with pytest.raises(VolumeError, match="neither T1w nor FLAIR"):
        panel_of_visit(tmp_path, tmp_path, visit, TAU, "sub-01")
