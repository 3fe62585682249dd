"""The noise's shape: samples have the remainders' variance, at voxels and over regions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import ndimage

from relapet.errors import InputError
from relapet.prior.anatomy import Anatomy
from relapet.prior.config import PriorConfig
from relapet.prior.fit import fit_prior
from relapet.prior.noise import NoiseShape, fit_noise

SHAPE, VOXEL_MM, FWHM_MM = (20, 20, 20), 4.0, 8.0
REGIONAL, LOCAL = 0.1, 0.05


@dataclass
class Remainders:
    """Scans whose MRI says nothing: PET = 1 + a regional shift + short-range noise, SUVr."""

    n: int

    def __len__(self) -> int:
        return self.n

    def subject(self, i: int) -> str:
        return f"{i:03d}"

    def mri(self, i: int) -> np.ndarray:
        return np.where(ANATOMY.brain, 0.1, -1).astype(np.float32)[None].repeat(2, axis=0)

    def pet(self, i: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(i)
        local = ndimage.gaussian_filter(rng.standard_normal(SHAPE), FWHM_MM / VOXEL_MM / 2.3548, mode="wrap")
        volume = 1 + REGIONAL * rng.standard_normal() * LEFT + LOCAL * local / local.std()
        return {"tau": np.where(ANATOMY.brain, volume, 0).astype(np.float32)}


def _anatomy() -> Anatomy:
    brain = np.zeros(SHAPE, dtype=bool)
    brain[2:-2, 2:-2, 2:-2] = True
    return Anatomy(brain, brain.astype(np.int32), VOXEL_MM)


ANATOMY = _anatomy()
LEFT = (np.indices(SHAPE)[0] < 10) & ANATOMY.brain


@pytest.fixture(scope="module")
def noise() -> NoiseShape:
    return fit_noise(fit_prior(Remainders(60), ANATOMY, PriorConfig(kernel=()), [("T1w", "FLAIR")]), "tau")


def test_samples_vary_as_remainders_do(noise: NoiseShape) -> None:
    rng = np.random.default_rng(0)
    samples = np.stack([noise.sample(rng) for _ in range(200)])
    sd = samples.std(axis=0)
    right = ANATOMY.brain & ~LEFT
    assert sd[LEFT].mean() == pytest.approx(np.hypot(REGIONAL, LOCAL), rel=0.15)
    assert sd[right].mean() == pytest.approx(LOCAL, rel=0.1)
    assert samples[:, LEFT].mean(axis=1).std() == pytest.approx(REGIONAL, rel=0.25)
    assert samples[:, right].mean(axis=1).std() < 0.2 * REGIONAL
    assert not samples[:, ~ANATOMY.brain].any()


def test_short_range_correlation_is_found(noise: NoiseShape) -> None:
    assert noise.fwhm_mm == pytest.approx(FWHM_MM, rel=0.1)


def test_spurious_components_are_shrunk(noise: NoiseShape) -> None:
    """One component is real; those that 60 subjects' noise suggests keep a fraction of its size."""
    size = (noise.components.reshape(len(noise.on_lattice), -1) ** 2).sum(axis=1)
    assert size[1] < 0.05 * size[0]


def test_draws_follow_the_generator(noise: NoiseShape) -> None:
    one, other = (noise.sample(np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_stored_and_loaded(noise: NoiseShape) -> None:
    arrays = noise.to_arrays()
    again = NoiseShape.from_arrays(arrays)
    np.testing.assert_array_equal(
        again.sample(np.random.default_rng(1)), noise.sample(np.random.default_rng(1))
    )
    for name in arrays:
        with pytest.raises(InputError, match="train again"):
            NoiseShape.from_arrays({key: array for key, array in arrays.items() if key != name})
    with pytest.raises(InputError, match="negative"):
        NoiseShape.from_arrays(arrays | {"sd": -1 - arrays["sd"]})


def test_two_scans_are_too_few() -> None:
    fit = fit_prior(Remainders(2), ANATOMY, inputs=[("T1w", "FLAIR")])
    with pytest.raises(InputError, match="three scans"):
        fit_noise(fit, "tau")
