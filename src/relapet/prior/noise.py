"""Noise of the remainder's shape: what the prior leaves over varies over whole regions, not only from voxel to voxel.

C = sum_j u_j u_j' + D S D: leading components of the cross-fitted remainders over subjects, and short-range noise with
each voxel's remaining SD D and a Gaussian correlation S. Components fitted to few subjects are too large along
themselves, so each is shrunk to the variance that left-out folds have along it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from relapet.errors import InputError
from relapet.prior.anatomy import Anatomy, Lattice
from relapet.prior.contents import Arrays
from relapet.prior.features import MODALITIES, Inputs
from relapet.prior.fit import PriorFit
from relapet.prior.kernel import leading
from relapet.prior.stored import Reader
from relapet.types import Mask, Volume

Singles = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
_FWHM_PER_SD = math.sqrt(8 * math.log(2))
_LEAST_SHARE = 0.05
"""Share of each voxel's variance that stays with the short-range noise, whatever the components take."""
_LOOKED_AT = 16
"""About how many scans tell the short-range correlation."""
_CORRELATION = (0.01, 0.99)
"""Range to which the correlation of neighbours is held."""


@dataclass(frozen=True)
class NoiseShape:
    """A Gaussian with the covariance of a tracer's remainders, SUVr; 0 outside the brain."""

    anatomy: Anatomy
    lattice: Lattice
    on_lattice: npt.NDArray[np.float16]
    """Components ``(J, voxels)`` on the lattice, each as large as one SD of its share."""
    sd: Volume
    """SD of the short-range noise, ``(X, Y, Z)``."""
    fwhm_mm: float
    """FWHM of the Gaussian that, applied to white noise, gives the short-range noise its correlation, mm."""

    @property
    def components(self) -> Volume:
        """The components as volumes ``(J, X, Y, Z)``."""
        volumes = [self._masked(self.lattice.to_grid(component)) for component in self.on_lattice]
        return np.array(volumes, dtype=np.float32).reshape(-1, *self.sd.shape)

    def sample(self, rng: np.random.Generator) -> Volume:
        """One draw ``(X, Y, Z)``."""
        weights = rng.standard_normal(len(self.on_lattice), dtype=np.float32)
        wide = self._masked(self.lattice.to_grid(weights @ self.on_lattice.astype(np.float32)))
        white = rng.standard_normal(self.sd.shape, dtype=np.float32)
        return wide + self.sd * _correlated(white, self.fwhm_mm / self.anatomy.voxel_mm / _FWHM_PER_SD)

    def _masked(self, volume: Volume) -> Volume:
        volume[~self.anatomy.brain] = 0
        return volume

    def to_arrays(self) -> Arrays:
        """Everything as contiguous arrays by name."""
        return {
            "brain": self.anatomy.brain.astype(np.uint8),
            "regions": np.ascontiguousarray(self.anatomy.regions, dtype=np.int32),
            "voxel_mm": np.array([self.anatomy.voxel_mm]),
            "stride": np.array([self.lattice.stride], dtype=np.int32),
            "components": np.ascontiguousarray(self.on_lattice),
            "sd": np.ascontiguousarray(self.sd),
            "fwhm_mm": np.array([self.fwhm_mm]),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[np.generic]]) -> NoiseShape:
        """The shape that `to_arrays` gave; raises InputError where an array is missing, misshapen or not finite."""
        reader = Reader(arrays)
        anatomy, lattice = reader.place()
        components = reader.get("components", np.float16, None, lattice.voxels)
        sd = reader.get("sd", np.float32, *anatomy.brain.shape)
        fwhm_mm = float(reader.get("fwhm_mm", np.float64, 1)[0])
        if fwhm_mm <= 0 or (sd < 0).any():
            raise InputError("The stored noise has a negative sd or no fwhm_mm; train again.")
        return cls(anatomy, lattice, components, sd, fwhm_mm)


