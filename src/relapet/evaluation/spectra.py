"""Radial power spectra of measured and synthetic PET: how much detail there is at each spatial frequency."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pandas as pd

from relapet.cohort.nifti import load_volume
from relapet.errors import InputError, VolumeError
from relapet.evaluation.image_metrics import radial_spectrum_db
from relapet.evaluation.matching import Scan
from relapet.evaluation.statistics import bootstrap_mean
from relapet.evaluation.voi import brain_mask

MEASURED = "measured"
"""Name of the measured PET in the column method."""


def spectrum_table(scans: Iterable[Scan], bootstrap: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Mean log power (dB) over subjects, with its interval, by tracer, method and frequency (cycles/mm).

    Columns tracer, method, frequency_per_mm, n, power_db, ci_low, ci_high; sessions are averaged within the
    subject; scans are those of `make_plan`. Raises VolumeError for a volume on another grid than the first
    measured one (their frequencies would differ) and for voxels that are not cubes.
    """
    rows: list[tuple[str, str, str, int, float]] = []
    first: nib.Nifti1Image | None = None
    for scan in scans:
        first = first or load_volume(scan.real)
        for method, path in {MEASURED: scan.real, **scan.synthetic}.items():
            spectrum = _spectrum(path, first)
            names = (scan.tracer.name, method, scan.visit.subject)
            rows += [(*names, shell, float(power)) for shell, power in enumerate(spectrum, start=1)]
    if first is None:
        raise InputError("There is no scan to take a spectrum of; give the scans of an evaluation.")
    frame = pd.DataFrame(rows, columns=["tracer", "method", "subject", "shell", "power_db"])
    step = 1 / (min(first.shape) * float(first.header.get_zooms()[0]))  # cycles/mm
    frame["frequency_per_mm"] = frame["shell"] * step
    keys = ["tracer", "method", "frequency_per_mm"]
    by_subject = frame.groupby([*keys, "subject"], sort=False)["power_db"].mean()
    table = []
    for key, values in by_subject.groupby(keys, sort=False):
        mean = bootstrap_mean(values.to_numpy(np.float64), bootstrap, seed)
        table.append((*key, mean.n, mean.estimate, mean.low, mean.high))
    return pd.DataFrame(table, columns=[*keys, "n", "power_db", "ci_low", "ci_high"])


def _spectrum(path: Path, first: nib.Nifti1Image) -> npt.NDArray[np.float64]:
    image = load_volume(path)
    if image.shape != first.shape or not np.allclose(image.affine, first.affine, atol=1e-2):
        raise VolumeError(f"{path} is on another grid than the first measured scan; resample it.")
    zooms = image.header.get_zooms()
    if not np.allclose(zooms, zooms[0], rtol=1e-3):
        raise VolumeError(f"{path} has voxels that are no cubes; resample it to a template grid.")
    return radial_spectrum_db(np.asarray(image.dataobj), brain_mask(image.shape, image.affine))
