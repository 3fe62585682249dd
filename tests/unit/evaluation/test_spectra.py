from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from relapet.cohort.bids import Visit
from relapet.cohort.grid import GRIDS
from relapet.cohort.nifti import save_volume
from relapet.errors import InputError, VolumeError
from relapet.evaluation.matching import Scan
from relapet.evaluation.spectra import spectrum_table
from relapet.tracers import get_tracer

GRID = GRIDS["4mm"]
TAU = get_tracer("tau")


@pytest.fixture
def scans(tmp_path) -> list[Scan]:
    """White noise and the same blurred by a Gaussian of 4 mm SD; subject 0 has two sessions."""
    rng = np.random.default_rng(0)
    scans = []
    for visit in (Visit("0", "a"), Visit("0", "b"), Visit("1"), Visit("2")):
        noise = rng.normal(1, 0.1, GRID.shape).astype(np.float32)
        real, blurred = visit.pet(tmp_path / "real", TAU), visit.pet(tmp_path / "blurred", TAU, "synth")
        save_volume(real, noise, GRID.affine)
        save_volume(blurred, ndimage.gaussian_filter(noise, 1.0), GRID.affine)
        scans.append(Scan(visit, TAU, real, {"blurred": blurred}))
    return scans


def test_spectra_of_white_and_of_blurred_noise(scans):
    table = spectrum_table(scans, bootstrap=50)
    assert set(table["n"]) == {3}
    power = table.pivot(index="frequency_per_mm", columns="method", values="power_db")
    assert power.index.max() == pytest.approx(0.125)  # Nyquist of 4 mm voxels
    assert power["measured"].iloc[5:].std() < 0.5
    high = power.index > 0.06
    loss = (power["measured"] - power["blurred"])[high]
    # The mask's edge leaks, so the closed form 10 log10 exp((2 pi f sigma)^2) holds where it is moderate.
    moderate = power[(power.index > 0.03) & (power.index < 0.05)]
    expected = 10 * np.log10(np.exp((2 * np.pi * moderate.index.to_numpy() * 4.0) ** 2))
    np.testing.assert_allclose(moderate["measured"] - moderate["blurred"], expected, rtol=0.35)
    assert (loss > 8).all()
    assert (table["ci_low"] <= table["power_db"]).all()


def test_other_grids_and_no_scans_are_refused(scans, tmp_path):
    with pytest.raises(InputError, match="no scan"):
        spectrum_table([])
    other = GRIDS["3mm"]
    save_volume(scans[1].real, np.ones(other.shape), other.affine)
    with pytest.raises(VolumeError, match="another grid"):
        spectrum_table(scans)
    for path in (scans[0].real, scans[0].synthetic["blurred"]):
        save_volume(path, np.ones(GRID.shape), GRID.affine @ np.diag([1, 1, 1.5, 1]))
    with pytest.raises(VolumeError, match="no cubes"):
        spectrum_table(scans[:1])
