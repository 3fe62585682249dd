"""The commands: parse, call one function of a stage, say what was written."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markdown import Markdown
from rich.table import Table

import relapet
from relapet.console import Terminal
from relapet.errors import InputError, RelapetError, Stopped

app = typer.Typer(
    name="relapet",
    help="Quantitative synthetic brain PET (tau, TSPO, amyloid) from T1w + FLAIR MRI. Not for clinical use.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

LIST_OPTIONS = (
    *("--tracer", "--participant-label", "--session-label", "--set"),
    *("--output-space", "--outcome", "--compare"),
)
"""Options that take several values at once: ``--tracer tau pib``."""


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"relapet {relapet.__version__}")
        raise typer.Exit


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say only warnings and errors.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback on errors.")]
Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
]
Participants = Annotated[
    list[str] | None, typer.Option("--participant-label", help="Participants, without sub- (default: all).")
]


@app.callback()
def _root(version: Version = False) -> None:
    """Quantitative synthetic brain PET (tau, TSPO, amyloid) from T1w + FLAIR MRI. Not for clinical use."""


@app.command(epilog="Example: `relapet demo demo-output`")
def demo(
    out: Annotated[Path, typer.Argument(help="Folder to write; must be empty or new.")],
    quiet: Quiet = False,
    debug: Debug = False,
    version: Version = False,
) -> None:
    """Simulate, train, synthesize, evaluate: the whole path in minutes on two CPU cores."""
    from relapet import api

    terminal = Terminal(quiet)
    result = api.demo(out, terminal, n_procs=os.cpu_count() or 1)
    _show_evaluation(terminal, result.out)


@app.command(
    epilog="Examples: `relapet simulate cohort --subjects 24 --site research --grid 3mm --seed 1`, "
    "`relapet simulate raw --subjects 4 --as-scanned`"
)
def simulate(
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    subjects: Annotated[int, typer.Option(min=1, help="Number of participants.")] = 20,
    site: Annotated[str, typer.Option(help="research or adni.")] = "research",
    grid: Annotated[
        str | None,
        typer.Option(help="1mm, 2.5mm, 3mm or 4mm (default: 3mm; with --as-scanned always 1mm)."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed; one seed gives one cohort.")] = 0,
    missing_rate: Annotated[float, typer.Option(min=0, max=1, help="Share of PET scans left out.")] = 0.0,
    as_scanned: Annotated[
        bool,
        typer.Option("--as-scanned", help="Write raw BIDS as a scanner would, for preprocess, instead."),
    ] = False,
    n_procs: Annotated[int | None, typer.Option(min=1, help="Processes (default: all cores).")] = None,
    quiet: Quiet = False,
    debug: Debug = False,
    version: Version = False,
) -> None:
    """Write a simulated cohort: T1w, FLAIR, three tracers' SUVr maps, and the truth behind them."""
    from relapet import api
    from relapet.imaging.grid import get_grid
    from relapet.simulation.as_scanned import AsScannedConfig
    from relapet.simulation.cohort import SimulationConfig
    from relapet.simulation.scanner import get_site

    if as_scanned and grid not in (None, "1mm"):
        raise InputError(f"--as-scanned simulates at 1mm, not at {grid}; leave --grid out.")
    config = SimulationConfig(
        subjects=subjects,
        site=get_site(site),
        grid=get_grid(grid or ("1mm" if as_scanned else "3mm")),
        seed=seed,
        missing_rate=missing_rate,
    )
    terminal = Terminal(quiet)
    api.simulate(
        out, AsScannedConfig(config) if as_scanned else config, n_procs or os.cpu_count() or 1, terminal
    )
    terminal.say(f"{subjects} simulated participants written to {out}.")


