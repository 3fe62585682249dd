"""What does a coarser grid lose of a 1 mm PET? PET brought down and up again, beside the scan's own noise.

    python benchmarks/resolution.py                              # simulates two people at 1 mm first
    python benchmarks/resolution.py --cohort COHORT --out benchmarks/results/resolution

PSNR in the template's brain on the 1 mm grid, in the tracer's SUVr window. `against measured` is what `evaluate` would
score of a model that knew the noise-free PET, or all that the MRI shows of it (visible), on that grid; what it lacks
to the same at 1 mm is the price of the grid. The measured PET shows what the grid leaves of the noise. Down: smoothed
so that nothing aliases, then sampled, as every image that relapet reads. Up: linear, and by cubic splines. Writes
OUT.md and OUT.tsv where --out is given.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from relapet import api
from relapet.evaluation.scores.image_metrics import ScanPair, psnr, radial_spectrum_db
from relapet.evaluation.statistics import bootstrap_mean
from relapet.files import atomic_path
from relapet.imaging.bids import Visit, find_visits
from relapet.imaging.grid import GRIDS, Grid
from relapet.imaging.resample import resample
from relapet.imaging.template import load_atlas, load_template
from relapet.report import text
from relapet.simulation.cohort import SimulationConfig
from relapet.tracers import TracerSpec, simulated_tracers
from relapet.types import Volume

FINE = GRIDS["1mm"]
COARSE = {
    "2mm": Grid("2mm", 2.0, (80, 92, 80)),  # no grid of relapet: 90 is no multiple of 4
    **{name: GRIDS[name] for name in ("2.5mm", "3mm", "4mm")},
}
UP = {"linear": 1, "cubic": 3}
"""Order of the spline that brings a grid up."""
PERIODS_MM = (16.0, 8.0)
"""Wavelengths at which the power that is left is told; PET resolves 4 to 8 mm."""
TRUTH = {"noise-free": "noisefree", "visible": "visible"}
MEASURED = "measured"


def down_and_up(volume: Volume, grid: Grid, order: int) -> Volume:
    """A 1 mm volume as a coarser grid holds it, back at 1 mm."""
    coarse = resample(nib.Nifti1Image(volume, FINE.affine), grid.shape, grid.affine)
    to_coarse = np.linalg.inv(grid.affine) @ FINE.affine
    return np.asarray(
        ndimage.affine_transform(
            coarse, to_coarse[:3, :3], to_coarse[:3, 3], FINE.shape, order=order, mode="nearest"
        ),
        dtype=np.float32,
    )


def read(path: Path) -> Volume:
    return np.asarray(nib.load(path).dataobj, dtype=np.float32)


def scores_of(cohort: Path, visit: Visit, tracer: TracerSpec) -> Iterator[dict[str, object]]:
    """One row a map, grid and way up; on the grid 1mm stand the maps as they are."""
    brain, atlas = load_template(FINE).brain, load_atlas(FINE)
    measured = read(visit.pet(cohort, tracer))
    maps = {name: read(visit.pet(cohort / "truth", tracer, desc)) for name, desc in TRUTH.items()}
    whole = maps["noise-free"]
    shells = [round(min(FINE.shape) * FINE.voxel_size / period) - 1 for period in PERIODS_MM]

    def against(real: Volume, other: Volume) -> float:
        return psnr(ScanPair(real, other, brain, tracer.suvr_window))

    def row(name: str, grid: str, up: str, volume: Volume, own: Volume) -> dict[str, object]:
        error = np.abs(np.array(list(atlas.means(volume).values())) - list(atlas.means(own).values()))
        left = (radial_spectrum_db(volume, brain) - radial_spectrum_db(own, brain))[shells]
        return {
            "tracer": tracer.name,
            "subject": visit.subject,
            "map": name,
            "grid": grid,
            "up": up,
            "against_measured": against(measured, volume),
            "against_noise_free": against(whole, volume),
            "voi_error": float(error.mean()),
            **{f"power_{period:g}mm": float(db) for period, db in zip(PERIODS_MM, left, strict=True)},
        }

    for name, volume in {**maps, MEASURED: measured}.items():
        yield row(name, FINE.name, "", volume, volume)
        for grid in COARSE.values():
            for up, order in UP.items():
                yield row(name, grid.name, up, down_and_up(volume, grid, order), volume)


def markdown(table: pd.DataFrame) -> str:
    """A row a tracer, map and grid: means over people, and the loss to the same map at 1 mm with its interval."""
    cells = []
    for (tracer, name), part in table.groupby(["tracer", "map"], sort=False):
        at_1mm = part[part["grid"] == FINE.name].set_index("subject")["against_measured"]
        for (grid, up), rows in part.groupby(["grid", "up"], sort=False):
            mean = rows.drop(columns=["tracer", "subject", "map", "grid", "up"]).mean()
            lost = ""
            if name != MEASURED and up:
                difference = (at_1mm - rows.set_index("subject")["against_measured"]).to_numpy(float)
                interval = bootstrap_mean(difference, 2000, 0)
                lost = f"{interval.estimate:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
            against = (mean["against_measured"], mean["against_noise_free"])
            cells.append(
                [
                    *(str(tracer), str(name), str(grid), str(up)),
                    *("" if np.isinf(value) else f"{value:.2f}" for value in against),
                    lost,
                    f"{mean['voi_error']:.4f}",
                    *(f"{mean[f'power_{period:g}mm']:.2f}" for period in PERIODS_MM),
                ]
            )
    heading = [
        "tracer",
        "map",
        "grid",
        "up",
        "PSNR against measured, dB",
        "against noise-free, dB",
        "lost, dB",
    ]
    heading += ["error of VOIs, SUVr", *(f"power at {period:g} mm, dB" for period in PERIODS_MM)]
    return "\n".join(text.table(heading, cells))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--cohort", type=Path, help="of `relapet simulate --grid 1mm`; default: one is simulated"
    )
    parser.add_argument("--subjects", type=int, default=2, help="people to simulate, or the most to read")
    parser.add_argument("--out", type=Path, help="OUT.md and OUT.tsv are written")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cohort = options.cohort or Path(folder) / "cohort"
        if options.cohort is None:
            api.simulate(cohort, SimulationConfig(subjects=options.subjects, grid=FINE, seed=71))
        rows = [
            row
            for visit in find_visits(cohort)[: options.subjects]
            for tracer in simulated_tracers().values()
            for row in scores_of(cohort, visit, tracer)
        ]
    table = pd.DataFrame(rows)
    shown = f"{table['subject'].nunique()} simulated people, 1 mm\n\n{markdown(table)}"
    print(shown)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        for suffix, content in (
            (".md", shown),
            (".tsv", table.to_csv(sep="\t", index=False, float_format="%.6g")),
        ):
            with atomic_path(options.out.with_name(options.out.name + suffix)) as path:
                path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
