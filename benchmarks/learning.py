"""What helps learning? Methods, presets and single switches, trained for equal seconds on one simulated cohort.

    python benchmarks/learning.py OUT                                   # a look: 4 mm, 20 s a case, three cases
    python benchmarks/learning.py OUT --grid 3mm --subjects 84 --seconds 900 --cases all --processes 2
    python benchmarks/learning.py OUT --case wide fast method.generator.channels=[32,64,128] --cases wide
    python benchmarks/learning.py --list                                # every case and its settings

A case is a preset (or a YAML file) of any method, and single settings over it; --case adds one of your own. Each
is trained for the steps that fit in ``--seconds`` at its own measured cost of a step, so that what else the machine
does changes nothing: on a CPU each case has one thread and its cost is processor time, on a GPU it is elapsed
time. What is fitted in closed form comes on top and is reported. Every case then synthesises the same held-out
subjects with the same number of network calls and is scored in SUVr. A case that is done is not run again: the
same command goes on after an interruption. Writes OUT/learning.md, learning.tsv, learning.png (validation error in
training) and differences.png.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd
from equal_seconds.cases import cases_of, chosen_cases
from equal_seconds.figures import draw_curves, draw_differences
from equal_seconds.loop import is_done, run_case, run_cases
from equal_seconds.tables import markdown, rows

from relapet import api
from relapet.errors import InputError
from relapet.imaging.grid import GRIDS, get_grid
from relapet.simulation.cohort import SimulationConfig


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, nargs="?", default=Path("learning-output"))
    parser.add_argument(
        "--cases", nargs="+", metavar="NAME", default=["linear", "regression"], help="or: all"
    )
    parser.add_argument(
        "--case",
        nargs="+",
        action="append",
        default=[],
        metavar="WORD",
        help="a case of your own: NAME PRESET_OR_FILE KEY=VALUE ...; name it in --cases too",
    )
    parser.add_argument("--reference", default="fast", help="the case that the others are compared with")
    parser.add_argument("--grid", choices=GRIDS, default="4mm")
    parser.add_argument("--subjects", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=20, help="training time a case")
    parser.add_argument("--sample-steps", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1, help="cases at a time")
    parser.add_argument("--list", action="store_true", help="show every case and stop")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser


def main() -> None:
    options = _parser().parse_args()
    if options.one:
        run_case(options.one, options)
        return
    if options.list:
        for name, case in cases_of(options).items():
            print(f"{name:24} {case.preset} {' '.join(case.settings)}")
        return
    try:
        names = chosen_cases(options)
    except InputError as error:
        sys.exit(str(error))
    cohort = options.out / "cohort"
    if not cohort.exists():
        config = SimulationConfig(subjects=options.subjects, grid=get_grid(options.grid), seed=31)
        api.simulate(cohort, config, n_procs=options.processes)
    failed = run_cases(names, options)
    done = [name for name in names if is_done(options.out / name)]
    if options.reference in done:
        shown = list(dict.fromkeys([*done, "tracer_mean", "visible_ceiling"]))
        table = pd.DataFrame(rows(shown, options))
        table.to_csv(options.out / "learning.tsv", sep="\t", index=False)
        (options.out / "learning.md").write_text(text := markdown(table, shown, options), encoding="utf-8")
        draw_curves(done, options.out)
        draw_differences(table, done, options)
        print(text)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
