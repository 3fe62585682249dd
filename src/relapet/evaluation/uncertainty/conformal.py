"""Split-conformal intervals of regional SUVr: calibrated on validation subjects, valid whatever the model.

For a new subject exchangeable with the n calibration subjects, the interval holds the measured value with
probability at least ``level`` (Vovk et al., Algorithmic Learning in a Random World, 2005; Lei et al., J Am
Stat Assoc 113:1094, 2018, doi:10.1080/01621459.2017.1307116). It promises nothing for another site or
scanner, and nothing for one given subject: the probability is over subjects.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from relapet.errors import InputError
from relapet.evaluation.uncertainty.coverage import UncertaintyConfig, coverage_table
from relapet.evaluation.uncertainty.positivity import PositivityCalibration
from relapet.evaluation.uncertainty.voi_tables import KEYS, pair_with_real, read_voi_tables
from relapet.files import read_json, write_json

Floats = npt.NDArray[np.float64]

CONFORMAL = "conformal"
"""Name, in the column interval, of calibrated intervals."""
LEVEL_KEY = "IntervalLevel"
"""Key of a VOI table's JSON: the probability with which low and high hold the measured value."""

_ANEW = "calibrate anew: relapet train DERIVATIVES RUN --resume does so as it ends; or delete the file to go without"

# Added to the samples' SD before it scales a residual: samples that agree by chance are no certainty. A
# constant, not an estimate, so that the scores stay exchangeable.
_SD_OFFSET_SUVR = 0.01


HalfWidth = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class VoiCalibration(BaseModel):
    """One tracer's VOI: how many subjects calibrated it, and by level the half-width of the interval."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int = Field(ge=0)
    half_width: dict[str, HalfWidth | None]
    """Level, as text, to SUVr (where scaled: multiples of SD + 0.01 SUVr); None where n is too small."""


class Calibration(BaseModel):
    """Half-widths by tracer and VOI, the width of composites, and which model's residuals they come from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scaled: bool
    """Whether residuals are scaled by the SD over samples."""
    levels: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(min_length=1)
    weights_sha256: str = ""
    sampling: dict[str, str | int] = Field(default_factory=dict)
    """Settings of the sampler that the residuals come from; intervals hold for synthesis with the same alone."""
    vois: dict[str, dict[str, VoiCalibration]]
    single: dict[str, dict[str, VoiCalibration]] = Field(default_factory=dict)
    """The same of one sample, where ``vois`` are of a mean over several; empty where that makes no difference."""
    positivity: dict[str, PositivityCalibration] = Field(default_factory=dict)
    """Of every tracer with a threshold; it holds for any number of samples."""

    @model_validator(mode="after")
    def _has_every_level(self) -> Self:
        wanted = {_key(level) for level in self.levels}
        for tracer, vois in (*self.vois.items(), *self.single.items()):
            for name, voi in vois.items():
                if set(voi.half_width) != wanted:
                    raise ValueError(f"{tracer} {name} has not one half_width for each of the levels")
        return self

    def of_one_sample(self) -> Calibration:
        """The calibration of a single sample: intervals that are wide enough for a mean over any number."""
        return self.model_copy(update={"vois": self.single, "sampling": self.sampling | {"count": 1}})

    def best_level(self) -> float | None:
        """The highest level at which every interval has ends; None where there is none."""
        bounded = [
            level
            for level in self.levels
            if all(
                v.half_width[_key(level)] is not None for vois in self.vois.values() for v in vois.values()
            )
        ]
        return max(bounded, default=None)


def _key(level: float) -> str:
    return f"{level:g}"


def _rank(n: int, level: float) -> int:
    """Rank of the score that bounds the interval, ceil((n + 1) level), guarded against rounding."""
    return math.ceil((n + 1) * level - 1e-9)


def conformal_quantile(scores: Floats, level: float) -> float:
    """The ceil((n + 1) level)-th smallest of n scores; infinite where that exceeds n."""
    rank = _rank(scores.size, level)
    return math.inf if rank > scores.size else float(np.sort(scores)[rank - 1])


def read_predictions(root: Path) -> pd.DataFrame:
    """The VOI tables of a synthetic tree as subject, session, tracer, voi, mean, sd (NaN with one sample).

    Raises InputError where there is none or where one has no column mean.
    """
    tables = read_voi_tables(root, "synth")
    if not tables:
        raise InputError(f"{root} holds no *_seg-DK_desc-synth_suvr.tsv; synthesize it anew.")
    for path, frame in tables.items():
        if "mean" not in frame:
            raise InputError(f"{path} lacks the column mean; synthesize it anew.")
    joined = pd.concat(tables.values(), ignore_index=True)
    return joined.reindex(columns=[*KEYS, "mean", "sd"])


