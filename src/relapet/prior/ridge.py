"""Ridge regression at each voxel from sums that can be streamed over subjects and left out by fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
_FLOOR = 0.5
"""A feature that varies little at a voxel is standardised as if it varied this much more (share of its RMS SD over
voxels): what never varied among the training subjects must not decide the prediction of one in whom it does."""
_LEAST_SD = 0.01
"""Added to every feature's SD in squares, of a scale from -1 to 1: less than that is rounding, not anatomy."""
_REACH = 4.0
"""SDs over the training subjects of what the local features changed, beyond which they are not believed."""
_CHUNK = 2048
"""Voxels solved together: their matrices fit the processor's cache."""


class Moments:
    """Sums over subjects of the products of (1, features, PET) at each voxel, ``(pairs, voxels)``."""

    def __init__(self, features: int, voxels: int) -> None:
        self.features = features
        self.pairs = np.triu_indices(features + 2)
        self.sums: Floats = np.zeros((len(self.pairs[0]), voxels))

    def add(self, features: Singles, pet: Singles) -> None:
        """Add n subjects: features ``(n, F, voxels)``, SUVr ``(n, voxels)``."""
        size = self.features + 2
        for start in range(0, pet.shape[1], _CHUNK):
            part = slice(start, start + _CHUNK)
            rows = np.ones((len(pet), size, pet[:, part].shape[1]))
            rows[:, 1:-1] = features[:, :, part]
            rows[:, -1] = pet[:, part]
            for i in range(size):
                of_row = slice(_diagonal(i, size), _diagonal(i + 1, size))
                self.sums[of_row, part] += np.einsum("nv,njv->jv", rows[:, i], rows[:, i:])

    @property
    def count(self) -> int:
        """Subjects added."""
        return round(float(self.sums[0, 0])) if self.sums.size else 0

    def minus(self, others: Sequence[Moments]) -> Moments:
        """The sums without those of ``others``."""
        rest = Moments.__new__(Moments)
        rest.features, rest.pairs, rest.sums = self.features, self.pairs, self.sums.copy()
        for other in others:
            rest.sums -= other.sums
        return rest

    def at(self, voxels: slice) -> Moments:
        """The sums of some of the voxels."""
        part = Moments.__new__(Moments)
        part.features, part.pairs, part.sums = self.features, self.pairs, self.sums[:, voxels]
        return part

    def full(self) -> Floats:
        """Symmetric products ``(F + 2, F + 2, voxels)``."""
        products = np.empty((self.features + 2, self.features + 2, self.sums.shape[1]))
        products[self.pairs] = self.sums
        products[self.pairs[1], self.pairs[0]] = self.sums
        return products


@dataclass(frozen=True)
class LocalFit:
    """SUVr = mean + coefficients . (features - feature mean), each ``(voxels,)`` or ``(F, voxels)``, float32."""

    coefficients: Singles
    feature_mean: Singles
    mean: Singles
    reach: Singles
    """The most that the features may change: some SDs of what they changed over the training subjects."""

    def predict(self, features: Singles) -> Singles:
        """SUVr ``(voxels,)`` from features ``(F, voxels)``."""
        deviation = np.einsum("fv,fv->v", self.coefficients, features - self.feature_mean)
        return np.asarray(self.mean + np.clip(deviation, -self.reach, self.reach), dtype=np.float32)


