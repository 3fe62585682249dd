"""How many threads may be used, by affinity, control groups and SLURM; how they wait."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from relapet import threads
from relapet.errors import InputError
from relapet.threads import available_cores, cgroup_quota, limit_threads, side_by_side, wait_passively


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/job", {"job/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/job", {"job/cpu.max": "max 100000\n"}, None),
        ("0::/job/step", {"job/step/cpu.max": "max 100000", "job/cpu.max": "400000 100000"}, 4.0),
        ("0::/job/step", {"job/step/cpu.max": "300000", "cpu.max": "200000 100000"}, 2.0),
        ("0::/", {"cpu.max": "50000 100000"}, 0.5),
        ("0::/../../other", {"cpu.max": "200000 100000"}, 2.0),
        ("0::/gone", {}, None),
        ("0::/job", {"job/cpu.max": "garbage"}, None),
        (
            "5:cpu,cpuacct:/docker/x",
            {
                "cpu,cpuacct/docker/x/cpu.cfs_quota_us": "250000\n",
                "cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000\n",
            },
            2.5,
        ),
        (
            "3:cpuset:/a\n2:cpu:/a",
            {"cpu/a/cpu.cfs_quota_us": "-1\n", "cpu/a/cpu.cfs_period_us": "100000\n"},
            None,
        ),
        (
            "2:cpu:/docker/x\n0::/",  # the container sees its own group as the root
            {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            3.0,
        ),
        ("", {}, None),
    ],
)
def test_the_quota_of_control_groups(
    own: str, files: dict[str, str], cores: float | None, tmp_path: Path
) -> None:
    assert cgroup_quota(write(tmp_path, files), own) == cores


@pytest.fixture
def sixteen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with 16 cores and no limits; the folder of its control groups."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    monkeypatch.setattr(threads, "_CGROUPS", tmp_path)
    monkeypatch.setattr(threads, "_OWN_CGROUPS", tmp_path / "own")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    (tmp_path / "own").write_text("0::/job\n")
    return tmp_path


def test_the_least_of_all_limits_holds(sixteen: Path) -> None:
    assert available_cores({}) == 16
    assert available_cores({"SLURM_CPUS_PER_TASK": "8"}) == 8
    assert available_cores({"SLURM_CPUS_PER_TASK": "64"}) == 16
    assert available_cores({"SLURM_CPUS_PER_TASK": "many"}) == 16
    write(sixteen, {"job/cpu.max": "350000 100000"})
    assert available_cores({"SLURM_CPUS_PER_TASK": "8"}) == 3
    write(sixteen, {"job/cpu.max": "50000 100000"})
    assert available_cores({}) == 1


def test_threads_are_set_unless_the_user_has(sixteen: Path) -> None:
    environment: dict[str, str] = {}
    assert limit_threads(environment=environment) == 16
    assert environment == {"OMP_NUM_THREADS": "16"}
    environment = {"OMP_NUM_THREADS": "3"}
    assert limit_threads(environment=environment) == 3
    assert limit_threads(5, environment=environment) == 5
    assert environment == {"OMP_NUM_THREADS": "5"}
    assert limit_threads(processes=4, environment={}) == 4
    assert limit_threads(processes=40, environment={}) == 1
    # Under SLURM each task has its own cores.
    slurm = {"SLURM_CPUS_PER_TASK": "8", "SLURM_NTASKS": "4"}
    assert limit_threads(processes=4, environment=slurm) == 8
    with pytest.raises(InputError, match="`threads` is 0; give 1 or more"):
        limit_threads(0, environment={})


def test_waiting_threads_sleep_unless_the_user_has_said_how_they_wait() -> None:
    environment: dict[str, str] = {}
    wait_passively(environment)
    assert environment == {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
    for name in ("OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT"):
        environment = {name: "mine"}
        wait_passively(environment)
        assert environment == {name: "mine"}


def test_the_policy_is_set_before_torch_is_imported() -> None:
    code = (
        "import os, sys\n"
        "import relapet\n"
        "relapet.train\n"
        "assert 'torch' not in sys.modules\n"
        "print(os.environ['OMP_WAIT_POLICY'])\n"
    )
    clean = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "KMP_BLOCKTIME")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=clean, check=False
    )
    assert done.stdout.strip() == "PASSIVE", done.stderr


@pytest.mark.parametrize("count", ["1", "4"])
def test_work_side_by_side_keeps_its_order_and_its_faults(
    count: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", count)
    seen = set()

    def work(item: int) -> int:
        seen.add(threading.get_ident())
        time.sleep(0.01)
        return 1 // item

    assert side_by_side(work, [1, 2, 1, 3, 4, 1]) == [1, 0, 1, 0, 0, 1]
    assert (len(seen) > 1) == (count == "4")
    assert side_by_side(work, []) == []
    with pytest.raises(ZeroDivisionError):
        side_by_side(work, [1, 0])