@app.command(
    epilog="Example: `relapet preprocess bids derivatives participant --participant-label 01 02 --grid 1mm`"
)
def preprocess(
    bids: Annotated[Path, typer.Argument(help="Raw BIDS data set.")],
    out: Annotated[Path, typer.Argument(help="Derivative to write.")],
    level: Annotated[str, typer.Argument(help="Analysis level of a BIDS App: participant.")],
    participant_label: Participants = None,
    session_label: Annotated[
        list[str] | None, typer.Option("--session-label", help="Sessions, without ses- (default: all).")
    ] = None,
    grid: Annotated[str, typer.Option(help="1mm, 2.5mm, 3mm or 4mm.")] = "1mm",
    fwhm: Annotated[float | None, typer.Option(help="Common PET resolution to smooth to, mm.")] = None,
    scanner_fwhm: Annotated[float | None, typer.Option(help="Resolution of the PET scanner, mm.")] = None,
    n_procs: Annotated[int, typer.Option(min=1, help="Visits at a time.")] = 1,
    force: Annotated[bool, typer.Option("--force", help="Process again what is done and unchanged.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
    version: Version = False,
) -> None:
    """Make raw scans model-ready: brain mask, registration to the template, PET frames to SUVr."""
    from relapet import api
    from relapet.imaging.grid import get_grid
    from relapet.preprocessing.pipeline import PreprocessConfig

    _check_level(level)
    config = PreprocessConfig(
        grid=get_grid(grid), fwhm_mm=fwhm, scanner_fwhm_mm=scanner_fwhm, force=force, n_procs=n_procs
    )
    terminal = Terminal(quiet)
    outcome = api.preprocess(bids, out, config, participant_label, session_label, terminal)
    terminal.say(
        f"{len(outcome.done)} visits written to {out}, {len(outcome.unchanged)} were done and unchanged."
    )
    _exit_for_failures(outcome.failed)


@app.command(epilog="Example: `relapet train cohort run --preset demo --set train.steps=2000 train.seed=1`")
def train(
    derivatives: Annotated[
        Path, typer.Argument(help="Model-ready derivatives (simulate or preprocess writes them).")
    ],
    run: Annotated[Path, typer.Argument(help="Run folder to write.")],
    preset: Annotated[str | None, typer.Option(help="Packaged settings, see relapet info presets.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings, over the preset.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Single settings, over both: key=value.")
    ] = None,
    devices: Annotated[
        int | None, typer.Option(min=1, help="GPUs (or processes, without a GPU) to train on.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print every setting and stop.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
    version: Version = False,
) -> None:
    """Train a model on model-ready derivatives."""
    from relapet import api
    from relapet.config import load_config
    from relapet.training.distributed import is_first_process

    if preset is None and config is None:
        raise InputError(
            "Training needs settings; give --preset NAME (see relapet info presets) or --config FILE."
        )
    terminal = Terminal(quiet or not is_first_process())
    single = [*(set_ or ()), *([] if devices is None else [f"train.devices={devices}"])]
    settings = load_config(preset, config, single)
    if dry_run:
        _show_settings(terminal, settings)
        return
    api.train(settings, derivatives, run, resume=resume, messages=terminal)
    terminal.say(f"Run folder written to {run}.")


@app.command(
    epilog="Example: `relapet synthesize bids out participant --model run --tracer tau pib --samples 8`"
)
def synthesize(
    source: Annotated[
        Path, typer.Argument(metavar="BIDS_OR_DERIVATIVES", help="Data set with MRI in an MNI space.")
    ],
    out: Annotated[Path, typer.Argument(help="Derivative to write.")],
    level: Annotated[str, typer.Argument(help="Analysis level of a BIDS App: participant.")],
    model: Annotated[Path, typer.Option(help="Run folder of a trained model.")],
    tracer: Annotated[list[str] | None, typer.Option(help="Tracers (default: all the model knows).")] = None,
    participant_label: Participants = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Samples a volume; their mean is written.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Network calls a sample.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the samples' noise.")] = None,
    output_space: Annotated[
        list[str] | None,
        typer.Option(
            help="MNI (default), native (the T1w's own grid; needs what relapet preprocess keeps) or both."
        ),
    ] = None,
    quiet: Quiet = False,
    debug: Debug = False,
    version: Version = False,
) -> None:
    """Synthesize SUVr maps from MRI with a trained model. Not for clinical use."""
    from relapet import api

    _check_level(level)
    terminal = Terminal(quiet)
    given = {"count": samples, "steps": steps, "seed": seed}
    settings = {key: value for key, value in given.items() if value is not None}
    spaces = output_space or ["MNI"]
    outcome = api.synthesize(source, out, model, tracer, participant_label, settings, terminal, spaces)
    terminal.say(f"{len(outcome.done)} of {len(outcome.done) + len(outcome.failed)} visits written to {out}.")
    _exit_for_failures(outcome.failed)


@app.command("import-layout", epilog="Example: `relapet import-layout release derivatives --units SUVR`")
def import_layout(
    source: Annotated[
        Path, typer.Argument(help="Folder of the folders ID, each with ID_T1.nii, ID_T2.nii, ID_PIB.nii ...")
    ],
    out: Annotated[Path, typer.Argument(help="Derivative to write.")],
    units: Annotated[
        str, typer.Option(help="Unit of the PET files, which do not say it: SUVR, SUV, Bq/mL or kBq/mL.")
    ],
    grid: Annotated[str, typer.Option(help="1mm, 2.5mm, 3mm or 4mm.")] = "1mm",
    quiet: Quiet = False,
    debug: Debug = False,
    version: Version = False,
) -> None:
    """Turn the published release's flat layout, already in MNI space, into a model-ready derivative."""
    from relapet import api

    terminal = Terminal(quiet)
    outcome = api.import_layout(source, out, units, grid, terminal)
    terminal.say(f"{len(outcome.done)} participants written to {out}.")
    _exit_for_failures(outcome.failed)


@app.command("import-weights", epilog="Example: `relapet import-weights checkpoint.pt run`")
def import_weights(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint file of the published release.")],
    run: Annotated[Path, typer.Argument(help="Run folder to write; must be empty or new.")],
    quiet: Quiet = False,
    debug: Debug = False,
    version: Version = False,
) -> None:
    """Turn the authors' released checkpoint into a run folder that synthesize takes. Its output is no SUVr."""
    from relapet import api

    terminal = Terminal(quiet)
    api.import_weights(checkpoint, run)
    terminal.warn(str(api.Synthesizer.from_run(run, device="cpu").caution))
    terminal.say(f"Run folder written to {run}.")


@app.command(
    epilog="Example: `relapet evaluate cohort synthetic evaluation --phenotype cohort/phenotype/cognition.tsv "
    "--outcome memory tau_positivity`"
)
def evaluate(
    real: Annotated[Path, typer.Argument(help="Derivative with measured SUVr maps.")],
    synthetic: Annotated[Path, typer.Argument(help="Derivative that relapet synthesize wrote.")],
    out: Annotated[Path, typer.Argument(help="Folder for the tables.")],
    compare: Annotated[
        list[Path] | None, typer.Option(help="Another synthetic derivative, scored beside it.")
    ] = None,
    participant_label: Participants = None,
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
    quiet: Quiet = False,
    debug: Debug = False,
    version: Version = False,
) -> None:
    """Score synthetic against measured PET: tables, statistics and figures, beside tracer_mean and the ceilings."""
    from relapet import api
    from relapet.evaluation.config import EvaluationConfig

    terminal = Terminal(quiet)
    chosen = tuple(participant_label) if participant_label else None
    config = EvaluationConfig(
        atlas=atlas,
        participants=chosen,
        phenotype=phenotype,
        outcomes=tuple(outcome or ()),
        internal=internal,
    )
    result = api.evaluate(real, [synthetic, *(compare or [])], out, config, terminal)
    _show_evaluation(terminal, result.out)
    problems = {f"{p.subject} {p.session} {p.tracer} {p.method}": p.reason for p in result.problems}
    _exit_for_failures(problems | result.unmet)


@app.command(epilog="Example: `relapet info presets demo`")
def info(
    topic: Annotated[str, typer.Argument(help="methods, tracers, presets or samplers.")] = "tracers",
    name: Annotated[str | None, typer.Argument(help="One of them, in full.")] = None,
    quiet: Quiet = False,
    debug: Debug = False,
    version: Version = False,
) -> None:
    """Show which methods, tracers, presets and samplers there are, or all settings of one preset."""
    from relapet import info as about

    terminal = Terminal(quiet=False)
    if topic == "presets" and name is not None:
        from relapet.config import load_config

        _show_settings(terminal, load_config(name))
        return
    _show_table(terminal, about.listing(topic, name))


def _show_table(terminal: Terminal, rows: Sequence[Sequence[str]]) -> None:
    table = Table(*rows[0], box=None, pad_edge=False)
    for row in rows[1:]:
        table.add_row(*row)
    terminal.out.print(table)


def _show_settings(terminal: Terminal, settings: object) -> None:
    from relapet.config import RunConfig, describe

    assert isinstance(settings, RunConfig)
    rows = [("setting", "value", "meaning")]
    rows += [(key, str(value), meaning) for key, value, meaning in describe(settings)]
    _show_table(terminal, rows)


def _show_evaluation(terminal: Terminal, out: Path) -> None:
    if not terminal.quiet:
        summary = (out / "summary.md").read_text(encoding="utf-8")
        terminal.out.print(Markdown(summary) if terminal.out.is_terminal else summary, markup=False)
    terminal.say(f"Tables and figures written to {out}.")


def _check_level(level: str) -> None:
    if level != "participant":
        raise InputError(f"The analysis level {level!r} is not known; relapet has only: participant.")


def _exit_for_failures(failed: dict[str, str]) -> None:
    if failed:
        print(f"relapet: {len(failed)} failed:", file=sys.stderr)
        for name, reason in failed.items():
            print(f"  {name}: {reason}", file=sys.stderr)
        raise typer.Exit(1)


def normalise(arguments: Sequence[str]) -> list[str]:
    """Rewrite what users type into what the parser takes.

    ``--participant_label`` is ``--participant-label``, and ``--tracer tau pib`` is ``--tracer tau --tracer pib``.
    """
    plain: list[str] = []
    repeated: str | None = None
    for argument in arguments:
        if argument.startswith("--"):
            name, equals, value = argument.partition("=")
            name = name.replace("_", "-")
            plain.append(name + equals + value)
            repeated = name if name in LIST_OPTIONS and not equals else None
        elif repeated is not None and plain[-1] != repeated:
            plain += [repeated, argument]
        else:
            plain.append(argument)
    return plain


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    given = normalise(sys.argv[1:] if arguments is None else arguments)
    try:
        app(args=given, prog_name="relapet")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    except Exception as error:
        if "--debug" in given:
            traceback.print_exc()
        elif isinstance(error, RelapetError):
            print(f"relapet: error: {error}", file=sys.stderr)
        else:
            kind = type(error).__name__
            print(
                f"relapet: unexpected error: {kind}: {error}; run again with --debug to see where.",
                file=sys.stderr,
            )
        if isinstance(error, Stopped):
            return 128 + error.signal_number
        return 2 if isinstance(error, InputError) else 1
    return 0


def entry_point() -> None:
    """Run the command line as a program."""
    sys.exit(main())
