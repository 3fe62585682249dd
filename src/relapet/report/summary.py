"""summary.md: what summary.json holds, as tables and sentences for a reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from relapet.evaluation import analyses
from relapet.evaluation.analyses.leaks import leak_sentences
from relapet.evaluation.evaluate import Evaluation
from relapet.files import write_text
from relapet.report.sections import section_lines
from relapet.report.text import safe
from relapet.report.tracer_page import tracer_page


def write_summary(result: Evaluation) -> Path:
    """Write an evaluation's summary.md beside its tables, and return its path."""
    path = result.out / "summary.md"
    write_text(path, to_markdown(result.summary))
    return path


def to_markdown(summary: dict[str, Any]) -> str:
    """The summary as Markdown; its words may be those of other people's files."""
    summary = safe(summary)
    inputs = summary["inputs"]
    lines = ["# Evaluation", "", f"Measured: `{inputs['real']}`. Atlas: {inputs['atlas']}."]
    lines += [f"Method `{name}`: `{root}`." for name, root in inputs["synthetic"].items()]
    lines += ["", "Mean over subjects [95 % bootstrap interval]; sessions are averaged first. r: median over "
              "grey-matter VOIs of Pearson's r over subjects.", ""]  # fmt: skip
    for name, content in summary["tracers"].items():
        lines += tracer_page(name, content)
    for analysis in analyses.ANALYSES:
        if analysis.key in summary:
            lines += section_lines(analysis.key, analysis.title, summary[analysis.key])
    for title, items in (
        ("Leaks", leak_sentences(summary)),
        ("Tracers not scored", [f"{k}: {v}" for k, v in summary["skipped_tracers"].items()]),
        ("Notes", summary["notes"]),
        ("Asked for and not done", [f"{name}: {reason}" for name, reason in summary["unmet"].items()]),
        ("Problems", [_problem_line(problem) for problem in summary["problems"]]),
    ):
        if items:
            lines += [f"## {title}", "", *(f"- {item}" for item in items), ""]
    return "\n".join(lines)


def _problem_line(problem: dict[str, Any]) -> str:
    where = " ".join(problem[key] for key in ("subject", "session", "tracer", "method"))
    return f"{where}: {problem['reason']}"
