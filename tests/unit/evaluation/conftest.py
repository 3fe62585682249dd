"""Small synthetic trees: real, truth and synthetic volumes made of the template plus subject factors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from relapet.cohort.bids import Visit, write_dataset_description
from relapet.cohort.grid import GRIDS, SPACE, Grid
from relapet.cohort.nifti import save_volume
from relapet.cohort.template import load_atlas, load_template
from relapet.files import sha256
from relapet.tracers import get_tracer
from relapet.types import Volume

GRID = GRIDS["4mm"]


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


def write_synthetic(
    root: Path, cohort: Cohort, maps, method: str | None, checksums: list[str] | None = None
) -> Path:
    """Write a synthetic tree; ``maps(visit, tracer)`` gives a volume or None."""
    for visit in cohort.visits:
        for tracer in cohort.tracers:
            volume = maps(visit, tracer)
            if volume is not None:
                save_volume(visit.pet(root, get_tracer(tracer), "synth"), volume, cohort.grid.affine)
    model = {} if checksums is None else {"TrainingChecksums": checksums}
    if method:
        write_dataset_description(root, "test", [], RelapetModel={"Method": method, **model})
    return root


def write_training_means(root: Path, cohort: Cohort) -> None:
    """Write the mean of the measured maps as the training mean of each tracer."""
    for tracer in cohort.tracers:
        mean = np.mean([cohort.measured(visit, tracer) for visit in cohort.visits], axis=0)
        label = get_tracer(tracer).label
        name = f"tpl-{SPACE}_trc-{label}_meas-SUVR_desc-trainingmean_mimap.nii.gz"
        save_volume(root / f"tpl-{SPACE}" / "pet" / name, mean, cohort.grid.affine)


def build_cohort(
    root: Path, subjects: int, tracers: list[str], sessions: tuple[str | None, ...] = (None,), truth=True
) -> Cohort:
    visits = [Visit(f"{i:02d}", session) for i in range(1, subjects + 1) for session in sessions]
    cohort = Cohort(root, GRID, visits, tracers)
    for visit in visits:
        for tracer in tracers:
            spec = get_tracer(tracer)
            save_volume(visit.pet(root, spec), cohort.measured(visit, tracer), GRID.affine)
            if truth:
                maps = {"noisefree": cohort.noise_free, "visible": cohort.visible}
                for desc, make in maps.items():
                    save_volume(visit.pet(root / "truth", spec, desc), make(visit, tracer), GRID.affine)
    return cohort


def checksums_of(cohort: Cohort) -> list[str]:
    return [sha256(v.pet(cohort.root, get_tracer(t))) for v in cohort.visits for t in cohort.tracers]


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return build_cohort(tmp_path_factory.mktemp("real"), 12, ["tau", "pib"])
