"""Kernel ridge over subjects: what alike whole MRIs say of the PET that the local fit leaves over.

Kernel k(a, b) = exp(-|a - b|^2 / h), with a and b the whole MRI in a few dozen principal directions, and h the median
squared distance between training subjects. Centred over the training subjects, its leading eigenvectors Q
and eigenvalues L give each subject coordinates phi(x) = (k(x) - mean k) Q / sqrt(L), and a ridge on them predicts
phi(x) C with C = (L + penalty)^-1 sqrt(L) Q'R from the remainders R.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics.pairwise import euclidean_distances

Singles = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
_FLOOR = 0.25
"""Share of the RMS SD over features that is added to each feature's own before it is divided by it."""
_LEAST = 1e-6
"""Directions and components with less than this share of the first one's variance are left out."""


@dataclass(frozen=True)
class Projection:
    """Whole-MRI features ``(P,)`` to D directions: ((x - centre) * scale) @ directions."""

    centre: Singles
    scale: Singles
    directions: npt.NDArray[np.float16]

    def scores(self, features: Singles) -> Singles:
        """Coordinates ``(..., D)`` of features ``(..., P)``."""
        standard = (features - self.centre) * self.scale
        return np.asarray(standard @ self.directions.astype(np.float32), dtype=np.float32)


def fit_projection(features: Singles, lengths: Sequence[int], most: int) -> Projection | None:
    """Principal directions of subjects' features ``(n, P)``, at most ``most``; None where all are alike.

    ``lengths`` are those of the parts that P consists of; parts weigh alike.
    """
    centre = features.mean(axis=0)
    variance = features.var(axis=0)
    variance += _FLOOR**2 * variance.mean()
    if not variance.any():
        return None
    weight = np.repeat(
        [length**-0.5 for length in lengths if length], [length for length in lengths if length]
    )
    scale = (weight / np.sqrt(variance)).astype(np.float32)
    standard = (features - centre) * scale
    values, vectors = leading(standard.astype(np.float64) @ standard.T.astype(np.float64), most)
    directions = standard.T @ (vectors / np.sqrt(values)).astype(np.float32)
    return Projection(centre, scale, directions.astype(np.float16))


def leading(matrix: Floats, most: int) -> tuple[Floats, Floats]:
    """Leading eigenvalues, falling, and eigenvectors of a symmetric matrix; signs are fixed."""
    values, vectors = np.linalg.eigh(matrix)
    values, vectors = values[::-1][:most], vectors[:, ::-1][:, :most]
    keep = values > _LEAST * max(values[0], np.finfo(float).tiny)
    values, vectors = values[keep], vectors[:, keep]
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(len(values))]
    return values, np.asarray(vectors * np.where(largest < 0, -1, 1))


@dataclass(frozen=True)
class SubjectKernel:
    """Coordinates of a subject among n training subjects: (k(x, support) - centre) @ loadings."""

    support: Singles
    """Scores of the training subjects, ``(n, D)``."""
    bandwidth: float
    centre: Singles
    loadings: Singles

    def coordinates(self, scores: Singles) -> Singles:
        """Coordinates ``(m, J)`` of subjects with scores ``(m, D)``."""
        alike = _gaussian(scores, self.support, self.bandwidth)
        return np.asarray((alike - self.centre) @ self.loadings, dtype=np.float32)


def _gaussian(a: Singles, b: Singles, bandwidth: float) -> Singles:
    return np.asarray(np.exp(-euclidean_distances(a, b, squared=True) / bandwidth), dtype=np.float32)


def fit_kernel(scores: Singles, most: int) -> tuple[SubjectKernel, Floats, Floats] | None:
    """The kernel over training subjects with scores ``(n, D)``, eigenvalues ``(J,)`` and eigenvectors ``(n, J)``.

    None where all subjects are alike.
    """
    distances = euclidean_distances(scores.astype(np.float64), squared=True)
    apart = distances[np.triu_indices(len(scores), 1)]
    bandwidth = float(np.median(apart)) if apart.size else 0.0
    if bandwidth <= 0:
        return None
    kernel = np.exp(-distances / bandwidth)
    centre = kernel.mean(axis=0)
    values, vectors = leading(kernel - centre - centre[:, None] + centre.mean(), most)
    loadings = (vectors / np.sqrt(values)).astype(np.float32)
    return SubjectKernel(scores, bandwidth, centre.astype(np.float32), loadings), values, vectors


def choose_strength(
    values: Floats,
    vectors: Floats,
    remainders: Singles,
    folds: npt.NDArray[np.intp],
    choices: Sequence[float],
) -> float | None:
    """The penalty whose predictions of left-out folds err least on remainders ``(n, voxels)``; None: predict 0.

    With H the ridge's hat matrix, the error on fold F is (I - H_FF)^-1 (R - H R)_F, without fitting anew.
    """
    gram = remainders.astype(np.float64) @ remainders.T.astype(np.float64)
    options: list[float | None] = [None, *choices]
    errors = [float(np.trace(gram))]
    for penalty in choices:
        left = np.eye(len(folds)) - (vectors * (values / (values + penalty))) @ vectors.T
        total = 0.0
        for fold in np.unique(folds):
            inside = folds == fold
            error = np.linalg.solve(left[np.ix_(inside, inside)], left[inside])
            total += float(np.einsum("ij,jk,ik->", error, gram, error, optimize=True))
        errors.append(total)
    return options[int(np.argmin(errors))]
