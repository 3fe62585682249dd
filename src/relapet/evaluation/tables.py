"""From scored scans to the tables that evaluate writes: sessions averaged, n in every table."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from relapet.evaluation.agreement import agreement
from relapet.evaluation.image_metrics import METRICS
from relapet.evaluation.matching import CEILINGS
from relapet.evaluation.statistics import bootstrap_difference, classify, holm, paired_wilcoxon
from relapet.evaluation.voi import target_vois
from relapet.files import atomic_path
from relapet.imaging.bids import Visit
from relapet.tracers import TracerSpec, load_tracers

NOT_AVAILABLE = "n/a"
"""How BIDS writes a missing value in a TSV."""
VOI_MAE = "voi_mae"
"""Mean absolute error over the target VOIs of one subject, SUVr (lower is better)."""
SUBJECT_METRICS = (*METRICS, VOI_MAE)


@dataclass(frozen=True)
class Sampling:
    """How intervals are drawn: number of bootstrap samples and seed."""

    count: int
    seed: int


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


def visit_labels(visit: Visit) -> tuple[str, str]:
    """Subject and session as written in tables: sub-01 and ses-x or n/a."""
    return f"sub-{visit.subject}", f"ses-{visit.session}" if visit.session else NOT_AVAILABLE


def row_key(visit: Visit, tracer: str, method: str) -> dict[str, Any]:
    """The leading columns of a row."""
    subject, session = visit_labels(visit)
    return {"subject": subject, "session": session, "tracer": tracer, "method": method}


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


def agreement_table(results: Results) -> pd.DataFrame:
    """Agreement over subjects of each VOI and composite, per tracer and method."""
    parts = []
    for tracer in results.tracers():
        for method in results.methods_of(tracer):
            for kind in ("voi", "composite"):
                real, synthetic = results.regional(tracer.name, method, kind)
                if real.empty:
                    continue  # a user's atlas without the labels of the composites
                part = agreement(real.to_numpy(), synthetic.to_numpy())
                part.insert(0, "tracer", tracer.name)
                part.insert(1, "method", method)
                part.insert(2, "voi", list(real.columns))
                part["kind"] = kind
                part["target"] = part["voi"].isin(target_vois(list(real.columns), tracer)) & (kind == "voi")
                parts.append(part)
    return pd.concat(parts, ignore_index=True)


def tests_table(results: Results) -> pd.DataFrame:
    """Every pair of methods on every metric: Wilcoxon over subjects, Holm within tracer, metric and family.

    ``effect`` above 0 favours method_a, whichever way the metric points; ``difference`` is the plain mean of
    a - b in the metric's unit. Comparisons with a ceiling are a family of their own: they are no contest.
    """
    rows = []
    for tracer in results.tracers():
        for metric in SUBJECT_METRICS:
            table = results.by_subject(tracer.name, metric)
            if table.isna().all(axis=None):
                continue  # a metric that this tracer has not (no target cortex)
            pairs = list(combinations(results.methods_of(tracer), 2))
            for family in ("method", "ceiling"):
                chosen = [pair for pair in pairs if _family(pair) == family]
                tests = [_test(table, metric, pair, results.sampling) for pair in chosen]
                adjusted = holm([test["p"] for test in tests])
                rows += [
                    {"tracer": tracer.name, "metric": metric} | test | {"p_holm": p, "family": family}
                    for test, p in zip(tests, adjusted, strict=True)
                ]
    columns = ["tracer", "metric", "method_a", "method_b", "n", "p", "p_holm", "effect"]
    extra = ["difference", "ci_low", "ci_high", "family", "reason"]
    return pd.DataFrame(rows, columns=columns + extra)


def _family(pair: tuple[str, str]) -> str:
    return "ceiling" if set(pair) & CEILINGS.keys() else "method"


def goodness(metric: str, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Values of a subject metric turned so that more is better."""
    return METRICS[metric].goodness(values) if metric in METRICS else -values


def _test(table: pd.DataFrame, metric: str, pair: tuple[str, str], sampling: Sampling) -> dict[str, Any]:
    a, b = (table[method].to_numpy() for method in pair)
    test = paired_wilcoxon(goodness(metric, a), goodness(metric, b))
    difference = bootstrap_difference(a, b, sampling.count, sampling.seed)
    return {
        "method_a": pair[0],
        "method_b": pair[1],
        "n": test.n,
        "p": test.p,
        "effect": test.effect,
        "difference": difference.estimate,
        "ci_low": difference.low,
        "ci_high": difference.high,
        "reason": test.reason,
    }


def positivity_table(results: Results) -> pd.DataFrame:
    """How well each method's composite tells positive from negative subjects, where a threshold is set."""
    rows = []
    for tracer in results.tracers():
        rule = tracer.positivity
        for method in results.methods_of(tracer) if rule else []:
            values = results.composite(tracer, method, rule.composite) if rule else None
            if rule is None or values is None:
                continue
            real, synthetic = values["real_suvr"].to_numpy(), values["synth_suvr"].to_numpy()
            outcome = classify(real, synthetic, rule.threshold, results.sampling.count, results.sampling.seed)
            key = {"tracer": tracer.name, "method": method, "composite": rule.composite}
            rows.append(key | {"threshold_suvr": rule.threshold} | asdict(outcome))
    columns = ["tracer", "method", "composite", "threshold_suvr", "n", "n_positive", "auc", "auc_low"]
    return pd.DataFrame(rows, columns=[*columns, "auc_high", "sensitivity", "specificity", "reason"])


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a TSV, atomically; missing values are n/a."""
    with atomic_path(path) as temporary:
        table.replace("", NOT_AVAILABLE).to_csv(
            temporary, sep="\t", index=False, na_rep=NOT_AVAILABLE, float_format="%.8g"
        )


def plain(content: Any) -> Any:
    """The same content as strict JSON can hold it: NaN as null, infinity as the string inf."""
    if isinstance(content, dict):
        return {str(key): plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [plain(value) for value in content]
    if isinstance(content, np.generic):
        content = content.item()
    if isinstance(content, float) and not math.isfinite(content):
        return None if math.isnan(content) else ("inf" if content > 0 else "-inf")
    return content
