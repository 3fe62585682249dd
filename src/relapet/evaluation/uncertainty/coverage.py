"""How often intervals of regional SUVr hold the measured value, with the subject as the unit.

Sessions are averaged within the subject, and VOIs of one subject are never counted as independent.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from pydantic import Field, field_validator

from relapet.evaluation.statistics import bootstrap_mean
from relapet.settings import Settings

ALL_VOIS = "all"
"""Name of the rows that average over the VOIs of a subject."""


class UncertaintyConfig(Settings):
    """Which intervals are judged, and how the judgement's own intervals are made."""

    levels: tuple[float, ...] = Field(
        (0.5, 0.8, 0.9, 0.95), min_length=1, description="nominal coverage of the central intervals"
    )
    bootstrap: int = Field(2000, ge=1, description="bootstrap samples of subjects")
    seed: int = Field(0, ge=0, description="seed of the bootstrap")

    @field_validator("levels")
    @classmethod
    def _are_probabilities(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < level < 1 for level in levels):
            raise ValueError("a level is a probability between 0 and 1")
        return levels


def coverage_table(rows: pd.DataFrame, config: UncertaintyConfig) -> pd.DataFrame:
    """Empirical coverage and mean width from rows (subject, tracer, voi, level, covered, width).

    One row a tracer, VOI and level with n subjects, coverage, its 95 % interval, and width in SUVr: Wilson's
    interval for a VOI, a bootstrap over subjects for the mean over VOIs (voi = "all").
    """
    from statsmodels.stats.proportion import (
        proportion_confint,
    )  # here, because it takes half a second of synthesize

    by_subject = rows.groupby(["tracer", "voi", "level", "subject"], sort=False)[["covered", "width"]].mean()
    groups = by_subject.groupby(["tracer", "voi", "level"], sort=False)
    table = groups.mean().rename(columns={"covered": "coverage"})
    table.insert(0, "n", groups.size())
    low, high = proportion_confint(table["coverage"] * table["n"], table["n"], method="wilson")
    table.insert(2, "ci_low", low)
    table.insert(3, "ci_high", high)
    over_vois = by_subject.groupby(["tracer", "level", "subject"], sort=False).mean()
    pooled = []
    for (tracer, level), group in over_vois.groupby(["tracer", "level"], sort=False):
        mean = bootstrap_mean(group["covered"].to_numpy(np.float64), config.bootstrap, config.seed)
        pooled.append(
            (tracer, ALL_VOIS, level, mean.n, mean.estimate, mean.low, mean.high, group["width"].mean())
        )
    columns = ["tracer", "voi", "level", "n", "coverage", "ci_low", "ci_high", "width"]
    return pd.concat([pd.DataFrame(pooled, columns=columns), table.reset_index()[columns]], ignore_index=True)
