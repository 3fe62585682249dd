"""Pictures of single subjects from the trees on disk; best, median and worst are chosen by a metric."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from relapet.errors import InputError, VolumeError
from relapet.evaluation.scores.image_metrics import METRICS
from relapet.imaging.bids import Visit, find_visits
from relapet.imaging.nifti import load_volume
from relapet.report.panels import PanelView, subject_panel
from relapet.report.style import save_figure
from relapet.tracers import TracerSpec


def choose_subjects(
    image_metrics: pd.DataFrame, tracer: TracerSpec, method: str, metric: str
) -> dict[str, tuple[Visit, float]]:
    """The visits with the best, median (the lower of two) and worst value of a metric, with that value.

    Ties go to the first by label. Raises ValueError where the method has no value of the metric.
    """
    rows = image_metrics[(image_metrics["tracer"] == tracer.name) & (image_metrics["method"] == method)]
    rows = rows.dropna(subset=[metric]).sort_values(["subject", "session"])
    if rows.empty:
        raise ValueError(f"image_metrics.tsv has no {metric} of {tracer.name} by {method}.")
    goodness = METRICS[metric].goodness(rows[metric].to_numpy(np.float64))
    order = np.argsort(-goodness, kind="stable")
    places = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    return {name: _visit_and_value(rows.iloc[place], metric) for name, place in places.items()}


def _visit_and_value(row: pd.Series, metric: str) -> tuple[Visit, float]:
    session = str(row["session"]) if isinstance(row["session"], str) else "n/a"
    labelled = session.removeprefix("ses-") if session.startswith("ses-") else None
    return Visit(str(row["subject"]).removeprefix("sub-"), labelled), float(row[metric])


def draw_subject(real: Path, synthetic: Path, subject: str, tracer: TracerSpec, folder: Path) -> Path:
    """Save the panel of a subject's first visit in ``folder``; returns the PNG's path.

    Raises InputError for an unknown subject, VolumeError as `panel_of_visit` does.
    """
    visits = [visit for visit in find_visits(synthetic) if visit.subject == subject]
    if not visits:
        raise InputError(f"{synthetic} has no subject {subject}; check the label.")
    visit = visits[0]
    shown = "measured and synthetic" if visit.pet(real, tracer).is_file() else "synthetic"
    figure = panel_of_visit(real, synthetic, visit, tracer, f"{visit.stem}: {shown} {tracer.name} PET")
    return save_figure(figure, folder / f"{visit.stem}_trc-{tracer.label}_desc-synth.png")


def panel_of_visit(
    real: Path, synthetic: Path, visit: Visit, tracer: TracerSpec, title: str, view: PanelView | None = None
) -> Figure:
    """`subject_panel` of a visit from a measured and a synthetic derivative tree.

    Measured PET, and one of T1w and FLAIR, are left out where ``real`` has none. Raises VolumeError for
    images that are unreadable or on different grids, and where ``real`` has neither MRI.
    """
    path = visit.pet(synthetic, tracer, "synth")
    # A tree of another tool's, with plain names, is scored too.
    made = load_volume(path if path.is_file() else visit.pet(synthetic, tracer))
    paths = {"T1w": visit.t1w(real), "FLAIR": visit.flair(real), "measured PET": visit.pet(real, tracer)}
    images = {name: load_volume(path) for name, path in paths.items() if path.is_file()}
    if not {"T1w", "FLAIR"} & images.keys():
        raise VolumeError(
            f"{visit.folder(real, 'anat')} has neither T1w nor FLAIR; give the model-ready tree."
        )
    for name, image in images.items():
        if image.shape != made.shape or not np.allclose(image.affine, made.affine, atol=1e-2):
            raise VolumeError(
                f"The {name} of {visit.stem} is on another grid than its synthetic PET; resample it."
            )
    arrays = {name: np.asarray(image.dataobj, dtype=np.float32) for name, image in images.items()}
    return subject_panel(
        arrays.get("T1w"),
        arrays.get("FLAIR"),
        arrays.get("measured PET"),
        np.asarray(made.dataobj, dtype=np.float32),
        tracer,
        made.affine,
        title,
        view,
    )
