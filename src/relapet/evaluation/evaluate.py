"""The whole judgement of synthetic trees against a measured one: scores, then every analysis, then the summary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from relapet.errors import InputError, LeakError
from relapet.evaluation import analyses
from relapet.evaluation.analyses.external import read_evaluation
from relapet.evaluation.analyses.leaks import leak_sentences
from relapet.evaluation.config import EvaluationConfig
from relapet.evaluation.downstream.studies import check_outcomes
from relapet.evaluation.folder import clear_evaluation, require_evaluation_folder
from relapet.evaluation.interface import Findings, Material
from relapet.evaluation.matching import make_plan
from relapet.evaluation.results import make_results
from relapet.evaluation.scores.scoring import Problem, Progress, score_scans
from relapet.evaluation.scores.voi import default_atlas, load_region_atlas
from relapet.evaluation.summary import build_summary
from relapet.evaluation.tables import plain, write_table
from relapet.files import prepare_output_folder, refuse_inside, unless_refused, write_json
from relapet.locks import locked


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation wrote to ``out``: the tables as data frames, the summary, and what failed."""

    out: Path
    tables: dict[str, pd.DataFrame]
    """By the stem of their file; `relapet.evaluation.analyses` says what their columns hold."""
    summary: dict[str, Any]
    """Content of summary.json, NaN where undefined."""
    problems: list[Problem]
    """Volumes that could not be scored."""
    unmet: dict[str, str]
    """Analyses that were asked for and could not be done, and why."""


def evaluate(
    real: Path,
    synthetic: Sequence[Path],
    out: Path,
    config: EvaluationConfig | None = None,
    on_progress: Progress | None = None,
) -> Evaluation:
    """Score every synthetic tree against the measured maps of ``real``; write tables and summary.json to ``out``.

    What an earlier evaluation left in ``out`` goes. Volumes that cannot be read or do not fit are listed in the
    result's ``problems``; the others go on.
    Raises InputError where nothing can be compared or a method was trained on the subjects. Scores above what MRI
    can show are written too: `refuse_leaks` raises for them.
    """
    config, real, out = config or EvaluationConfig(), Path(real), Path(out)
    refuse_inside(out, real, *map(Path, synthetic))
    atlas = load_region_atlas(config.atlas, config.atlas_table) if config.atlas else default_atlas()
    check_outcomes(real, config.phenotype, config.outcomes)
    if config.internal is not None:
        read_evaluation(config.internal, config.sampling)
        refuse_inside(out, config.internal)
    require_evaluation_folder(out)
    plan = make_plan(real, [Path(path) for path in synthetic], config)
    with unless_refused(out), _held(out):
        scores = score_scans(plan.scans, atlas, on_progress)
        if not scores.image:
            raise InputError(f"No scan could be scored; the first fault: {scores.problems[0].reason}")
        if not scores.regions:
            raise InputError(
                f"The atlas {atlas.name} has no region where the scans have voxels; check its affine and its table."
            )
        results = make_results(scores, plan.methods, config.sampling)
        material = Material(real, out, config, atlas, plan, scores, results)
        clear_evaluation(out)
        found = _analyse(material)
        summary = build_summary(material, found)
        write_json(out / "summary.json", plain(summary))
    tables = {name: table for findings in found.values() for name, table in findings.tables.items()}
    return Evaluation(out, tables, summary, scores.problems, summary["unmet"])


@contextmanager
def _held(out: Path) -> Iterator[None]:
    prepare_output_folder(out)
    with locked(out):
        yield


def _analyse(material: Material) -> dict[str, Findings]:
    """Every analysis' findings by its key; tables are written as soon as they are there."""
    found = {}
    for analysis in analyses.ANALYSES:
        try:
            findings = analysis.run(material)
        except InputError as error:
            findings = Findings(unmet={analysis.task: str(error)})
        if findings is None:
            continue
        analysis.check(findings)
        for name, table in findings.tables.items():
            write_table(material.out / f"{name}.tsv", table)
        found[analysis.key] = findings
    return found


def refuse_leaks(result: Evaluation, report: Path) -> None:
    """Raise LeakError where a method scores above what MRI can show; ``report`` is where a reader finds more."""
    leaks = leak_sentences(result.summary)
    if leaks:
        raise LeakError(
            "Scores above what MRI can show, so test data leaked into training: " + "; ".join(leaks)
            + f". See {report} and check the split."
        )  # fmt: skip
