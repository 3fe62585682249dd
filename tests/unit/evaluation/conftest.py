"""Small synthetic trees: real, truth and synthetic volumes made of the template plus subject factors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from relapet.imaging.bids import Visit, training_mean_path, write_dataset_description
from relapet.imaging.grid import GRIDS, Grid
from relapet.imaging.nifti import save_volume
from relapet.imaging.template import load_atlas, load_template
from relapet.tracers import get_tracer
from relapet.types import Volume

GRID = GRIDS["4mm"]
Maps = Callable[[Visit, str], Volume | None]


@dataclass(frozen=True)
class Cohort:
    """A measured tree and the noise-free and visible parts that it was made of."""

    root: Path
    grid: Grid
    visits: list[Visit]
    tracers: list[str]

    def visible(self, visit: Visit, tracer: str) -> Volume:
        """What a perfect method would give."""
        return _compose(self.grid, tracer, _rng(visit, tracer, "visible"), np.zeros(36))

    def noise_free(self, visit: Visit, tracer: str) -> Volume:
        """Visible part plus what MRI cannot show, a factor per cortical label pair."""
        hidden = _rng(visit, tracer, "hidden").normal(0, 0.15, 36)
        return _compose(self.grid, tracer, _rng(visit, tracer, "visible"), hidden)

    def measured(self, visit: Visit, tracer: str) -> Volume:
        """Noise-free part plus noise."""
        noise = _rng(visit, tracer, "noise").normal(0, 0.05, self.grid.shape)
        return (self.noise_free(visit, tracer) + noise).astype(np.float32)

    def halfway(self, visit: Visit, tracer: str) -> Volume:
        """Half of what can be seen, half a brain that is the same for everyone: an imperfect method."""
        common = self.visible(self.visits[0], tracer)
        return (0.5 * self.visible(visit, tracer) + 0.5 * common).astype(np.float32)


def _rng(visit: Visit, tracer: str, part: str) -> np.random.Generator:
    text = f"{visit.stem}{tracer}{part}"
    return np.random.default_rng(list(text.encode()))


def _compose(grid: Grid, tracer: str, rng: np.random.Generator, hidden: np.ndarray) -> Volume:
    template, labels = load_template(grid), load_atlas(grid).labels
    factors = rng.normal(0, 0.15, 36) + hidden
    volume = 0.9 * template.brain + 0.4 * template.grey
    cortex = labels >= 1000
    volume[cortex] += factors[labels[cortex] % 1000]
    return (volume * (1.2 if tracer == "tau" else 1.0)).astype(np.float32)


class Trees:
    """Writes cohorts and synthetic trees below a folder."""

    def cohort(
        self,
        root: Path,
        subjects: int,
        tracers: tuple[str, ...] = ("tau", "pib"),
        sessions: tuple[str | None, ...] = (None,),
        truth: bool = True,
    ) -> Cohort:
        """A measured tree, with truth/ where asked for."""
        visits = [Visit(f"{i:02d}", session) for i in range(1, subjects + 1) for session in sessions]
        cohort = Cohort(root, GRID, visits, list(tracers))
        parts = {"": cohort.measured}
        if truth:
            parts |= {"noisefree": cohort.noise_free, "visible": cohort.visible}
        for desc, make in parts.items():
            for visit, tracer in product(visits, tracers):
                path = visit.pet(root / "truth" if desc else root, get_tracer(tracer), desc or None)
                save_volume(path, make(visit, tracer), GRID.affine)
        return cohort

    def synthetic(
        self,
        root: Path,
        cohort: Cohort,
        maps: Maps,
        method: str | None = None,
        checksums: list[str] | None = None,
        **model: object,
    ) -> Path:
        """A synthetic tree of what ``maps(visit, tracer)`` gives (None leaves the map out); ``model`` describes it."""
        for visit, tracer in product(cohort.visits, cohort.tracers):
            volume = maps(visit, tracer)
            if volume is not None:
                save_volume(visit.pet(root, get_tracer(tracer), "synth"), volume, cohort.grid.affine)
        if checksums is not None:
            model["TrainingChecksums"] = checksums
        if method:
            write_dataset_description(root, "test", [], RelapetModel={"Method": method, **model})
        return root

    def training_means(self, root: Path, cohort: Cohort) -> None:
        """The mean of the measured maps as the training mean of each tracer."""
        for tracer in cohort.tracers:
            mean = np.mean([cohort.measured(visit, tracer) for visit in cohort.visits], axis=0)
            save_volume(training_mean_path(root, get_tracer(tracer)), mean, cohort.grid.affine)


@pytest.fixture(scope="session")
def trees() -> Trees:
    return Trees()


@pytest.fixture(scope="session")
def cohort(trees: Trees, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return trees.cohort(tmp_path_factory.mktemp("real"), 12)


@pytest.fixture
def small(trees: Trees, tmp_path: Path) -> tuple[Cohort, Path]:
    """Four subjects without truth, and the tree of a perfect method."""
    measured = trees.cohort(tmp_path / "real", 4, ("tau", "pib"), truth=False)
    return measured, trees.synthetic(tmp_path / "s", measured, measured.visible, "rela", [])
