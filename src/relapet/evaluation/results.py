"""From scored scans to what analyses are made from: sessions averaged, one row a subject."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from relapet.evaluation.scores.image_metrics import METRICS
from relapet.evaluation.scores.scoring import Scores
from relapet.evaluation.scores.voi import target_vois
from relapet.evaluation.statistics import Sampling
from relapet.tracers import TracerSpec, load_tracers

VOI_MAE = "voi_mae"
"""Mean absolute error over the target VOIs of one subject, SUVr (lower is better)."""
SUBJECT_METRICS = (*METRICS, VOI_MAE)


@dataclass(frozen=True)
class Results:
    """Everything that summaries are made from, one row a subject (sessions averaged)."""

    metrics: pd.DataFrame
    """Index (tracer, method, subject), one column a metric."""
    voi: pd.DataFrame
    """Columns subject, tracer, method, voi, kind, target, real_suvr, synth_suvr, sessions."""
    centiloid: pd.DataFrame
    """Columns subject, tracer, method, real_centiloid, synth_centiloid."""
    methods: list[str]
    sampling: Sampling

    def tracers(self) -> Iterator[TracerSpec]:
        """The tracers that were scored, in the order of their index."""
        scored = set(self.metrics.index.get_level_values("tracer"))
        return (spec for spec in load_tracers().values() if spec.name in scored)

    def methods_of(self, tracer: TracerSpec) -> list[str]:
        """The methods that were scored for a tracer, in order."""
        scored = set(self.metrics.loc[tracer.name].index.get_level_values("method"))
        return [method for method in self.methods if method in scored]

    def by_subject(self, tracer: str, metric: str) -> pd.DataFrame:
        """One metric of a tracer: subjects as rows, methods as columns, NaN where missing."""
        return self.metrics.loc[tracer][metric].unstack("method")

    def regional(self, tracer: str, method: str, kind: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Measured and synthetic SUVr, subjects x VOIs; VOIs that not every subject has are left out.

        ``kind`` is voi, composite, or target (the VOIs that count in summaries).
        """
        rows = self.voi[(self.voi["tracer"] == tracer) & (self.voi["method"] == method)]
        rows = rows[rows["target"]] if kind == "target" else rows[rows["kind"] == kind]
        sides = [
            rows.pivot(index="subject", columns="voi", values=column).dropna(axis=1)
            for column in ("real_suvr", "synth_suvr")
        ]
        return sides[0], sides[1][sides[0].columns]

    def composite(self, tracer: TracerSpec, method: str, name: str) -> pd.DataFrame | None:
        """Measured and synthetic SUVr (columns real_suvr, synth_suvr) of one composite, None if absent."""
        voi = self.voi
        rows = voi[(voi["tracer"] == tracer.name) & (voi["method"] == method) & (voi["voi"] == name)]
        return rows[rows["kind"] == "composite"].set_index("subject") if len(rows) else None


def make_results(scores: Scores, methods: list[str], sampling: Sampling) -> Results:
    """The scores with sessions averaged; ``methods`` is the order of methods."""
    regions = average_sessions(pd.DataFrame(scores.regions))
    voi = voi_table(regions)
    metrics = subject_metrics(pd.DataFrame(scores.image), voi)
    return Results(metrics, voi, centiloid_table(regions), methods, sampling)


def average_sessions(regions: pd.DataFrame) -> pd.DataFrame:
    """Average the sessions of each subject: the subject is the unit."""
    keys = ["subject", "tracer", "method", "voi", "kind"]
    grouped = regions.groupby(keys, sort=False)
    return grouped.agg(
        real_suvr=("real_suvr", "mean"), synth_suvr=("synth_suvr", "mean"), sessions=("session", "size")
    ).reset_index()


def voi_table(regions: pd.DataFrame) -> pd.DataFrame:
    """Regional SUVr of VOIs and composites; ``target`` marks the VOIs that count in summaries."""
    rows = regions[regions["kind"] != "centiloid"].copy()
    targets = {
        (tracer, name)
        for tracer, group in rows[rows["kind"] == "voi"].groupby("tracer")
        for name in target_vois(sorted(set(group["voi"])), load_tracers()[str(tracer)])
    }
    keys = zip(rows["tracer"], rows["voi"], rows["kind"], strict=True)
    rows["target"] = [kind == "voi" and (tracer, name) in targets for tracer, name, kind in keys]
    columns = ["subject", "tracer", "method", "voi", "real_suvr", "synth_suvr", "kind", "target", "sessions"]
    return rows[columns].reset_index(drop=True)


def centiloid_table(regions: pd.DataFrame) -> pd.DataFrame:
    """Centiloids of each subject, for tracers that have the scale."""
    rows = regions[regions["kind"] == "centiloid"].dropna(subset=["real_suvr", "synth_suvr"])
    named = rows.rename(columns={"real_suvr": "real_centiloid", "synth_suvr": "synth_centiloid"})
    columns = ["subject", "tracer", "method", "real_centiloid", "synth_centiloid"]
    return named[columns].reset_index(drop=True)


def subject_metrics(image: pd.DataFrame, voi: pd.DataFrame) -> pd.DataFrame:
    """Image metrics averaged over sessions, and the VOI error; index (tracer, method, subject)."""
    keys = ["tracer", "method", "subject"]
    metrics = image.groupby(keys)[list(METRICS)].mean()
    rows = voi[voi["target"]]
    error = (rows["synth_suvr"] - rows["real_suvr"]).abs().rename(VOI_MAE)
    metrics[VOI_MAE] = error.groupby([rows[key] for key in keys]).mean()
    return metrics


def goodness(metric: str, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Values of a subject metric turned so that more is better."""
    return METRICS[metric].goodness(values) if metric in METRICS else -values
