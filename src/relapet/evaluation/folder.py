"""The folder of an evaluation: of one call, so that no table or figure of an earlier comparison stays in it."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import pandas as pd

from relapet.errors import InputError
from relapet.evaluation.analyses import ANALYSES
from relapet.files import read_json, require_empty_or_own, visible

FIGURES = "figures"
REPORT = "report.html"
"""The page of a folder; pages of single visits lie in a folder of its stem."""
_SUMMARY = "summary.json"
_TABLES = {f"{spec.name}.tsv" for analysis in ANALYSES for spec in analysis.tables}
_FILES = _TABLES | {_SUMMARY, "summary.md", REPORT}
_DRAWN = (
    *("boxes_*.png", "correlations.png", "spectra.png", "scatter_tracer-*.png", "bland-altman_tracer-*.png"),
    *("subject-*_tracer-*.png", "coverage_method-*.png", "sample-mean_method-*.png", "downstream-*.png"),
)
"""Names of figures, by which those of an evaluation that was killed are known: their list is written last."""


def require_evaluation_folder(out: Path) -> None:
    """Raise InputError where a folder holds anything and no evaluation, finished or killed, wrote it."""
    require_empty_or_own(out, _is_evaluation, "relapet evaluate")


def clear_evaluation(out: Path) -> None:
    """Delete the tables, summaries, figures and pages of an earlier evaluation, and nothing else."""
    for path in (*(out / name for name in sorted(_FILES)), *_figures(out / FIGURES), *_pages(out)):
        path.unlink(missing_ok=True)


def _is_evaluation(out: Path) -> bool:
    try:
        if "relapet_version" in read_json(out / _SUMMARY):
            return True
    except InputError:
        pass  # none was written yet
    drawn, pages = set(_figures(out / FIGURES)), Path(REPORT).stem
    names = {path.name for path in visible(out)}
    only_ours = set(visible(out / FIGURES)) <= drawn and set(visible(out / pages)) <= set(_pages(out))
    return names <= _FILES | {FIGURES, pages} and only_ours


def _pages(out: Path) -> list[Path]:
    """The pages of single visits."""
    return [path for path in visible(out / Path(REPORT).stem) if fnmatch(path.name, "sub-*.html")]


def _figures(folder: Path) -> list[Path]:
    """The figures that evaluations drew, and their list."""
    table = folder / f"{FIGURES}.tsv"
    try:
        listed = set(pd.read_csv(table, sep="\t", dtype=str)["figure"].dropna())
    except (OSError, ValueError, KeyError):
        listed = {path.name for path in visible(folder) if any(fnmatch(path.name, name) for name in _DRAWN)}
    there = {path.name for path in visible(folder)}
    return [table, *(folder / name for name in sorted(listed & there))]
