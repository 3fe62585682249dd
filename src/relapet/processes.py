"""The same work for every subject, in this process or in several of one thread each."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from relapet.errors import InputError, RelapetError

T = TypeVar("T")

_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
"""Variables that libraries read, once and as they are loaded, for their number of threads."""
_WATCH_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1
"""Linux, prctl(2): the signal that a process gets when its parent dies."""


def each_index(
    work: Callable[[int], T],
    count: int,
    n_procs: int,
    on_killed: Callable[[int], T] | None = None,
    apart: bool = False,
) -> Iterator[tuple[int, T]]:
    """Call ``work`` for 0 to ``count`` - 1; yield each index with its result as it is done.

    With several processes ``work`` and its results must pickle, and each process has one thread. They end with this
    process, however it ends, and at once where the caller stops early; with them go their temporary files. ``apart``:
    a single process is another one than this too, which so can answer Ctrl-C whatever the work does; it has as many
    threads as this one. ``on_killed`` gives the result of an index
    whose process was killed. Raises InputError for fewer than one process, RelapetError for a killed process where
    there is no ``on_killed``, and what ``work`` raises.
    """
    check_process_count(n_procs)
    if n_procs == 1 and not apart:
        for index in range(count):
            yield index, work(index)
        return
    with tempfile.TemporaryDirectory(prefix="relapet-") as temporary:
        variables = {"PYTHONSAFEPATH": "1", "TMPDIR": temporary}
        if n_procs > 1:
            variables |= dict.fromkeys(_THREADS, "1")
        yield from _in_pool(work, count, n_procs, on_killed, variables)


def _in_pool(
    work: Callable[[int], T],
    count: int,
    n_procs: int,
    on_killed: Callable[[int], T] | None,
    variables: Mapping[str, str],
) -> Iterator[tuple[int, T]]:
    before = set(multiprocessing.active_children())
    # spawn: a forked child of a process that has threads (torch, BLAS) may hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        min(n_procs, count), mp_context=context, initializer=_start_worker, initargs=(os.getpid(),)
    )
    try:
        with _environment_of_workers(variables), _without_interrupts():
            jobs = {pool.submit(work, index): index for index in range(count)}
        for job in as_completed(jobs):
            try:
                result = job.result()
            except BrokenProcessPool as error:
                if on_killed is None:
                    raise RelapetError(
                        "A process was killed, probably for memory; work with fewer processes."
                    ) from error
                result = on_killed(jobs[job])
            yield jobs[job], result
    except BaseException:
        # Ctrl-C, an error, or a caller that stops: nobody waits for what the processes are at.
        for process in set(multiprocessing.active_children()) - before:
            process.kill()
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()


def check_process_count(n_procs: int) -> None:
    """Raise InputError for fewer than one process."""
    if n_procs < 1:
        raise InputError(f"n_procs (--n-procs) is {n_procs}; give 1 or more.")


@contextmanager
def _environment_of_workers(variables: Mapping[str, str]) -> Iterator[None]:
    """Processes started within have these variables."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Ctrl-C, which reaches all processes of a terminal, waits, as for those started within until they listen."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _start_worker(parent: int) -> None:
    """Leave Ctrl-C to the parent, and end when it is gone."""
    # A handler, for SIG_IGN would be inherited by the programs that a process calls.
    signal.signal(signal.SIGINT, lambda *_: None)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # see `_without_interrupts`
    end_with(parent)


def end_with(parent: int) -> None:
    """Have this process end, whatever it does, when the process of this number, which started it, is gone."""
    if sys.platform == "linux":
        # The kernel's signal arrives even while compiled code keeps the watching thread from running.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os._exit(1)