def _correlated(white: Volume, sigma: float) -> Volume:
    """White noise smoothed by a Gaussian of ``sigma`` voxels, with SD 1 again."""
    pulse = np.zeros(2 * math.ceil(4 * sigma) + 3)
    pulse[len(pulse) // 2] = 1
    kernel = ndimage.gaussian_filter1d(pulse, sigma)
    sd = np.float32(
        np.sum(kernel**2) ** 1.5
    )  # of the smoothed noise: sum of squares along each of three axes, rooted
    return np.asarray(ndimage.gaussian_filter(white, sigma, mode="wrap") / sd, dtype=np.float32)


def fit_noise(
    fit: PriorFit,
    tracer: str,
    inputs: Inputs = MODALITIES,
    most: int = 48,
    on_progress: Callable[[int, int], None] | None = None,
) -> NoiseShape:
    """The shape of a tracer's cross-fitted remainders, with at most ``most`` components.

    Raises InputError where fewer than three scans have the tracer.
    """
    scans = [i for i in range(len(fit.scans)) if tracer in fit.scans.pet(i)]
    if len(scans) < 3:
        raise InputError(
            f"The noise of {tracer} needs three scans or more, there are {len(scans)}; add scans."
        )
    prior = fit.prior
    rows = np.empty((len(scans), prior.lattice.voxels), dtype=np.float32)
    variance = np.zeros(prior.anatomy.brain.shape)
    for row, i in enumerate(scans):
        remainder = fit.scans.pet(i)[tracer] - fit.crossfitted(i, tracer, inputs)
        rows[row] = prior.lattice.sample(remainder)
        variance += remainder.astype(np.float64) ** 2 / len(scans)
        if on_progress is not None:
            on_progress(row + 1, len(scans))
    values, directions = _components(rows, most)
    share = _kept_share(rows, fit.fold_of[scans], len(values))
    values = np.minimum.accumulate(values * share)
    components = (np.sqrt(values)[:, None].astype(np.float32) * directions).astype(np.float16)
    shrunk = share[:, None].astype(np.float32) * directions
    correlation = _neighbour_correlation(fit, tracer, inputs, scans, (directions, shrunk))
    # White noise under a Gaussian of SD s correlates over a distance d by exp(-d^2 / 4 s^2).
    fwhm_mm = _FWHM_PER_SD * prior.anatomy.voxel_mm / (2 * math.sqrt(-math.log(correlation)))
    explained = np.zeros_like(variance)
    for component in components:
        explained += prior.lattice.to_grid(component).astype(np.float64) ** 2
    rest = np.where(prior.anatomy.brain, np.maximum(variance - explained, _LEAST_SHARE * variance), 0)
    return NoiseShape(prior.anatomy, prior.lattice, components, np.sqrt(rest).astype(np.float32), fwhm_mm)


def _components(rows: Singles, most: int) -> tuple[Floats, Singles]:
    """Variances ``(J,)`` and unit directions ``(J, voxels)`` of the remainders ``(n, voxels)``."""
    gram = rows.astype(np.float64) @ rows.T.astype(np.float64)
    values, vectors = leading(gram, min(most, len(rows) - 1))
    return values / len(rows), (vectors / np.sqrt(values)).T.astype(np.float32) @ rows


def _kept_share(rows: Singles, folds: npt.NDArray[np.intp], count: int) -> Floats:
    """Variance of left-out folds along components of the others, over what those have themselves; at most 1."""
    inside, outside = np.zeros(count), np.zeros(count)
    for fold in np.unique(folds):
        left_out = rows[folds == fold]
        rest = rows[folds != fold]
        if len(rest) < 2:
            continue
        values, directions = _components(rest, count)
        inside[: len(values)] += values * len(left_out)
        outside[: len(values)] += ((left_out @ directions.T) ** 2).sum(axis=0)
    share = np.divide(outside, inside, out=np.zeros(count), where=inside > 0)
    return np.asarray(np.minimum(1, share))


def _neighbour_correlation(
    fit: PriorFit,
    tracer: str,
    inputs: Inputs,
    scans: list[int],
    taken: tuple[Singles, Singles],
) -> float:
    """Correlation of adjacent voxels' remainders without their part along the components, over axes and some scans.

    ``taken``: the directions ``(J, voxels)``, and the same times the share of each that is no accident.
    """
    lattice, brain = fit.prior.lattice, fit.prior.anatomy.brain
    products, squares = 0.0, 0.0
    for i in scans[:: max(1, len(scans) // _LOOKED_AT)]:
        remainder = fit.scans.pet(i)[tracer] - fit.crossfitted(i, tracer, inputs)
        wide = (taken[0] @ lattice.sample(remainder)) @ taken[1]
        rest = (remainder - lattice.to_grid(wide)).astype(np.float64)
        for axis in range(3):
            here, there = _neighbours(axis)
            both: Mask = brain[here] & brain[there]
            a, b = rest[here][both], rest[there][both]
            products += float(a @ b)
            squares += float(a @ a + b @ b) / 2
    return float(np.clip(products / squares if squares else 0, *_CORRELATION))


def _neighbours(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Slices of all voxels but the last, and of all but the first, along an axis."""
    lead = (slice(None),) * axis
    return (*lead, slice(None, -1)), (*lead, slice(1, None))