def calibrate(
    pairs: pd.DataFrame,
    config: UncertaintyConfig,
    weights_sha256: str = "",
    sampling: Mapping[str, str | int] | None = None,
) -> Calibration:
    """Half-widths of intervals from validation subjects: columns of `read_predictions` and real_suvr.

    Residuals are scaled by the samples' SD where every row has one. One visit a subject is used, the first,
    because visits of one subject are not exchangeable with another's.
    """
    first = pairs.sort_values("session").drop_duplicates(["subject", "tracer", "voi"])
    scaled = bool(first["sd"].notna().all() and (first["sd"] > 0).any())
    score = (first["real_suvr"] - first["mean"]).abs() / _scale(first, scaled)
    vois: dict[str, dict[str, VoiCalibration]] = {}
    for (tracer, voi), scores in score.groupby([first["tracer"], first["voi"]], sort=False):
        values = scores.dropna().to_numpy(np.float64)
        ends = {_key(level): conformal_quantile(values, level) for level in config.levels}
        half_width = {key: end if math.isfinite(end) else None for key, end in ends.items()}
        vois.setdefault(str(tracer), {})[str(voi)] = VoiCalibration(n=values.size, half_width=half_width)
    return Calibration(
        scaled=scaled,
        levels=config.levels,
        weights_sha256=weights_sha256,
        sampling=dict(sampling or {}),
        vois=vois,
    )


def _scale(table: pd.DataFrame, scaled: bool) -> Floats:
    if not scaled:
        return np.ones(len(table))
    return table["sd"].to_numpy(np.float64) + _SD_OFFSET_SUVR


def add_intervals(calibration: Calibration, table: pd.DataFrame, level: float) -> pd.DataFrame:
    """The table (tracer, voi, mean, sd, ...) with columns low and high, SUVr, at one calibrated level.

    Unbounded ends are infinite; a VOI that was never calibrated has none (NaN). Raises InputError for a
    level or tracer without calibration and for a missing SD where residuals were scaled.
    """
    if level not in calibration.levels:
        known = ", ".join(_key(known) for known in calibration.levels)
        raise InputError(f"The calibration has no level {level:g}; it has {known}.")
    unknown = sorted(set(table["tracer"]) - set(calibration.vois))
    if unknown:
        raise InputError(f"The calibration has no tracer {unknown[0]}; calibrate on subjects who have it.")
    if calibration.scaled and table["sd"].isna().any():
        raise InputError(
            "The calibration is scaled by the SD over samples; synthesize with --samples 2 or more."
        )
    half = [
        _half_width(calibration, str(t), str(v), level)
        for t, v in zip(table["tracer"], table["voi"], strict=True)
    ]
    width = np.array(half) * _scale(table, calibration.scaled)
    return table.assign(low=table["mean"] - width, high=table["mean"] + width)


def _half_width(calibration: Calibration, tracer: str, voi: str, level: float) -> float:
    entry = calibration.vois[tracer].get(voi)
    if entry is None:
        return math.nan
    end = entry.half_width[_key(level)]
    return math.inf if end is None else end


def interval_coverage(pairs: pd.DataFrame, config: UncertaintyConfig) -> pd.DataFrame:
    """`coverage_table` of intervals: columns of `KEYS`, level, low, high and real_suvr."""
    known = pairs.dropna(subset=["low", "high"])
    covered = (known["low"] <= known["real_suvr"]) & (known["real_suvr"] <= known["high"])
    width = known["high"] - known["low"]
    rows = known[[*KEYS, "level"]].assign(covered=covered.astype(float), width=width)
    return coverage_table(rows, config)


def judge_intervals(
    trees: Mapping[str, Path], measured: pd.DataFrame, config: UncertaintyConfig
) -> pd.DataFrame | None:
    """Coverage of the intervals that synthetic trees, by method, hold (see `read_intervals`); None without any."""
    parts = []
    for method, root in trees.items():
        intervals = read_intervals(root)
        if intervals is not None:
            pairs = pair_with_real(intervals, measured)
            table = interval_coverage(pairs, config).assign(interval=CONFORMAL)
            table.insert(1, "method", method)
            parts.append(table)
    return pd.concat(parts, ignore_index=True) if parts else None


def read_intervals(root: Path) -> pd.DataFrame | None:
    """The intervals of a tree's VOI tables: subject, session, tracer, voi, mean, level, low, high; None without any.

    Raises InputError where a table with intervals has no JSON beside it that gives their level.
    """
    parts = []
    for path, frame in read_voi_tables(root, "synth").items():
        if not {"low", "high"} <= set(frame.columns):
            continue
        level = read_json(path.with_suffix(".json")).get(LEVEL_KEY)
        if not isinstance(level, float) or not 0 < level < 1:
            raise InputError(
                f"{path.with_suffix('.json')} lacks {LEVEL_KEY}, the level of the intervals; synthesize it anew."
            )
        parts.append(frame.assign(level=level)[[*KEYS, "mean", "level", "low", "high"]])
    return pd.concat(parts, ignore_index=True) if parts else None


def save_calibration(calibration: Calibration, path: Path) -> None:
    """Write a calibration as JSON."""
    write_json(path, calibration.model_dump())


def load_calibration(path: Path, *weights_sha256: str) -> Calibration:
    """Read a calibration; raises InputError for a bad file and for one made with other weights than any of those."""
    try:
        calibration = Calibration.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        where = f"key {key}: " if key else ""
        raise InputError(f"{path}: {where}{first['msg']}; {_ANEW}.") from error
    made_with = calibration.weights_sha256
    if weights_sha256 and made_with and made_with not in weights_sha256:
        raise InputError(f"{path} was calibrated with other weights than this model's; {_ANEW}.")
    return calibration
