"""The whole comparison: a process a case, so that one that fails does not end the others; then the tables."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relapet.benchmarking.case import CaseFolder, Job
from relapet.benchmarking.config import BenchmarkConfig, compose_methods
from relapet.benchmarking.cost import on_gpu
from relapet.benchmarking.summary import Finished, write_results
from relapet.config import RunConfig
from relapet.errors import InputError, RelapetError
from relapet.evaluation.statistics import Sampling
from relapet.files import (
    prepare_output_folder,
    read_json,
    refuse_inside,
    require_empty_or_own,
    require_folder,
    unless_refused,
    visible,
    write_json,
)
from relapet.locks import locked
from relapet.messages import Messages, Silent, counted
from relapet.processes import check_process_count
from relapet.version import VERSION

_POLL_SECONDS = 0.2
_ADDED = ("methods", "seeds", "bootstrap")
"""What a comparison that goes on may be given anew: more of them are added to it."""


@dataclass(frozen=True)
class Benchmark:
    """What a benchmark left: its folder with tables and summary.md, and which cases failed and why."""

    out: Path
    failed: dict[str, str]
    """By method and seed."""


def benchmark(
    derivatives: str | Path,
    out: str | Path,
    config: BenchmarkConfig,
    external: str | Path | None = None,
    n_procs: int = 1,
    messages: Messages | None = None,
) -> Benchmark:
    """Train every method with every seed for the budget, judge all on the held-out people, and write the tables.

    ``external``: another derivative, of which nobody was trained on, where all are judged too. What is done in ``out``
    is not done again, and methods and seeds may be added to it. ``n_procs``: cases at a time. Raises InputError for an
    unusable call and RelapetError where no case could be finished; one that fails is in the result.
    """
    derivatives, out, messages = Path(derivatives), Path(out), messages or Silent()
    check_process_count(n_procs)
    methods = compose_methods(config)
    sources = [require_folder(derivatives)]
    if external is not None:
        sources.append(require_folder(Path(external), "external derivative"))
    refuse_inside(out, *sources)
    require_empty_or_own(out, _is_benchmark, "relapet benchmark")
    with unless_refused(out, _plan(out)), _held(out):
        told = config.model_dump(mode="json", exclude=set(_ADDED))
        told |= {"derivatives": str(derivatives.resolve())}
        told |= {"external": None if external is None else str(Path(external).resolve())}
        _begin(out, told)
        folders = _jobs(out, config, methods, told)
        failed = _run(folders, n_procs, messages)
        finished = _finished(out, list(methods))
        if not finished:
            raise RelapetError(f"No method could be finished; the first fault: {next(iter(failed.values()))}")
        write_results(out, told, finished, failed, Sampling(config.bootstrap, 0))
    return Benchmark(out, failed)


def _finished(out: Path, first: Sequence[str]) -> list[Finished]:
    """Every case in the folder that is done: the named methods in their order, then those of earlier calls."""
    cases = [Finished(CaseFolder(path.parent)) for path in sorted(out.glob("cases/*/seed-*/result.json"))]
    order = {name: number for number, name in enumerate(first)}
    return sorted(cases, key=lambda case: order.get(case.record["name"], len(order)))


def _plan(out: Path) -> Path:
    return out / "plan.json"


def _is_benchmark(out: Path) -> bool:
    if _plan(out).is_file():
        return "relapet_version" in read_json(_plan(out))
    return not visible(out)


@contextmanager
def _held(out: Path) -> Any:
    prepare_output_folder(out)
    with locked(out):
        yield


def _begin(out: Path, told: Mapping[str, Any]) -> None:
    """Note what all cases share; raises InputError where the folder was begun with anything else."""
    if _plan(out).is_file():
        before = read_json(_plan(out))
        for name, value in told.items():
            if before.get(name) != value:
                raise InputError(
                    f"{out} was begun with another `{name}`: {before.get(name)}, not {value}; give that one, or choose "
                    "another folder."
                )
        return
    write_json(_plan(out), {"relapet_version": VERSION, **told})


def _jobs(
    out: Path, config: BenchmarkConfig, methods: Mapping[str, RunConfig], told: Mapping[str, Any]
) -> list[CaseFolder]:
    """The folder of each case with its job, seed by seed, so that early results are of every method."""
    shared = {name: told[name] for name in ("derivatives", "external", "budget_seconds", "budget_samples")}
    folders = []
    for seed in config.seeds:
        for name, settings in methods.items():
            folder = CaseFolder(out / "cases" / name / f"seed-{seed}")
            job = Job(name=name, seed=seed, settings=settings, bootstrap=config.bootstrap, **shared)
            if folder.job.is_file() and not _same(folder.read_job(), job):
                raise InputError(
                    f"{folder.path} was begun with other settings of {name}; delete it, or choose another folder."
                )
            write_json(folder.job, job.model_dump(mode="json"))
            folders.append(folder)
    return folders


def _same(one: Job, other: Job) -> bool:
    left, right = (job.model_dump(mode="json", exclude={"bootstrap"}) for job in (one, other))
    return left == right


def _run(folders: Sequence[CaseFolder], n_procs: int, messages: Messages) -> dict[str, str]:
    """Run what is not done; why each failed, by method and seed."""
    failed: dict[str, str] = {}
    waiting = [folder for folder in folders if not folder.is_done()]
    if len(waiting) < len(folders):
        messages.say(f"{counted(len(folders) - len(waiting), 'case')} were done already.")
    with messages.track("benchmark", len(waiting)) as advance:
        done = 0

        def on_end(folder: CaseFolder, status: int) -> None:
            nonlocal done
            done += 1
            name = f"{folder.path.parent.name} {folder.path.name}"
            if status != 0 or not folder.is_done():
                failed[name] = _reason(folder, status)
                messages.warn(f"{name} failed: {failed[name]}")
            advance(done, name)

        _run_apart(waiting, n_procs, on_end)
    return failed


def _run_apart(
    folders: Iterable[CaseFolder], n_procs: int, on_end: Callable[[CaseFolder, int], None]
) -> None:
    """Run each case in a process of its own, some at a time; these end with this one, however it ends."""
    waiting = list(folders)
    running: dict[subprocess.Popen[bytes], CaseFolder] = {}
    try:
        while waiting or running:
            while waiting and len(running) < n_procs:
                folder = waiting.pop(0)
                running[_start(folder)] = folder
            for process in [process for process in running if process.poll() is not None]:
                on_end(running.pop(process), process.returncode)
            time.sleep(_POLL_SECONDS)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def _start(folder: CaseFolder) -> subprocess.Popen[bytes]:
    # Equal seconds are those of one thread; a GPU is fed by as many as there are.
    threads = {} if on_gpu() else {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "relapet.benchmarking", str(folder.path), str(os.getpid())]
    with folder.log.open("ab") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=log, env=os.environ | threads | {"PYTHONSAFEPATH": "1"}
        )


def _reason(folder: CaseFolder, status: int) -> str:
    """The last line that a case's process said, or that it was killed."""
    if status < 0:
        return f"its process was killed by signal {-status}, perhaps for memory; see {folder.log}"
    lines = folder.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else f"its process ended with status {status}; see {folder.log}"
