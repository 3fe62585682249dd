"""Small model-ready data sets on the 8 mm grid, and a tiny trained run, shared by the tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import TINY, TINY_SETTINGS, write_toy_derivative


@pytest.fixture(autouse=True)
def _own_temporary_folder() -> Iterator[None]:
    """A command's --work-dir holds for its process, which tests share: what it sets goes with the test."""
    variable, folder = os.environ.get("TMPDIR"), tempfile.tempdir
    yield
    tempfile.tempdir = folder
    if variable is None:
        os.environ.pop("TMPDIR", None)
    else:
        os.environ["TMPDIR"] = variable


@pytest.fixture(scope="session")
def toy_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight subjects; read only."""
    return write_toy_derivative(tmp_path_factory.mktemp("toy"), 8)


@pytest.fixture
def toy(toy_source: Path, tmp_path: Path) -> Path:
    """A copy of `toy_source` that a test may damage."""
    return Path(shutil.copytree(toy_source, tmp_path / "toy"))


@pytest.fixture(scope="session")
def tiny_run(toy_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder after two steps; read only."""
    from relapet.api import train
    from relapet.config import load_config

    config = load_config(file=TINY, settings=(*TINY_SETTINGS, "train.steps=2"))
    return train(config, toy_source, tmp_path_factory.mktemp("tiny") / "run").path


@pytest.fixture(scope="session")
def synthetic(toy_source: Path, tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Maps of two participants whom the model was not trained on, with samples and intervals; read only."""
    from relapet import api
    from relapet.runs import RunFolder

    out = tmp_path_factory.mktemp("synthetic") / "maps"
    held_out = RunFolder(tiny_run).read_manifest().split["test"]
    assert not api.synthesize(toy_source, out, tiny_run, ["tau"], held_out).failed
    return out


@pytest.fixture(scope="session")
def as_scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One subject as a scanner delivers it, written by the command line; read only."""
    from relapet.cli import main

    raw = tmp_path_factory.mktemp("as-scanned") / "raw"
    arguments = ["simulate", str(raw), "--subjects", "1", "--as-scanned", "--seed", "4"]
    assert main([*arguments, "--n-procs", "1", "--quiet"]) == 0
    return raw


@pytest.fixture(scope="session")
def flat_layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published release's layout: a folder whose files can be used, and one whose T1 is no image."""
    import nibabel as nib
    import numpy as np

    from relapet.imaging.grid import GRIDS
    from relapet.imaging.template import load_template

    template = load_template(GRIDS["3mm"])
    brain = nib.Nifti1Image(np.where(template.brain, template.t1, 0), GRIDS["3mm"].affine)
    root = tmp_path_factory.mktemp("flat")
    for name in ("A1", "A2"):
        (root / name).mkdir()
        for suffix in ("T1", "T2", "TAU"):
            nib.save(brain, root / name / f"{name}_{suffix}.nii")
    (root / "A2" / "A2_T1.nii").write_bytes(b"no image")
    return root
