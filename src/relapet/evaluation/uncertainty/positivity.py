"""The probability that a composite lies above its tracer's threshold, made true on the validation participants.

The measured composite lies about that of the mean map as those of the validation participants did, in widths: how far
the samples lie apart times one factor a tracer. It is a conformal predictive distribution (Vovk et al., Mach Learn
108:445, 2019, doi:10.1007/s10994-018-5755-8), true whatever the law of the errors: those of amyloid and tau are far
from symmetric, since what MRI does not show is mostly absent, and large where it is there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

from relapet.errors import InputError
from relapet.evaluation.uncertainty.voi_tables import KEYS, PROBABILITY, read_voi_tables
from relapet.files import read_json
from relapet.imaging.bids import sidecar_path
from relapet.tracers import TracerSpec, load_tracers

Floats = npt.NDArray[np.float64]

THRESHOLD_KEY = "PositivityThreshold"
"""Key of a VOI table's JSON: the SUVr that the probability is for."""

_PRIOR_SAMPLES = 10
"""Samples that the usual spread of a composite is worth beside a person's own: a few that agree are no certainty."""
_LEAST_SHARE = 0.25
"""Of the squared error that is never put down to how few samples were averaged, so that more of them end somewhere."""
_LEAST_SD_SUVR = 1e-6
"""Keeps the probability defined where every validation participant was predicted exactly."""

