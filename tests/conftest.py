"""Small model-ready data sets on the 4 mm grid, shared by the tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from relapet.cohort.bids import Visit, write_dataset_description
from relapet.cohort.grid import GRIDS
from relapet.cohort.nifti import save_volume
from relapet.cohort.template import load_template
from relapet.tracers import load_tracers


def write_toy_derivative(root: Path, subjects: int, seed: int = 0) -> Path:
    """Write T1w, FLAIR, mask and every tracer for some subjects: the template with a subject's own contrast.

    The PET's level follows the FLAIR's, so that there is something to learn.
    """
    grid = GRIDS["4mm"]
    template = load_template(grid)
    for number in range(1, subjects + 1):
        rng = np.random.default_rng((seed, number))
        visit, level = Visit(f"{number:02d}"), rng.uniform(0.8, 1.2)
        noise = rng.normal(0, 0.02, (2, *grid.shape))
        t1w = (0.5 * template.grey + 0.9 * template.white + 0.1 * template.csf + noise[0]) * template.brain
        flair = (
            level * template.grey + 0.6 * template.white + 0.1 * template.csf + noise[1]
        ) * template.brain
        save_volume(visit.t1w(root), 700 * np.maximum(t1w, 0), grid.affine)
        save_volume(visit.flair(root), 300 * np.maximum(flair, 0), grid.affine)
        save_volume(visit.mask(root), template.brain, grid.affine, dtype=np.uint8)
        for tracer in load_tracers().values():
            suvr = level * template.grey + 0.8 * template.white + rng.normal(0, 0.02, grid.shape)
            save_volume(visit.pet(root, tracer), np.maximum(suvr, 0), grid.affine)
    write_dataset_description(root, "toy", [])
    return root


@pytest.fixture(scope="session")
def toy_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight subjects; read only."""
    return write_toy_derivative(tmp_path_factory.mktemp("toy"), 8)


@pytest.fixture
def toy(toy_source: Path, tmp_path: Path) -> Path:
    """A copy of `toy_source` that a test may damage."""
    return Path(shutil.copytree(toy_source, tmp_path / "toy"))
