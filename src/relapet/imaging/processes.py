"""The same work for every subject, in one process or in several."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

from relapet.errors import InputError

T = TypeVar("T")


def each_index(work: Callable[[int], T], count: int, n_procs: int) -> Iterator[tuple[int, T]]:
    """Call ``work`` for 0 to ``count`` - 1; yield each index with its result as it is done.

    With several processes ``work`` and its results must pickle. Raises InputError for fewer than one process.
    """
    if n_procs < 1:
        raise InputError(f"--n-procs is {n_procs}; give 1 or more.")
    if n_procs == 1:
        for index in range(count):
            yield index, work(index)
        return
    # spawn: a forked child of a process that has threads (torch, BLAS) may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(n_procs, count), mp_context=context) as pool:
        jobs = {pool.submit(work, index): index for index in range(count)}
        for job in as_completed(jobs):
            yield jobs[job], job.result()
