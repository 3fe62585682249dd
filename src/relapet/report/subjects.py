"""Pictures of single subjects from the trees on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from relapet.cohort.bids import Visit, find_visits
from relapet.cohort.nifti import load_volume
from relapet.errors import InputError
from relapet.report.panels import subject_panel
from relapet.report.style import save_figure
from relapet.tracers import TracerSpec
from relapet.types import Volume


def draw_subject(real: Path, synthetic: Path, subject: str, tracer: TracerSpec, folder: Path) -> Path:
    """Draw T1w, FLAIR, measured and synthetic PET and their difference of a subject's first visit.

    Where there is no measured PET its column and the difference are left out. Raises InputError for an
    unknown subject, VolumeError for unreadable files.
    """
    visits = [visit for visit in find_visits(synthetic) if visit.subject == subject]
    if not visits:
        raise InputError(f"{synthetic} has no subject {subject}; check the label.")
    visit = visits[0]
    image = load_volume(visit.pet(synthetic, tracer, "synth"))
    measured = visit.pet(real, tracer)
    figure = subject_panel(
        _data(visit.t1w(real)),
        _data(visit.flair(real)),
        _data(measured) if measured.is_file() else None,
        np.asarray(image.dataobj, dtype=np.float32),
        tracer,
        image.affine,
        _title(visit, tracer, measured.is_file()),
    )
    return save_figure(figure, folder / f"{visit.stem}_trc-{tracer.label}_desc-synth.png")


def _title(visit: Visit, tracer: TracerSpec, compared: bool) -> str:
    return f"{visit.stem}: {'measured and synthetic' if compared else 'synthetic'} {tracer.ligand} PET"


def _data(path: Path) -> Volume:
    return np.asarray(load_volume(path).dataobj, dtype=np.float32)