Error = Annotated[float, Field(allow_inf_nan=False)]
Width = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class PositivityCalibration(BaseModel):
    """What the validation participants say of one tracer's composite."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    errors: tuple[Error, ...] = Field(min_length=1)
    """Measured minus mean map of each participant, in widths, ascending."""
    residual_sd: Width
    """Root mean square of measured minus mean map, SUVr."""
    sample_sd: Width | None = None
    """Root mean square of the SD over samples, SUVr; None where samples do not differ or were not drawn."""
    scale: Width | None = None
    """Error of the mean map, over infinitely many samples where it is their mean, in SDs over samples."""

    @model_validator(mode="after")
    def _has_both(self) -> Self:
        if (self.sample_sd is None) != (self.scale is None):
            raise ValueError("sample_sd and scale belong together")
        if list(self.errors) != sorted(self.errors):
            raise ValueError("errors are not in ascending order")
        return self

    @property
    def n(self) -> int:
        """Participants."""
        return len(self.errors)

    def width(self, sd: float, count: int, averaged: bool) -> float:
        """Scale of the measured composite about the mean map's, SUVr.

        ``sd`` is that over ``count`` samples (NaN for one), SUVr; ``averaged``: whether the map is their mean.
        """
        if self.sample_sd is None or self.scale is None:
            return max(self.residual_sd, _LEAST_SD_SUVR)
        variance = _variance(np.array([sd]), self.sample_sd, count)
        return float(_widths(variance, self.scale, count, averaged)[0])

    def probability(self, mean: float, width: float, threshold: float) -> float:
        """Probability that the measured composite lies above ``threshold``; all in SUVr.

        The i-th of n errors has i / (n + 1) at or below it, between two of them lies a straight line, and beyond the
        outermost a heavy tail, for nobody was seen there.
        """
        error, n = (threshold - mean) / width, self.n
        beyond = max(self.errors[0] - error, error - self.errors[-1])
        if beyond > 0:
            tail = 1 / (1 + beyond) / (n + 1)
            return tail if error > self.errors[-1] else 1 - tail
        return 1 - float(np.interp(error, self.errors, np.arange(1, n + 1) / (n + 1)))


def _variance(sd: Floats, usual: float, count: int) -> Floats:
    """Variance over samples of each composite: its own, drawn towards the usual one where samples are few."""
    if count < 2:
        return np.full(sd.shape, usual**2)
    return (_PRIOR_SAMPLES * usual**2 + (count - 1) * sd**2) / (_PRIOR_SAMPLES + count - 1)


def _widths(variance: Floats, scale: float, count: int, averaged: bool) -> Floats:
    """Of the variance over samples, SUVr squared: the mean of N samples misses that of more by 1 / N of it."""
    widths: Floats = np.maximum(np.sqrt(variance * (scale**2 + averaged / count)), _LEAST_SD_SUVR)
    return widths


def fit_positivity(pairs: pd.DataFrame, count: int, averaged: bool) -> dict[str, PositivityCalibration]:
    """Fit every tracer that has a threshold, by its name, from validation participants.

    ``pairs``: columns of `read_predictions` and real_suvr, with rows of the composites. One visit a participant is
    used, the first, as for intervals. ``count`` and ``averaged`` as in `PositivityCalibration.width`.
    """
    first = pairs.sort_values(["subject", "session"]).drop_duplicates(["subject", "tracer", "voi"])
    found = {}
    for tracer in _with_threshold():
        rows = first[(first["tracer"] == tracer.name) & (first["voi"] == _composite(tracer))]
        if len(rows):
            found[tracer.name] = _fit(rows, count, averaged)
    return found


def _fit(rows: pd.DataFrame, count: int, averaged: bool) -> PositivityCalibration:
    residuals = (rows["real_suvr"] - rows["mean"]).to_numpy(np.float64)
    residual_sd = math.sqrt(np.square(residuals).mean())
    sd = rows["sd"].to_numpy(np.float64)
    if count < 2 or np.isnan(sd).any() or not (sd > 0).any():
        errors = np.sort(residuals / max(residual_sd, _LEAST_SD_SUVR))
        return PositivityCalibration(errors=tuple(errors.tolist()), residual_sd=residual_sd)
    usual = math.sqrt(np.square(sd).mean())
    variance = _variance(sd, usual, count)
    ratio = float(np.mean(np.square(residuals) / variance))
    scale = math.sqrt(max(ratio - averaged / count, _LEAST_SHARE * ratio))
    errors = np.sort(residuals / _widths(variance, scale, count, averaged))
    return PositivityCalibration(
        errors=tuple(errors.tolist()), residual_sd=residual_sd, sample_sd=usual, scale=scale
    )


def _with_threshold() -> Iterable[TracerSpec]:
    return (tracer for tracer in load_tracers().values() if tracer.positivity is not None)


def _composite(tracer: TracerSpec) -> str:
    assert tracer.positivity is not None
    return tracer.positivity.composite


def read_probabilities(root: Path) -> pd.DataFrame | None:
    """The probabilities of a tree's VOI tables: subject, session, tracer, probability_positive; None without any.

    Raises InputError for a table with the column that gives no probability in the row of the composite, or whose JSON
    names another threshold than the tracer's.
    """
    parts = []
    tracers = load_tracers()
    for path, frame in read_voi_tables(root, "synth").items():
        if PROBABILITY not in frame:
            continue
        tracer = tracers[str(frame["tracer"].iloc[0])] if len(frame) else None
        rule = None if tracer is None else tracer.positivity
        rows = frame[frame["voi"] == rule.composite] if rule is not None else frame[:0]
        if rule is None or not rows[PROBABILITY].between(0, 1).all() or rows.empty:
            what = "a composite with a threshold" if rule is None else rule.composite
            raise InputError(
                f"The column {PROBABILITY} of {path} gives {what} no number from 0 to 1; synthesize it anew."
            )
        threshold = read_json(sidecar_path(path)).get(THRESHOLD_KEY)
        if threshold != rule.threshold:
            raise InputError(
                f"{sidecar_path(path)} gives {THRESHOLD_KEY} {threshold}, but that of {frame['tracer'].iloc[0]} is "
                f"{rule.threshold:g} SUVr; synthesize it anew."
            )
        parts.append(rows[[*KEYS[:3], PROBABILITY]])
    return pd.concat(parts, ignore_index=True) if parts else None
