"""How far a run's samples are apart, made true on its validation participants by one factor a tracer.

What training and the noise's shape leave is a little too sure or too unsure. The factor by which samples lie about the
mean map is chosen so that the variance of regional means over samples equals their squared error.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import pandas as pd

from relapet.evaluation.uncertainty.conformal import read_predictions
from relapet.evaluation.uncertainty.voi_tables import measure_vois, pair_with_real
from relapet.imaging.derivatives import index_measured
from relapet.messages import Messages
from relapet.runs import RunFolder
from relapet.settings import changed
from relapet.synthesis.synthesize import Request, synthesize_dataset
from relapet.synthesis.synthesizer import Synthesizer

SAMPLES = 8
"""Samples a volume that the factor is fitted from, at least."""
_RANGE = (0.5, 2.0)
"""Of the factor: farther off the model itself is wrong."""


def fit_spread(run: RunFolder, derivatives: Path, messages: Messages) -> dict[str, float]:
    """Fit the factors, write them into the run folder and return them by tracer.

    Nothing is written for a method whose samples do not differ or that gives no mean map to put them about, for a run
    without validation participants, and for one whose output is no SUVr. Raises InputError as synthesis does.
    """
    run.spread.unlink(missing_ok=True)
    synthesizer = Synthesizer.from_run(run.path)
    people = synthesizer.manifest.split.get("validation", [])
    if not people or not synthesizer.gives_mean or synthesizer.caution is not None:
        return {}
    index = [files for files in index_measured(derivatives) if files.visit.subject in people]
    tracers = tuple(synthesizer.tracer(name) for name in synthesizer.manifest.tracers)
    sample = changed(synthesizer.sample, {"count": max(SAMPLES, synthesizer.sample.count)})
    with tempfile.TemporaryDirectory(prefix=".tmp-spread-", dir=run.path) as folder:
        outcome = synthesize_dataset(
            derivatives, Path(folder), synthesizer, Request(tracers, sample, tuple(people)), messages
        )
        if not outcome.done:
            return {}
        predicted = read_predictions(Path(folder))
    pairs = pair_with_real(predicted, measure_vois(index, synthesizer.grid, messages.warn))
    spread = spread_of(pairs)
    run.write_spread(spread)
    return spread


def spread_of(pairs: pd.DataFrame) -> dict[str, float]:
    """The factor of each tracer from rows (tracer, voi, mean, sd, real_suvr), a row a participant and VOI.

    The root of the mean over VOIs of squared error over variance, each a mean over participants. The mean map is not
    that of the samples, so that their number does not enter.
    """
    squares = pairs.assign(error=(pairs["real_suvr"] - pairs["mean"]) ** 2, variance=pairs["sd"] ** 2)
    means = squares.groupby(["tracer", "voi"])[["error", "variance"]].mean()
    ratio = (means["error"] / means["variance"]).groupby("tracer").mean()
    low, high = _RANGE
    return {str(tracer): min(high, max(low, math.sqrt(value))) for tracer, value in ratio.items()}
