"""Read the regional tables of a derivative, and count the intervals that hold the measured value.

python examples/05_regions.py example-output
"""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from relapet.imaging.bids import index_derivative
from relapet.imaging.grid import find_grid
from relapet.imaging.template import load_atlas
from relapet.tracers import get_tracer


def main(folder: Path) -> None:
    """Print, for each tracer, the share of regional intervals that hold what was measured."""
    for name in ("pbr28", "pib", "tau"):
        tracer, held, count = get_tracer(name), 0, 0
        for files in index_derivative(folder / "synthetic_rela", "synth"):
            visit = files.visit
            table = pd.read_csv(
                visit.voi_table(folder / "synthetic_rela", tracer, "synth"), sep="\t", na_values="n/a"
            )
            image = nib.load(visit.pet(folder / "cohort", tracer))
            grid = find_grid(image.shape, image.affine)
            assert grid is not None
            measured = load_atlas(grid).means(np.asarray(image.dataobj, dtype=np.float32))
            for row in table.dropna(subset=["index", "low"]).itertuples():
                held += bool(row.low <= measured[int(row.index)] <= row.high)
                count += 1
        print(f"{name}: {held} of {count} intervals hold the measured regional SUVr")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "example-output"))
