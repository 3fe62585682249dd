"""Simulate ten people with T1w, FLAIR and three tracers, and look at one of them.

    python examples/01_simulate.py example-output

The examples 01 to 06 work one after another in the same folder, each in less than a minute on one core.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel as nib
import numpy as np

import relapet
from relapet.imaging.bids import index_derivative
from relapet.imaging.grid import get_grid
from relapet.simulation.cohort import SimulationConfig

SUBJECTS, GRID = 10, "8mm"  # 4mm, 3mm or 2.5mm for something to look at


def main(folder: Path) -> None:
    """Write ``cohort`` and print the mean SUVr of each tracer of the first person."""
    cohort = relapet.simulate(
        folder / "cohort", SimulationConfig(subjects=SUBJECTS, grid=get_grid(GRID), seed=1)
    )
    first = index_derivative(cohort)[0]
    brain = np.asarray(nib.load(first.mask).dataobj) > 0
    for tracer, path in first.pet.items():
        suvr = np.asarray(nib.load(path).dataobj)
        print(f"{first.visit.stem} {tracer}: mean SUVr in the brain {suvr[brain].mean():.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "example-output"))
