"""Small model-ready data sets on the 4 mm grid, and a tiny trained run, shared by the tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from support import TINY_SETTINGS, write_toy_derivative


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

    config = load_config("demo", settings=(*TINY_SETTINGS, "train.steps=2"))
    return train(config, toy_source, tmp_path_factory.mktemp("tiny") / "run").path
