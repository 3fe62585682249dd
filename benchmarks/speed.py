"""How long does a synthetic PET take? The release, relapet's presets and the closed form, timed in one run.

    python benchmarks/speed.py                                       # a look: 8 mm, on this machine
    python benchmarks/speed.py --grids 3mm 2.5mm 1mm --out benchmarks/results/speed_cpu
    python benchmarks/speed.py --device cuda --grids 1mm --rows release fast_mean fast_8x4

Weights and MRI are random: time does not depend on their values. On a CPU each row runs in a process of its own, so
that its peak memory (the whole process, libraries included) is its own; on a GPU peak memory is what torch allocated.
A call or volume that takes longer than --seconds-limit is timed once, without one to warm up. The release's and
`paper`'s volume are their thousand calls times the median call. Writes OUT.md and OUT.tsv where --out is given.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relapet.files import atomic_path
from relapet.threads import limit_threads, wait_passively

if TYPE_CHECKING:
    import torch

_MARK = "RESULT "
"""Begins the line that a row's own process says its numbers on."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--grids", nargs="+", default=["8mm"], metavar="GRID")
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="default: all")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: the GPU where there is one")
    parser.add_argument("--threads", type=int)
    parser.add_argument(
        "--repeats", type=int, default=3, help="of each call and volume, after one to warm up"
    )
    parser.add_argument("--seconds-limit", type=float, default=60)
    parser.add_argument("--out", type=Path, help="OUT.md and OUT.tsv are written")
    parser.add_argument("--one", nargs=2, metavar=("ROW", "GRID"), help=argparse.SUPPRESS)
    return parser


def _in_own_process(row: str, grid: str, options: argparse.Namespace) -> dict[str, Any]:
    """A row's numbers from a process of its own; where that is killed, the row says so."""
    command = [sys.executable, __file__, "--device", "cpu", "--one", row, grid]
    command += ["--repeats", str(options.repeats), "--seconds-limit", str(options.seconds_limit)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    found = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
    if done.returncode or not found:
        why = f"its process ended with status {done.returncode}" + " (out of memory?)" * (
            done.returncode == -9
        )
        return {"row": row, "grid": grid, "failed": why}
    result: dict[str, Any] = json.loads(found[-1].removeprefix(_MARK))
    return result


def _all_rows(options: argparse.Namespace, device: torch.device) -> None:
    from inference_speed.machine import describe_machine, matmul_rates
    from inference_speed.rows import ROWS
    from inference_speed.table import completed, markdown, tsv
    from inference_speed.timing import time_row

    rates = matmul_rates(device)
    machine = describe_machine(device, rates)
    print(machine, flush=True)
    names = options.rows or [name for name, row in ROWS.items() if device.type in row.devices]
    results: list[dict[str, Any]] = []
    for grid in options.grids:
        for name in names:
            if device.type == "cpu":
                results.append(_in_own_process(name, grid, options))
            else:
                results.append(time_row(name, grid, device, options.repeats, options.seconds_limit))
            print(json.dumps(results[-1]), file=sys.stderr, flush=True)
            rows = completed(results, rates)
            if options.out:  # anew after each row: a long run that is stopped keeps what it has
                options.out.parent.mkdir(parents=True, exist_ok=True)
                for suffix, text in ((".md", markdown(rows, machine)), (".tsv", tsv(rows))):
                    with atomic_path(options.out.with_name(options.out.name + suffix)) as path:
                        path.write_text(text, encoding="utf-8")
    print("\n" + markdown(completed(results, rates), machine))


def main() -> None:
    """Time every row on every grid and print one table."""
    options = _parser().parse_args()
    wait_passively()
    limit_threads(options.threads)

    from inference_speed.rows import ROWS
    from inference_speed.timing import time_row

    from relapet.hardware import find_device
    from relapet.imaging.grid import GRIDS

    for given, known in ((options.grids, GRIDS), (options.rows or [], ROWS)):
        unknown = [name for name in given if name not in known]
        if unknown:
            sys.exit(f"Unknown: {' '.join(unknown)}; choose of {', '.join(known)}.")
    device = find_device(options.device)
    if options.one:
        row, grid = options.one
        print(_MARK + json.dumps(time_row(row, grid, device, options.repeats, options.seconds_limit)))
        return
    _all_rows(options, device)


if __name__ == "__main__":
    main()
