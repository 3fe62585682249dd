"""Regions of one scan for a page: VOIs, composites, Centiloid, the probability of positivity, and intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from relapet.evaluation.scores.voi import RegionSums, default_atlas, sum_regions
from relapet.evaluation.tables import require_columns
from relapet.evaluation.uncertainty.voi_tables import PROBABILITY, read_voi_table, sample_columns
from relapet.files import read_json
from relapet.imaging.bids import Visit, sidecar_path
from relapet.report.style import voi_label
from relapet.tracers import TracerSpec
from relapet.types import Affine, Volume

CENTILOID = "Centiloid (no SUVr)"
_NONE = float("nan")


@dataclass(frozen=True)
class Region:
    """One row: SUVr of a region, or a Centiloid; NaN where there is no such number."""

    name: str
    mean: float
    sd: float = _NONE
    """Over the samples."""
    low: float = _NONE
    high: float = _NONE
    """Ends of the calibrated interval for the measured value."""
    measured: float = _NONE
    volume_ml: float = _NONE

    @property
    def difference(self) -> float:
        """Synthetic minus measured."""
        return self.mean - self.measured


@dataclass(frozen=True)
class Regions:
    """The regions of one scan."""

    composites: tuple[Region, ...]
    centiloid: Region | None
    probability: float
    """That the measured composite is above the tracer's threshold; NaN where nothing says it."""
    vois: tuple[Region, ...]
    level: float
    """Of the intervals; NaN where there is none."""

    def composite(self, name: str) -> Region:
        """A composite by its name; one without numbers where this grid has no voxel of it."""
        return next((region for region in self.composites if region.name == name), Region(name, _NONE))

    @property
    def rows(self) -> tuple[Region, ...]:
        """What a table shows: composites, Centiloid, then VOIs."""
        return (*self.composites, *([self.centiloid] if self.centiloid else []), *self.vois)


def read_regions(
    tree: Path, visit: Visit, tracer: TracerSpec, measured: RegionSums | None, space: str
) -> Regions | None:
    """Regions of a synthetic map from the tables beside it; None where it has none.

    Composites and Centiloids are means over the VOIs by their volume; of samples, the SD of what each gives.
    Raises InputError for a table that cannot be read.
    """
    path = visit.voi_table(tree, tracer, "synth", space)
    if not path.is_file():
        return None
    table = read_voi_table(path).set_index("voi")
    require_columns(path, table, ["mean"])
    about = read_json(sidecar_path(path)) if sidecar_path(path).is_file() else {}
    drawn = visit.voi_table(tree, tracer, "synthsamples", space)
    samples = read_voi_table(drawn).set_index("voi") if drawn.is_file() else None
    whole = _Whole(table, samples, {} if measured is None else measured.vois(), measured)
    level = about.get("IntervalLevel")
    rule = tracer.positivity
    return Regions(
        tuple(r for name, labels in tracer.composites.items() if (r := whole.composite(name, labels))),
        whole.centiloid(tracer),
        _value(table, rule.composite, PROBABILITY) if rule is not None else _NONE,
        tuple(whole.voi(str(name)) for name in table.index if name not in tracer.composites),
        float(level) if isinstance(level, int | float) else _NONE,
    )


def regions_of_map(
    synthetic: Volume, affine: Affine, tracer: TracerSpec, measured: RegionSums | None
) -> Regions:
    """The same from a synthetic map ``(X, Y, Z)`` alone, as another tool writes it: no spread, no interval."""
    atlas = default_atlas()
    sums = sum_regions(synthetic, atlas.labels(synthetic.shape, affine), atlas.names)
    vois = {} if measured is None else measured.vois()
    composites = {} if measured is None else measured.composites(tracer)
    centiloid = sums.centiloid(tracer)
    return Regions(
        tuple(
            Region(voi_label(name), mean, measured=composites.get(name, _NONE))
            for name, mean in sums.composites(tracer).items()
        ),
        Region(CENTILOID, centiloid, measured=_NONE if measured is None else measured.centiloid(tracer))
        if math.isfinite(centiloid)
        else None,
        _NONE,
        tuple(Region(name, mean, measured=vois.get(name, _NONE)) for name, mean in sums.vois().items()),
        _NONE,
    )


def _value(table: pd.DataFrame, row: str, column: str) -> float:
    there = column in table.columns and row in table.index
    return float(table[column].to_numpy(np.float64)[table.index.get_loc(row)]) if there else _NONE


@dataclass(frozen=True)
class _Whole:
    """The tables of one map and what is measured beside it."""

    table: pd.DataFrame
    samples: pd.DataFrame | None
    measured_vois: Mapping[str, float]
    measured: RegionSums | None

    def voi(self, name: str) -> Region:
        mean, sd, low, high, volume = (
            _value(self.table, name, key) for key in ("mean", "sd", "low", "high", "volume")
        )
        return Region(name, mean, sd, low, high, self.measured_vois.get(name, _NONE), volume / 1000)

    def composite(self, name: str, labels: tuple[str, ...]) -> Region | None:
        pooled = self._pooled(labels)
        if pooled is None:
            return None
        mean, per_sample, volume = pooled
        measured = _NONE if self.measured is None else self.measured.mean(labels)
        low, high = (_value(self.table, name, key) for key in ("low", "high"))
        return Region(voi_label(name), mean, _sd(per_sample), low, high, measured, volume / 1000)

    def centiloid(self, tracer: TracerSpec) -> Region | None:
        """100 (composite over whole cerebellum - intercept) / span: Klunk et al. 2015, equation 1.3."""
        scale = tracer.centiloid
        if scale is None:
            return None
        target, reference = (
            self._pooled(labels) for labels in (tracer.composites[scale.composite], scale.reference_labels)
        )
        if target is None or reference is None:
            return None

        def units(ratio: float) -> float:
            return 100 * (ratio - scale.intercept_suvr) / scale.span_suvr

        drawn = [units(t / r) for t, r in zip(target[1], reference[1], strict=True)]
        measured = _NONE if self.measured is None else self.measured.centiloid(tracer)
        return Region(CENTILOID, units(target[0] / reference[0]), _sd(drawn), measured=measured)

    def _pooled(self, labels: tuple[str, ...]) -> tuple[float, list[float], float] | None:
        """Mean over labels by volume, that of each sample, and the volume in mm3; None where none has a voxel."""
        there = [label for label in labels if label in self.table.index]
        if not there or "volume" not in self.table.columns:
            return None
        volumes = self.table.loc[there, "volume"].to_numpy(np.float64)
        if not volumes.sum() > 0:
            return None
        mean = float(np.average(self.table.loc[there, "mean"].to_numpy(np.float64), weights=volumes))
        drawn: list[float] = []
        if self.samples is not None and set(there) <= set(self.samples.index):
            values = self.samples.loc[there, sample_columns(self.samples)].to_numpy(np.float64)
            drawn = [float(value) for value in np.average(values, axis=0, weights=volumes)]
        return mean, drawn, float(volumes.sum())


def _sd(values: list[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else _NONE
