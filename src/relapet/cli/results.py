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


@command(
    "Example: `relapet benchmark cohort comparison --budget-seconds 600 --methods linear regression crps ddpm+linear "
    "fast --external other-cohort`"
)
def benchmark(
    terminal: Terminal,
    derivatives: Annotated[
        Path, typer.Argument(help="Model-ready derivatives to train on and, of those held out, to judge on.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder for trainings and tables; goes on where it was begun.")],
    methods: Annotated[
        list[str] | None,
        typer.Option(
            help="Presets or YAML files of settings; NAME+none, NAME+mean or NAME+linear is NAME with that prior "
            "(default: all methods)."
        ),
    ] = None,
    seeds: Annotated[
        list[int] | None,
        typer.Option(min=0, help="Seeds of training; each trains every method (default: 0)."),
    ] = None,
    budget_seconds: Annotated[
        float | None,
        typer.Option(
            help="Training time of each: processor seconds of one thread, or elapsed ones on a GPU."
        ),
    ] = None,
    budget_samples: Annotated[
        int | None, typer.Option(min=1, help="In its place: training volumes that each sees.")
    ] = None,
    external: Annotated[
        Path | None, typer.Option(help="Another derivative, all of whose participants are judged too.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Single settings over every method that has them: key=value."),
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Samples a map, of methods that draw (default: 8).")
    ] = None,
    sample_steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of a sample at most (default: 50).")
    ] = None,
    validation_fraction: Annotated[
        float | None, typer.Option(help="Share of the participants for validation (default: 0.1).")
    ] = None,
    test_fraction: Annotated[
        float | None, typer.Option(help="Share that is held out and judged on (default: 0.2).")
    ] = None,
    split_seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the split, which all share (default: 0).")
    ] = None,
    n_procs: Annotated[int, typer.Option(min=1, help="Trainings at a time.")] = 1,
) -> None:
    """Compare methods: equal training, the same held-out participants, one table with tests."""
    require_folder(derivatives)
    given = {
        **{
            "methods": methods,
            "seeds": seeds,
            "budget_seconds": budget_seconds,
            "budget_samples": budget_samples,
        },
        **{"settings": set_, "samples": samples, "sample_steps": sample_steps, "split_seed": split_seed},
        **{"validation_fraction": validation_fraction, "test_fraction": test_fraction},
    }

    from relapet.benchmarking import BenchmarkConfig
    from relapet.benchmarking import benchmark as compare

    config = BenchmarkConfig(**{name: value for name, value in given.items() if value is not None})
    result = compare(derivatives, out, config, external, n_procs, terminal)
    show_evaluation(terminal, result.out)
    exit_for_failures(result.failed)


@command("Example: `relapet info presets demo`")
def info(
    terminal: Terminal,
    topic: Annotated[
        str,
        typer.Argument(
            help="methods, presets, models, tracers or samplers.",
            autocompletion=lambda: ["methods", "presets", "models", "tracers", "samplers"],
        ),
    ] = "tracers",
    name: Annotated[str | None, typer.Argument(help="One of them, in full.")] = None,
) -> None:
    """Show which methods, presets, models, tracers and samplers there are, or all settings of one preset."""
    from relapet import info as about

    if topic == "presets" and name is not None:
        about.require_preset(name)
        from relapet.config import describe, load_config

        show_settings(terminal, list(describe(load_config(name))))
        return
    terminal.show_table(about.listing(topic, name))
