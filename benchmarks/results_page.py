"""Comparisons that `relapet benchmark` made, and what they say in plain words, as one page.

    python benchmarks/results_page.py "All methods=comparison" "Ablations=ablation" --words benchmarks/results/words.md
        --out benchmarks/RESULTS.md

Each comparison is its own summary.md: revision, hardware, budget, people and date stand in it. Names of folders are
left of their paths. What the words say is written by hand, for these tables: read them against each other.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from relapet import api
from relapet.benchmarking import BenchmarkConfig, benchmark
from relapet.errors import InputError
from relapet.files import read_json, write_text
from relapet.imaging.grid import GRIDS
from relapet.simulation.cohort import SimulationConfig

_HEADING = re.compile(r"^(#+) ", re.MULTILINE)


def page(comparisons: Sequence[tuple[str, Path]], words: str) -> str:
    """The words, then each comparison under its title; raises InputError for a folder without a summary."""
    parts = [f"{words.strip()}\n"]
    for title, folder in comparisons:
        parts.append(f"## {title}\n\n{_below(_told(folder))}")
    return "\n".join(parts)


def _told(folder: Path) -> str:
    """A comparison's summary without its title and without paths."""
    summary, facts = folder / "summary.md", folder / "summary.json"
    if not summary.is_file() or not facts.is_file():
        raise InputError(f"{folder} holds no finished comparison; run relapet benchmark first.")
    text = summary.read_text(encoding="utf-8").partition("\n")[2].strip() + "\n"
    told = read_json(facts)
    for path in (told["derivatives"], told["external"], str(folder.resolve())):
        text = text if path is None else text.replace(path, Path(path).name)
    return text


def _below(text: str) -> str:
    """Headings a level lower: the page has titles above them."""
    return _HEADING.sub(r"#\1 ", text)


def _named(text: str) -> tuple[str, Path]:
    title, equals, folder = text.rpartition("=")
    if not equals or not title:
        raise argparse.ArgumentTypeError(f"{text!r} is not TITLE=FOLDER")
    return title, Path(folder)


def _small(folder: Path) -> Path:
    """A comparison of seconds: two closed forms, ten people."""
    cohort = api.simulate(folder / "cohort", SimulationConfig(subjects=10, grid=GRIDS["8mm"], seed=1))
    told = BenchmarkConfig(methods=("tracer_mean", "linear"), budget_samples=3, test_fraction=0.4)
    return benchmark(cohort, folder / "comparison", told).out


def main() -> None:
    """Write the page, or print one of a small comparison where none is given."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("comparisons", nargs="*", type=_named, metavar="TITLE=FOLDER")
    parser.add_argument("--words", type=Path, help="Markdown that comes first")
    parser.add_argument("--out", type=Path, help="default: printed")
    given = parser.parse_args()
    words = "" if given.words is None else given.words.read_text(encoding="utf-8")
    if given.comparisons:
        text = page(given.comparisons, words)
    else:
        with tempfile.TemporaryDirectory() as folder:
            text = page([("Two closed forms", _small(Path(folder)))], words)
    if given.out is None:
        print(text)
    else:
        write_text(given.out, text)


if __name__ == "__main__":
    main()
