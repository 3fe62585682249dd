"""How many threads may be used here, and that those which wait do not burn the cores. Needs no torch.

OpenMP's threads spin while they wait for each other: with one other busy process on two cores a training step
takes 6 to 16 times as long. `wait_passively` and `limit_threads` must be called before torch is imported, because
the libraries read these variables as they are loaded.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from relapet.errors import InputError

T = TypeVar("T")
R = TypeVar("R")
_PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
"""Sleep at a barrier instead of spinning: GNU's OpenMP reads the first, Intel's and LLVM's the second."""
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


def wait_passively(environment: MutableMapping[str, str] | None = None) -> None:
    """Let waiting threads sleep, unless the user has set how they wait."""
    variables = os.environ if environment is None else environment
    if not any(name in variables for name in (*_PASSIVE, "GOMP_SPINCOUNT")):
        variables.update(_PASSIVE)


def limit_threads(
    count: int | None = None, processes: int = 1, environment: MutableMapping[str, str] | None = None
) -> int:
    """Set the threads of each process of this machine; returns their number.

    ``count`` None: OMP_NUM_THREADS where the user has set it, else `available_cores` shared among ``processes``.
    Raises InputError for a number below 1.
    """
    variables = os.environ if environment is None else environment
    if count is not None and count < 1:
        raise InputError(f"`threads` is {count}; give 1 or more.")
    told = _number(variables, "OMP_NUM_THREADS")
    if count is None and told > 0:
        return told
    if _number(variables, "SLURM_NTASKS") > 1:
        processes = 1  # SLURM starts the processes and counts the cores of each
    count = count or max(1, available_cores(variables) // max(1, processes))
    variables["OMP_NUM_THREADS"] = str(count)
    if "torch" in sys.modules:  # it has read the variable already
        sys.modules["torch"].set_num_threads(count)
    return count


def allowed_threads() -> int:
    """The threads that `limit_threads` has set, or that the user has; all cores where neither was."""
    return _number(os.environ, "OMP_NUM_THREADS") or available_cores()


def side_by_side(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """``work`` of each item in as many threads as are allowed; for NumPy and SciPy, which let others run meanwhile.

    The results are the same, in the same order, for any number of threads.
    """
    count = min(allowed_threads(), len(items))
    if count < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, items))


def available_cores(environment: MutableMapping[str, str] | None = None) -> int:
    """Cores that this process may use: of its affinity, its control group's quota and its job in SLURM the least."""
    variables = os.environ if environment is None else environment
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [float(affinity)]
    job = _number(variables, "SLURM_CPUS_PER_TASK")
    if job > 0:
        limits.append(float(job))
    quota = cgroup_quota(_CGROUPS, _read(_OWN_CGROUPS))
    if quota is not None:
        limits.append(quota)
    return max(1, math.floor(min(limits)))


def cgroup_quota(root: Path, own: str) -> float | None:
    """Cores that control groups (version 1 or 2) allow; None where they set no limit.

    ``root``: where they are mounted; ``own``: the text of /proc/self/cgroup, lines ``ID:CONTROLLERS:PATH``. A limit
    of any group above the own one holds too. https://docs.kernel.org/admin-guide/cgroup-v2.html, cpu.max;
    https://docs.kernel.org/scheduler/sched-bwc.html.
    """
    found: list[float] = []
    for line in own.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        names = controllers.split(",")
        if controllers == "":
            found += [q for folder in _upwards(root, path) if (q := _quota_v2(_read(folder / "cpu.max")))]
        elif "cpu" in names:
            for mount in (root / controllers, root / "cpu"):
                for folder in _upwards(mount, path):
                    quota = _quota_v1(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))
                    found += [] if quota is None else [quota]
    return min(found, default=None)


def _number(variables: MutableMapping[str, str], name: str) -> int:
    """A variable's whole number, the first of a list; 0 where it is not set or no number."""
    first = variables.get(name, "").partition(",")[0].strip()
    return int(first) if first.isdecimal() else 0


def _upwards(root: Path, path: str) -> list[Path]:
    """The folder of a group and those of all above it; in a container the own group may be mounted as the root."""
    relative = Path(path.lstrip("/"))
    if ".." in relative.parts:
        relative = Path()
    return [root / part for part in (relative, *relative.parents)]


def _quota_v2(text: str) -> float | None:
    quota, _, period = text.strip().partition(" ")
    return _ratio(quota, period or "100000")


def _quota_v1(quota: str, period: str) -> float | None:
    return _ratio(quota.strip(), period.strip())


def _ratio(quota: str, period: str) -> float | None:
    """None for ``max``, for -1 and for text that is no number: no limit."""
    if not quota.isdecimal() or not period.isdecimal() or int(quota) == 0 or int(period) == 0:
        return None
    return int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
