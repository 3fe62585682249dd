"""Which subjects a report shows, and their panels from files: best, median and worst, never hand-picked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from relapet.cohort.bids import Visit
from relapet.cohort.nifti import load_volume
from relapet.errors import VolumeError
from relapet.evaluation.image_metrics import METRICS
from relapet.report.panels import PanelView, subject_panel
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


def panel_of_visit(
    real: Path, synthetic: Path, visit: Visit, tracer: TracerSpec, title: str, view: PanelView | None = None
) -> Figure:
    """`subject_panel` of a visit from a measured and a synthetic derivative tree.

    The measured PET is left out where ``real`` has none. Raises VolumeError for images that are missing,
    unreadable or on different grids.
    """
    t1w, flair = load_volume(visit.t1w(real)), load_volume(visit.flair(real))
    made = load_volume(visit.pet(synthetic, tracer, "synth"))
    images = {"T1w": t1w, "FLAIR": flair, "synthetic PET": made}
    measured_path = visit.pet(real, tracer)
    measured = load_volume(measured_path) if measured_path.is_file() else None
    if measured is not None:
        images["measured PET"] = measured
    for name, image in images.items():
        if image.shape != t1w.shape or not np.allclose(image.affine, t1w.affine, atol=1e-2):
            raise VolumeError(f"The {name} of {visit.stem} is on another grid than its T1w; resample it.")
    arrays = {name: np.asarray(image.dataobj, dtype=np.float32) for name, image in images.items()}
    return subject_panel(
        arrays["T1w"],
        arrays["FLAIR"],
        arrays.get("measured PET"),
        arrays["synthetic PET"],
        tracer,
        t1w.affine,
        title,
        view,
    )
