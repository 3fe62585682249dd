"""Running the command line: every error becomes one sentence and an exit status."""

from __future__ import annotations

import logging
import os
import re
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import typer

from relapet.cli.command import CALL, app
from relapet.cli.words import option_words
from relapet.errors import InputError, RelapetError, Stopped
from relapet.locks import DISK
from relapet.messages import plain_text
from relapet.threads import wait_passively

_NO_MEMORY = re.compile("(can't|cannot) allocate memory|out of memory", re.IGNORECASE)
"""How torch says it, as a RuntimeError."""
_INTERRUPTED = 128 + signal.SIGINT


class _Terminated(BaseException):
    """SIGTERM came. As KeyboardInterrupt it is no Exception, so that nothing takes it for a failure of its own."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    wait_passively()  # before any command imports torch
    # Lightning tells each precision and process as it is set up; what matters of it stands in the settings.
    logging.getLogger("lightning_fabric.utilities").setLevel(logging.WARNING)
    # Programs that a command starts import nothing from the working folder, which may be someone's data set.
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    CALL.set(shlex.join(["relapet", *given]))
    try:
        with _sigterm_as_exception():
            status = app(args=given, prog_name="relapet", standalone_mode=False)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    except typer.Abort:
        status = _INTERRUPTED
    except _Terminated:
        print("relapet: stopped by SIGTERM; files are written whole or not at all.", file=sys.stderr)
        return 128 + signal.SIGTERM
    except Exception as error:
        if "--debug" in given:
            traceback.print_exc()
        elif sentence := _sentence(error):
            print(f"relapet: error: {plain_text(sentence)}", file=sys.stderr)
        return _status(error)
    if status == _INTERRUPTED:
        print("relapet: stopped by Ctrl-C; files are written whole or not at all.", file=sys.stderr)
    return status if isinstance(status, int) else 0


@contextmanager
def _sigterm_as_exception() -> Iterator[None]:
    """Let SIGTERM, as queues send before their time limit, unwind the work as Ctrl-C does, and clean up behind it."""
    if threading.current_thread() is not threading.main_thread():  # where Python takes no handlers
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, before)  # a second one does not wait
        raise _Terminated

    before = signal.signal(signal.SIGTERM, end) or signal.SIG_DFL
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _sentence(error: Exception) -> str:
    """What the user is told, on one line; nothing where the parser has told it already."""
    if isinstance(error, RelapetError):
        return option_words(str(error))
    if hasattr(error, "format_message"):  # the parser's own errors, of a class that typer keeps to itself
        return _usage(error)
    if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
        return "There is not enough memory; use a coarser grid, fewer processes or a larger machine."
    if isinstance(error, OSError) and error.errno in DISK:
        where = f"{error.filename} cannot" if error.filename else "A file cannot"
        return (
            f"{where} be written ({error.strerror}); free some space or choose another folder, and run again."
        )
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename} cannot be read or written ({error.strerror}); check it, and run again."
    return f"unexpected {type(error).__name__}: {error}; run again with --debug to see where."


def _usage(error: Any) -> str:
    from pydantic import ValidationError

    from relapet.settings import meant, refusal

    if type(error).__name__ == "NoArgsIsHelpError":
        return ""
    parameter, cause = getattr(error, "param", None), error.__cause__
    if parameter is not None and isinstance(cause, ValidationError):  # whose words newer typers pass on
        name = parameter.opts[0] if parameter.param_type_name == "option" else parameter.name.upper()
        return f"{name} {refusal(cause.errors(include_url=False)[0])}"
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "relapet"
    message = " ".join(str(error.format_message()).split())
    if getattr(error, "possibilities", None) and getattr(error, "option_name", None):
        message = f"No such option: {error.option_name}{meant(error.option_name, error.possibilities)}"
    if parameter is not None and parameter.name == "level" and "Missing" in message:
        told = (
            "Missing argument LEVEL: the word participant, as for every BIDS App, goes after the two folders"
        )
        return f"{told}; see {path} --help."
    see = f"see {path} --help."
    return f"{message} {see.capitalize()}" if message.endswith("?") else f"{message.rstrip('.')}; {see}"


def _status(error: Exception) -> int:
    if isinstance(error, Stopped):
        return 128 + error.signal_number
    return 2 if isinstance(error, InputError) or hasattr(error, "format_message") else 1


def entry_point() -> None:
    """Run the command line as a program."""
    sys.exit(main())
