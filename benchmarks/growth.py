"""How do time and memory grow with voxels, samples and participants? A table and a small plot.

    python benchmarks/growth.py                                          # a look: two people simulated first
    python benchmarks/speed.py --grids 8mm 4mm 3mm 2.5mm 1mm --rows fast_mean fast_4 --out SPEED
    python benchmarks/growth.py DERIVATIVE --speed SPEED.tsv --out benchmarks/results/growth_cpu

Voxels: the preset `fast` with random weights, from the table of benchmarks/speed.py. Samples and participants: the
command `relapet synthesize` with a model (the shipped one) on the first participants of a derivative, each in a process
of its own, everything included: imports, reading, writing, regional tables. Slope: of the logarithms, between the two
largest sizes; 1 is linear, less means that a fixed cost is shared. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from math import log, prod
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from relapet.imaging.derivatives import index_measured
from relapet.imaging.grid import get_grid
from relapet.simulation.cohort import SimulationConfig, simulate_cohort

COLUMNS = ("what", "size", "seconds", "peak_gib")


def by_voxels(table: Path) -> list[tuple[str, int, float, float]]:
    """Rows of `fast` in a table of benchmarks/speed.py, by the number of voxels."""
    speed = pd.read_csv(table, sep="\t")
    names = {"fast_mean": "voxels, mean map", "fast_4": "voxels, mean and one sample"}
    rows = speed[speed["row"].isin(names)]
    found = [
        (names[r.row], prod(get_grid(r.grid).shape), r.seconds_volume, r.peak_gib) for r in rows.itertuples()
    ]
    return sorted(found)


def by_command(
    derivative: Path, model: str, participants: Sequence[int], samples: Sequence[int], device: str
) -> list[tuple[str, int, float, float]]:
    """`relapet synthesize` with so many samples of one participant, and with its own samples of so many."""
    people = sorted({files.visit.subject for files in index_measured(derivative)})
    wanted = [("samples, one participant", n, 1, n) for n in samples]
    wanted += [("participants, 8 samples each", n, n, 8) for n in participants]
    found = []
    for what, size, count, drawn in wanted:
        with tempfile.TemporaryDirectory() as folder:
            command = [
                sys.executable,
                "-m",
                "relapet",
                "synthesize",
                str(derivative),
                f"{folder}/out",
                "participant",
            ]
            command += ["--model", model, "--samples", str(drawn), "--device", device, "--no-report"]
            command += ["--participant-label", *people[:count]]
            found.append((what, size, *measured(command)))
            print(*found[-1], file=sys.stderr, flush=True)
    return found


def measured(command: Sequence[str]) -> tuple[float, float]:
    """Seconds and peak resident memory in GiB of a command; raises CalledProcessError where it fails."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as told:
        process = subprocess.Popen(command, stdout=told, stderr=told)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        if status:
            told.seek(0)
            raise subprocess.CalledProcessError(status, command, told.read().decode(errors="replace"))
    return seconds, usage.ru_maxrss / 2**20


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Of the logarithms, between the two largest sizes."""
    return log(values[-1] / values[-2]) / log(sizes[-1] / sizes[-2])


def markdown(table: pd.DataFrame) -> str:
    """The table, and what it says of the largest sizes."""
    lines = ["| what | size | seconds | peak GiB |", "|---|---|---|---|"]
    lines += [f"| {r.what} | {r.size:,} | {r.seconds:.3g} | {r.peak_gib:.3g} |" for r in table.itertuples()]
    lines += ["", "| what | slope of seconds | slope of memory |", "|---|---|---|"]
    for what, rows in table.groupby("what", sort=False):
        seconds, memory = (slope(list(rows["size"]), list(rows[c])) for c in ("seconds", "peak_gib"))
        lines.append(f"| {what} | {seconds:.2f} | {memory:.2f} |")
    people = table[table["what"].str.startswith("participants")]
    if len(people) > 1:
        last, before = people.iloc[-1], people.iloc[-2]
        each = (last["seconds"] - before["seconds"]) / (last["size"] - before["size"])
        lines += [
            "",
            f"{each:.2f} s for each further participant: {3600 / each:,.0f} an hour in one process.",
        ]
    return "\n".join(lines)


def plot(table: pd.DataFrame) -> Figure:
    """Seconds and memory against size, both logarithmic, a column a kind of size."""
    kinds = list(dict.fromkeys(table["what"].str.partition(",")[0]))
    figure = Figure(figsize=(3.2 * len(kinds), 5), layout="constrained")
    axes = figure.subplots(2, len(kinds), squeeze=False)
    for column, kind in enumerate(kinds):
        for what, rows in table[table["what"].str.startswith(kind)].groupby("what", sort=False):
            for row, (name, title) in enumerate((("seconds", "seconds"), ("peak_gib", "peak memory (GiB)"))):
                axis = axes[row][column]
                axis.plot(rows["size"], rows[name], marker="o", label=str(what).partition(", ")[2])
                axis.set(xlabel=kind, ylabel=title, xscale="log", yscale="log" if row == 0 else "linear")
                axis.xaxis.set_minor_formatter(NullFormatter())
                if row == 0:
                    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                    axis.yaxis.set_minor_formatter(NullFormatter())
                else:
                    axis.set_ylim(bottom=0, top=1.1 * max(axis.get_ylim()[1], rows[name].max()))
                if rows["size"].max() < 1000:
                    axis.set_xticks(list(rows["size"]), [str(size) for size in rows["size"]])
                axis.grid(alpha=0.3, which="both")
                axis.legend(fontsize="x-small")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("derivative", type=Path, nargs="?", help="default: two people who are simulated")
    parser.add_argument(
        "--speed", type=Path, help="table of benchmarks/speed.py; without it voxels are left out"
    )
    parser.add_argument("--model", default="simulated")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--participants", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--samples", type=int, nargs="+", default=[2, 8])
    parser.add_argument("--out", type=Path, help="OUT.md, OUT.tsv and OUT.png are written")
    options = parser.parse_args()
    rows = [] if options.speed is None else by_voxels(options.speed)
    with tempfile.TemporaryDirectory() as folder:
        derivative = options.derivative
        if derivative is None:
            derivative = simulate_cohort(SimulationConfig(subjects=2, seed=1), Path(folder) / "cohort")
        rows += by_command(derivative, options.model, options.participants, options.samples, options.device)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    print(markdown(table))
    if options.out is not None:
        table.to_csv(options.out.with_suffix(".tsv"), sep="\t", index=False)
        options.out.with_suffix(".md").write_text(markdown(table) + "\n", encoding="utf-8")
        plot(table).savefig(options.out.with_suffix(".png"), dpi=120)


if __name__ == "__main__":
    main()
