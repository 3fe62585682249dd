"""A visit's synthetic PET beside its measured one, both on the model's grid: what a model is judged by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relapet.imaging.bids import VisitFiles
from relapet.imaging.measured import load_measured
from relapet.imaging.nifti import load_volume
from relapet.imaging.template_space import ReadyImages, bring_to_grid
from relapet.synthesis.sample_config import SampleConfig
from relapet.synthesis.synthesizer import Synthesis, Synthesizer
from relapet.types import Volume


@dataclass(frozen=True)
class Beside:
    """One visit; both mappings are by tracer, of those that it has and the model knows."""

    ready: ReadyImages
    made: dict[str, Synthesis]
    measured: dict[str, Volume]
    """SUVr, ``(X, Y, Z)``."""


def synthesize_beside(files: VisitFiles, synthesizer: Synthesizer, sample: SampleConfig) -> Beside:
    """Synthesize every measured tracer of a visit; raises SubjectError for an image that cannot be used."""
    paths = (files.t1w, files.flair, files.mask)
    t1w, flair, mask = (None if path is None else load_volume(path) for path in paths)
    ready = bring_to_grid(t1w, flair, mask, synthesizer.grid, files.visit.stem)
    tracers = [synthesizer.tracer(name) for name in synthesizer.manifest.tracers if name in files.pet]
    made = synthesizer.synthesize(ready, tracers, sample, files.visit.stem)
    images = {t.name: load_measured(files.pet[t.name], t, synthesizer.grid) for t in tracers}
    measured = {name: np.asarray(image.dataobj, dtype=np.float32) for name, image in images.items()}
    return Beside(ready, made, measured)