def fit_ridge(moments: Moments, penalties: Sequence[float | None]) -> list[LocalFit]:
    """A fit for each penalty (None: the mean alone) from the sums of at least one subject.

    Features are standardised at each voxel; b = (Z'Z / n + penalty I)^-1 Z'y / n.
    """
    n, size = moments.count, moments.features
    voxels = moments.sums.shape[1]
    means = moments.sums[: size + 2] / n  # the first row of the triangle: products with 1
    feature_mean, mean = means[1:-1], means[-1]
    squares = moments.sums[[_diagonal(k + 1, size + 2) for k in range(size)]] / n
    variance = np.maximum(squares - feature_mean**2, 0)
    variance += _FLOOR**2 * variance.mean(axis=1, keepdims=True) + _LEAST_SD**2
    scale = np.sqrt(variance)
    coefficients = np.zeros((len(penalties), size, voxels), dtype=np.float32)
    changed = np.zeros((len(penalties), voxels), dtype=np.float32)
    for start in range(0, voxels, _CHUNK):
        part = slice(start, start + _CHUNK)
        products = moments.at(part).full()[1:, 1:] / n
        centre = means[1:, part]
        products -= centre[:, None] * centre[None]
        spread = scale[:, part]
        # What is left is a correlation matrix with a penalty on its diagonal: single precision is enough from here.
        gram = (products[:-1, :-1] / (spread[:, None] * spread[None])).astype(np.float32)
        target = (products[:-1, -1] / spread).astype(np.float32)
        for k, penalty in enumerate(penalties):
            if penalty is not None:
                b = _solve(gram, target, penalty)
                coefficients[k, :, part] = b / spread
                # b' gram b, the variance of what b predicts, since (gram + penalty) b = target
                changed[k, part] = (b * target).sum(axis=0) - penalty * np.square(b).sum(axis=0)
    shared = feature_mean.astype(np.float32), mean.astype(np.float32)
    reach = _REACH * np.sqrt(np.maximum(changed, 0))
    return [LocalFit(values, *shared, most) for values, most in zip(coefficients, reach, strict=True)]


def _diagonal(k: int, size: int) -> int:
    """Place of entry (k, k) in the upper triangle of a ``size`` x ``size`` matrix, row by row."""
    return k * size - k * (k - 1) // 2


def _solve(gram: Singles, target: Singles, penalty: float) -> Singles:
    """Solve (gram + penalty I) b = target at each voxel by Cholesky: ``(F, F, V)``, ``(F, V)`` to ``(F, V)``."""
    size = len(target)
    low = np.zeros_like(gram)
    for j in range(size):
        below = gram[j:, j] - np.einsum("ikv,kv->iv", low[j:, :j], low[j, :j])
        low[j, j] = np.sqrt(below[0] + penalty)
        low[j + 1 :, j] = below[1:] / low[j, j]
    half = np.empty_like(target)
    for i in range(size):
        half[i] = (target[i] - np.einsum("kv,kv->v", low[i, :i], half[:i])) / low[i, i]
    solution = np.empty_like(target)
    for i in reversed(range(size)):
        rest = half[i] - np.einsum("kv,kv->v", low[i + 1 :, i], solution[i + 1 :])
        solution[i] = rest / low[i, i]
    return solution


def squared_error(fit: LocalFit, held_out: Moments) -> float:
    """Sum over the subjects in ``held_out``, and over voxels, of the fit's squared error, SUVr^2."""
    slope = fit.coefficients.astype(np.float64)
    start = fit.mean - np.einsum("fv,fv->v", slope, fit.feature_mean.astype(np.float64))
    weights = np.concatenate([-start[None], -slope, np.ones((1, len(start)))])  # PET minus prediction
    total = 0.0
    for place, i, j in zip(range(len(held_out.sums)), *held_out.pairs, strict=True):
        total += (1 if i == j else 2) * float((weights[i] * weights[j]) @ held_out.sums[place])
    return total


def choose_penalty(folds: Sequence[Moments], choices: Sequence[float], every: int) -> float | None:
    """The penalty with the least squared error on held-out folds; None where the mean alone does better.

    Judged at every ``every``-th voxel. Folds without subjects are passed over.
    """
    parts = [fold.at(slice(None, None, every)) for fold in folds]
    total = parts[0].minus([])
    for part in parts[1:]:
        total.sums += part.sums
    options: list[float | None] = [None, *choices]
    errors = np.zeros(len(options))
    for part in parts:
        rest = total.minus([part])
        if part.count and rest.count:
            errors += [squared_error(fit, part) for fit in fit_ridge(rest, options)]
    return options[int(np.argmin(errors))]
