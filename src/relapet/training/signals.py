"""Stopping training from outside: SIGTERM (as queues send before their time limit) and Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
ANSWER_SECONDS = 2.0
"""A step that ends sooner needs no word that it is waited for."""
_WAITING = "Training stops after this step, which is then saved; stop it again to lose the step."


@dataclass
class StopRequest:
    """The signal that asked training to stop; None as long as none has."""

    received: signal.Signals | None = None


@contextmanager
def stop_requests(tell: Callable[[str], None]) -> Iterator[StopRequest]:
    """Note the first SIGTERM or SIGINT instead of dying of it; a second one acts as it would have before.

    Where the work does not end within `ANSWER_SECONDS` of it, ``tell`` is told that it will.

    Outside the main thread Python takes no handlers: then nothing is noted.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    # Not from the handler, which may interrupt whatever writes to the terminal.
    answer = threading.Timer(ANSWER_SECONDS, tell, (_WAITING,))
    answer.daemon = True

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        request.received = signal.Signals(number)
        restore()
        answer.start()

    for number in _SIGNALS:
        signal.signal(number, note)
    try:
        yield request
    finally:
        restore()
        answer.cancel()
