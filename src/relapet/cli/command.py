"""What all commands share: the options that each has, options that take several values, and how they report."""

from __future__ import annotations

import inspect
import os
import sys
import tempfile
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from relapet.cli.words import option_words
from relapet.console import Terminal
from relapet.errors import InputError
from relapet.files import prepare_output_folder
from relapet.messages import plain_text
from relapet.shipped import shipped_models
from relapet.version import VERSION

app = typer.Typer(
    name="relapet",
    help="Quantitative synthetic brain PET (tau, TSPO, amyloid) from T1w + FLAIR MRI. Not for clinical use.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"relapet {VERSION}")
        raise typer.Exit


def grid_names() -> list[str]:
    """The grids, for completion."""
    from relapet.imaging.grid import GRIDS  # here, because it imports numpy

    return [*GRIDS]


def model_names() -> list[str]:
    """The models that come with the package, for completion; the shell itself adds none of its files to them."""
    return [*shipped_models()]


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say only warnings and errors.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback on errors.")]
Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
]
Participants = Annotated[
    list[str] | None,
    typer.Option("--participant-label", help="Participants, with or without sub- (default: all)."),
]
Sessions = Annotated[
    list[str] | None, typer.Option("--session-label", help="Sessions, with or without ses- (default: all).")
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="CPU threads of each process (default: the cores that it may use); also --n-cpus, --nthreads.",
    ),
]
Processes = Annotated[
    int | None,
    typer.Option(min=1, help="Processes (default: all cores); also --n-cpus, --nthreads."),
]
WorkFolder = Annotated[
    Path | None,
    typer.Option("--work-dir", "-w", help="Folder for temporary files (default: the system's)."),
]
Level = Annotated[
    str,
    typer.Argument(help="Analysis level of a BIDS App: participant.", autocompletion=lambda: ["participant"]),
]
GridName = Annotated[
    str, typer.Option(help="1mm, 2.5mm, 3mm, 4mm or, to try things out, 8mm.", autocompletion=grid_names)
]
Model = Annotated[
    str,
    typer.Option(
        help="Run folder of a trained model, or the name of a shipped one (info models).",
        autocompletion=model_names,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Do again what is done and unchanged.")]


@app.callback()
def _root(
    context: typer.Context, quiet: Quiet = False, debug: Debug = False, version: Version = False
) -> None:
    """Quantitative synthetic brain PET (tau, TSPO, amyloid) from T1w + FLAIR MRI. Not for clinical use."""
    context.obj = quiet


CALL: ContextVar[str | None] = ContextVar("CALL", default=None)
"""The command line as it was typed, for what a report says of where it comes from."""

NoReport = Annotated[
    bool, typer.Option("--no-report", help="Leave out report.html, the page that shows what was written.")
]


@dataclass(frozen=True)
class Command:
    """A command before it is registered."""

    work: Callable[..., None]
    """Takes a ``terminal`` and what its signature declares."""
    epilog: str
    name: str

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Do the work."""
        self.work(*args, **kwargs)


def command(epilog: str) -> Callable[[Callable[..., None]], Command]:
    """Turn a function with a ``terminal`` into a command; ``epilog`` gives examples."""

    def describe(work: Callable[..., None]) -> Command:
        return Command(work, epilog, work.__name__.replace("_", "-"))

    return describe


def register(given: Command) -> None:
    """Give a command the shared options, before or after its name on the line, and add it to the app."""
    hints = typing.get_type_hints(given.work, include_extras=True)
    own = [
        p.replace(annotation=hints[name])
        for name, p in inspect.signature(given.work).parameters.items()
        if name != "terminal"
    ]
    shared = {"quiet": Quiet, "debug": Debug, "version": Version}
    keyword = inspect.Parameter.KEYWORD_ONLY
    context = inspect.Parameter("context", keyword, annotation=typer.Context)
    more = [inspect.Parameter(name, keyword, default=False, annotation=kind) for name, kind in shared.items()]

    @wraps(given.work)
    def run(*, context: typer.Context, quiet: bool, debug: bool, version: bool, **values: Any) -> None:
        given.work(terminal=Terminal(quiet or bool(context.obj), option_words), **values)

    parameters = [*(p.replace(kind=keyword) for p in own), *more, context]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    app.command(given.name, cls=ListCommand, epilog=given.epilog)(run)


class ListCommand(TyperCommand):
    """A command that takes what users type: ``--tracer tau pib`` and ``--participant_label 01``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments, rewritten by `spread`; raises InputError for an empty one."""
        if "" in args:  # which pathlib would take for the present folder
            raise InputError("An argument is empty, perhaps a variable that is not set; give its value.")
        several = {name for p in self.params if getattr(p, "multiple", False) for name in p.opts}
        return super().parse_args(ctx, spread(args, several, self._other_names()))

    def _other_names(self) -> dict[str, str]:
        """What other BIDS Apps call options of this command."""
        own = {name for p in self.params for name in p.opts}
        found = {}
        for other, meant in OTHER_APPS.items():
            here = [name for name in meant if name in own]
            if other not in own and here:
                found[other] = here[0]
        return found


OTHER_APPS = {
    "--n-cpus": ("--n-procs", "--threads"),
    "--nprocs": ("--n-procs", "--threads"),
    "--nthreads": ("--n-procs", "--threads"),
    "--omp-nthreads": ("--threads", "--n-procs"),
}
"""Names of options in other BIDS Apps (fMRIPrep, sMRIPrep, QSIPrep), and relapet's, the first that a command has."""


def spread(arguments: Iterable[str], several: set[str], others: Mapping[str, str] | None = None) -> list[str]:
    """Rewrite what users type into what the parser takes.

    ``--participant_label`` is ``--participant-label``, one of the ``others`` what it stands for, and
    ``--tracer tau pib`` is ``--tracer tau --tracer pib`` for the options that take ``several`` values; the next option,
    long or short, ends the values.
    """
    plain: list[str] = []
    rest = iter(arguments)
    repeated: str | None = None
    for argument in rest:
        if argument == "--":
            return [*plain, argument, *rest]
        if argument.startswith("--"):
            name, equals, value = argument.partition("=")
            name = name.replace("_", "-")
            name = (others or {}).get(name, name)
            plain.append(name + equals + value)
            repeated = name if name in several and not equals else None
        elif repeated is None or plain[-1] == repeated:
            plain.append(argument)
        elif argument.startswith("-") and len(argument) > 1:
            plain.append(argument)
            repeated = None
        else:
            plain += [repeated, argument]
    return plain


def use_work_folder(folder: Path | None) -> None:
    """Let this process and those that it starts keep their temporary files in a folder, which is made."""
    if folder is not None:
        prepare_output_folder(folder)
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder.resolve())


def check_level(level: str) -> None:
    """Raise InputError for any analysis level of a BIDS App but participant."""
    if level != "participant":
        raise InputError(f"The analysis level {level!r} is not known; relapet has only: participant.")


def were_done(unchanged: int) -> str:
    """What a summary adds of visits that were done before; nothing where there are none."""
    return f", {unchanged} {'was' if unchanged == 1 else 'were'} done and unchanged" if unchanged else ""


def exit_for_failures(failed: Mapping[str, str]) -> None:
    """Name what failed and why, and end with status 1; does nothing where nothing failed."""
    if failed:
        print(f"relapet: {len(failed)} failed:", file=sys.stderr)
        for name, reason in failed.items():
            told = reason if reason.startswith((f"{name}:", f"{name} ")) else f"{name}: {reason}"
            print(f"  {plain_text(option_words(told))}", file=sys.stderr)
        raise typer.Exit(1)


def show_evaluation(terminal: Terminal, out: Path) -> None:
    """Show an evaluation's summary and say where it lies."""
    terminal.show_markdown((out / "summary.md").read_text(encoding="utf-8"))
    terminal.say(f"Tables and figures written to {out}.")


def as_set(value: object) -> str:
    """A setting's value as --set takes it."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(as_set, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def show_settings(terminal: Terminal, settings: Sequence[tuple[str, Any, str]]) -> None:
    """Show settings: dotted key, value as --set takes it, meaning."""
    rows = [
        ("setting", "value", "meaning"),
        *((key, as_set(value), meaning) for key, value, meaning in settings),
    ]
    terminal.show_table(rows)
