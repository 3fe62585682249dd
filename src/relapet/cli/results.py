"""The commands that show results: demo, evaluate, info."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relapet.cli.command import (
    CALL,
    NoReport,
    Participants,
    Sessions,
    Threads,
    command,
    exit_for_failures,
    show_evaluation,
    show_settings,
)
from relapet.console import Terminal
from relapet.files import require_empty, require_file, require_folder
from relapet.threads import available_cores, limit_threads


@command("Example: `relapet demo demo-output`")
def demo(
    terminal: Terminal,
    out: Annotated[Path, typer.Argument(help="Folder to write; must be empty or new.")],
    threads: Threads = None,
) -> None:
    """Simulate, train, synthesize, evaluate: the whole path in minutes on two CPU cores."""
    require_empty(out, "demo's folder")
    limit_threads(threads)

    from relapet import api

    result = api.demo(out, terminal, n_procs=threads or available_cores())
    show_evaluation(terminal, result.out)


@command(
    "Example: `relapet evaluate cohort synthetic evaluation --phenotype cohort/phenotype/cognition.tsv "
    "--outcome memory tau_positivity`"
)
def evaluate(
    terminal: Terminal,
    real: Annotated[Path, typer.Argument(help="Derivative with measured SUVr maps.")],
    synthetic: Annotated[Path, typer.Argument(help="Derivative that relapet synthesize wrote.")],
    out: Annotated[Path, typer.Argument(help="Folder for the tables.")],
    compare: Annotated[
        list[Path] | None, typer.Option(help="More synthetic derivatives, scored beside it.")
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            help="What the synthetic derivatives are called, in their order (default: their methods)."
        ),
    ] = None,
    participant_label: Participants = None,
    session_label: Sessions = None,
    split: Annotated[
        str | None,
        typer.Option(help="In their place: test, those whom the training of every model held out."),
    ] = None,
    atlas: Annotated[
        Path | None, typer.Option(help="Own atlas, NIfTI with a TSV (index, name) beside it.")
    ] = None,
    phenotype: Annotated[
        Path | None, typer.Option(help="TSV with participant_id and outcomes to predict.")
    ] = None,
    outcome: Annotated[
        list[str] | None,
        typer.Option(
            help="Columns of the phenotype (or tau_positivity, pib_positivity) to predict from MRI, "
            "with synthetic and with measured PET."
        ),
    ] = None,
    internal: Annotated[
        Path | None,
        typer.Option(help="Evaluation of the same methods on their own site; the drop from it is written."),
    ] = None,
    no_report: NoReport = False,
) -> None:
    """Score synthetic against measured PET: tables, statistics and figures, beside tracer_mean and the ceilings."""
    for folder in (real, synthetic, *(compare or ())):
        require_folder(folder)
    for file, what in ((atlas, "atlas"), (phenotype, "phenotype table")):
        if file is not None:
            require_file(file, what)
    if internal is not None:
        require_folder(internal, "internal evaluation")

    from relapet import api
    from relapet.evaluation.config import EvaluationConfig

    chosen = tuple(participant_label) if participant_label else None
    config = EvaluationConfig(
        atlas=atlas,
        participants=chosen,
        sessions=tuple(session_label) if session_label else None,
        split=split,
        names=tuple(name or ()),
        phenotype=phenotype,
        outcomes=tuple(outcome or ()),
        internal=internal,
    )
    result = api.evaluate(
        real, [synthetic, *(compare or [])], out, config, terminal, not no_report, CALL.get()
    )
    show_evaluation(terminal, result.out)
    problems = {f"{p.subject} {p.session} {p.tracer} {p.method}": p.reason for p in result.problems}
    exit_for_failures(problems | result.unmet)


@command("Examples: `relapet report run run.html`, `relapet report evaluation`")
def report(
    terminal: Terminal,
    folder: Annotated[
        Path, typer.Argument(help="Run folder, evaluation, or derivative that relapet synthesize wrote.")
    ],
    page: Annotated[
        Path | None, typer.Argument(help="Page to write (default: report.html in that folder).")
    ] = None,
) -> None:
    """Write the report page of a training, an evaluation or synthetic maps: one HTML file that opens from disk."""
    require_folder(folder)

    from relapet import api

    terminal.say(f"Report written to {api.write_report(folder, page, CALL.get())}.")


@command("Example: `relapet info presets demo`")
def info(
    terminal: Terminal,
    topic: Annotated[str, typer.Argument(help="methods, tracers, presets or samplers.")] = "tracers",
    name: Annotated[str | None, typer.Argument(help="One of them, in full.")] = None,
) -> None:
    """Show which methods, tracers, presets and samplers there are, or all settings of one preset."""
    from relapet import info as about

    if topic == "presets" and name is not None:
        about.require_preset(name)
        from relapet.config import describe, load_config

        show_settings(terminal, list(describe(load_config(name))))
        return
    terminal.show_table(about.listing(topic, name))
