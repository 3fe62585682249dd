from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from relapet.evaluation.scores.spectra import MEASURED, SpectrumRows
from relapet.evaluation.scores.voi import brain_mask
from relapet.imaging.grid import GRIDS

GRID = GRIDS["4mm"]


def image(volume: np.ndarray, affine: np.ndarray) -> nib.Nifti1Image:
    return nib.Nifti1Image(volume.astype(np.float32), affine)


@pytest.fixture
def rows() -> SpectrumRows:
    """White noise and the same blurred by a Gaussian of 4 mm SD; subject 0 has two sessions."""
    rng = np.random.default_rng(0)
    spectra = SpectrumRows()
    brain = brain_mask(GRID.shape, GRID.affine)
    for subject in ("0", "0", "1", "2"):
        noise = rng.normal(1, 0.1, GRID.shape).astype(np.float32)
        assert spectra.fits(image(noise, GRID.affine))
        spectra.add("tau", MEASURED, subject, noise, brain)
        spectra.add("tau", "blurred", subject, ndimage.gaussian_filter(noise, 1.0), brain)
    return spectra


def test_spectra_of_white_and_of_blurred_noise(rows):
    table = rows.table(bootstrap=50, seed=0)
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


def test_scans_on_another_grid_are_counted_not_mixed_in(rows):
    other = GRIDS["3mm"]
    assert not rows.fits(image(np.ones(other.shape), other.affine))
    assert not rows.fits(image(np.ones(GRID.shape), GRID.affine @ np.diag([1, 1, 1.5, 1])))
    assert rows.left_out == 2
    assert SpectrumRows().table(50, 0).empty
