"""Radial power spectra of measured and synthetic PET: how much detail there is at each spatial frequency."""

from __future__ import annotations

from dataclasses import dataclass, field

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pandas as pd

from relapet.evaluation.scores.image_metrics import radial_spectrum_db
from relapet.evaluation.statistics import bootstrap_mean
from relapet.types import Mask, Volume

MEASURED = "measured"
"""Name of the measured PET in the column method."""
COLUMNS = ["tracer", "method", "frequency_per_mm", "n", "power_db", "ci_low", "ci_high"]


@dataclass
class SpectrumRows:
    """Spectra of scans as they are scored. All lie on one grid: on another the frequencies would differ."""

    rows: list[tuple[str, str, str, npt.NDArray[np.float64]]] = field(default_factory=list)
    """Tracer, method, subject and power of each shell, dB."""
    grid: tuple[tuple[int, ...], float] | None = None
    """Shape and voxel size (mm) of the first scan with cubic voxels."""
    left_out: int = 0
    """Scans on another grid or with voxels that are no cubes."""

    def fits(self, image: nib.Nifti1Image) -> bool:
        """Whether spectra of a scan can stand beside the others; one that cannot is counted."""
        zooms = [round(float(zoom), 3) for zoom in image.header.get_zooms()[:3]]
        cubic = bool(np.allclose(zooms, zooms[0], atol=2e-3))
        if cubic and self.grid is None:
            self.grid = (tuple(image.shape), zooms[0])
        good = cubic and self.grid == (tuple(image.shape), zooms[0])
        self.left_out += not good
        return good

    def add(self, tracer: str, method: str, subject: str, volume: Volume, brain: Mask) -> None:
        """Add the spectrum of one volume of a scan that `fits`."""
        self.rows.append((tracer, method, subject, radial_spectrum_db(volume, brain)))

    def table(self, bootstrap: int, seed: int) -> pd.DataFrame:
        """Mean log power (dB) over subjects with its 95 % interval, by tracer, method and frequency.

        Sessions are averaged within the subject.
        """
        if not self.rows or self.grid is None:
            return pd.DataFrame(columns=COLUMNS)
        shape, voxel_mm = self.grid
        step = 1 / (min(shape) * voxel_mm)  # cycles/mm from one shell to the next
        shells = self.rows[0][-1].size
        frame = pd.DataFrame(
            [(*names, *power) for *names, power in self.rows],
            columns=["tracer", "method", "subject", *range(1, shells + 1)],
        )
        by_subject = frame.groupby(["tracer", "method", "subject"], sort=False).mean()
        rows = []
        for (tracer, method), group in by_subject.groupby(["tracer", "method"], sort=False):
            for shell in range(1, shells + 1):
                mean = bootstrap_mean(group[shell].to_numpy(np.float64), bootstrap, seed)
                interval = (mean.n, mean.estimate, mean.low, mean.high)
                rows.append((tracer, method, shell * step, *interval))
        return pd.DataFrame(rows, columns=COLUMNS)
