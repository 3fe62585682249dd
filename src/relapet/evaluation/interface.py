"""What an evaluation and its analyses agree on: what an analysis sees, what it gives back, and its row in the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from relapet.evaluation.config import EvaluationConfig
from relapet.evaluation.matching import Plan
from relapet.evaluation.results import Results
from relapet.evaluation.scores.scoring import Scores
from relapet.evaluation.scores.voi import RegionAtlas
from relapet.evaluation.tables import TableSpec

Content = Mapping[str, Any]
"""Part of summary.json: words, numbers (NaN where undefined), lists and mappings of them."""


@dataclass(frozen=True)
class Material:
    """What an analysis sees. The tables of the analyses before it in the table lie in ``out`` already."""

    real: Path
    out: Path
    config: EvaluationConfig
    atlas: RegionAtlas
    plan: Plan
    scores: Scores
    """A row a scan, as scored."""
    results: Results
    """A row a subject, sessions averaged."""

    @property
    def trees(self) -> dict[str, Path]:
        """The synthetic trees under test, by method."""
        return {tree.method: tree.root for tree in self.plan.trees}


@dataclass(frozen=True)
class Findings:
    """What an analysis gives back: tables for files, and content for the summary."""

    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """By the name of their `TableSpec`."""
    section: Content | None = None
    """A section of its own, in summary.json by the analysis' key."""
    of_tracer: Mapping[str, Content] = field(default_factory=dict)
    """What it adds to the section of a tracer."""
    of_method: Mapping[tuple[str, str], Content] = field(default_factory=dict)
    """What it adds there to a method: by tracer and method."""
    notes: tuple[str, ...] = ()
    """What a reader must know, a sentence each."""
    unmet: Mapping[str, str] = field(default_factory=dict)
    """What was asked for and could not be done, and why."""


@dataclass(frozen=True)
class Analysis:
    """One row of the table of analyses."""

    key: str
    """Of its section in summary.json."""
    title: str
    """Of its section in summary.md."""
    tables: tuple[TableSpec, ...]
    """Every table that it may give."""
    run: Callable[[Material], Findings | None]
    """The analysis; None where there is nothing to do. An InputError is named in the summary, and the others go on."""
    task: str
    """What it is called where it was asked for and could not be done."""

    def check(self, findings: Findings) -> None:
        """Raise ValueError for a table that the row does not name or whose columns are not the documented ones."""
        specs = {spec.name: spec for spec in self.tables}
        for name, table in findings.tables.items():
            if name not in specs:
                raise ValueError(f"The analysis {self.key} gives a table {name} that its row does not name.")
            specs[name].check(table)
