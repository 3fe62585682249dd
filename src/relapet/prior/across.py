"""Ridge over subjects: what the whole MRI, in numbers by region, says of the PET that the local fit leaves over.

With Z the subjects' standardised features, n x P and scaled to rows of mean square length 1, and ZZ' = Q L Q', the
remainders R of the local fit are predicted as z(x) Z' Q (L + penalty)^-1 Q'R: few numbers a subject for a map, so that
of these products only the leading ones are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Singles = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
_FLOOR = 0.25
"""Share of the RMS SD over features that is added to each feature's own before it is divided by it."""
_LEAST = 1e-6
"""Directions and components with less than this share of the first one's variance are left out."""


@dataclass(frozen=True)
class Standard:
    """Whole-MRI features ``(P,)`` to standardised scores: (x - centre) * scale."""

    centre: Singles
    scale: Singles

    def scores(self, features: Singles) -> Singles:
        """Scores ``(..., P)`` of features ``(..., P)``."""
        return np.asarray((features - self.centre) * self.scale, dtype=np.float32)


def fit_standard(features: Singles) -> Standard | None:
    """What makes subjects' features ``(n, P)`` scores of mean square length 1; None where all are alike."""
    if not features.shape[1]:
        return None
    centre, variance = features.mean(axis=0), features.var(axis=0)
    spread = np.sqrt(variance + _FLOOR**2 * variance.mean())
    if not spread.any():
        return None
    length = np.sqrt(np.square((features - centre) / spread).sum(axis=1).mean())
    return Standard(centre, (1 / (spread * length)).astype(np.float32))


def principal(scores: Singles) -> tuple[Floats, Floats]:
    """Eigenvalues ``(r,)``, falling, and eigenvectors ``(n, r)`` of ZZ' for scores Z ``(n, P)``."""
    z = scores.astype(np.float64)
    if len(z) <= z.shape[1]:
        return leading(z @ z.T, len(z))
    values, directions = leading(z.T @ z, z.shape[1])
    return values, z @ directions / np.sqrt(values)


def leading(matrix: Floats, most: int) -> tuple[Floats, Floats]:
    """Leading eigenvalues, falling, and eigenvectors of a symmetric matrix; signs are fixed."""
    values, vectors = np.linalg.eigh(matrix)
    values, vectors = values[::-1][:most], vectors[:, ::-1][:, :most]
    keep = values > _LEAST * max(values[0], np.finfo(float).tiny)
    values, vectors = values[keep], vectors[:, keep]
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(len(values))]
    return values, np.asarray(vectors * np.where(largest < 0, -1, 1))


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
            total += float(np.vdot(error @ gram, error))
        errors.append(total)
    return options[int(np.argmin(errors))]


@dataclass(frozen=True)
class Weights:
    """How a map is made of the remainders of n subjects and of a subject's scores: (z @ loadings) (sums @ R)."""

    loadings: Singles
    """``(P, J)``."""
    sums: Singles
    """``(J, n)``."""


def weigh(
    scores: Singles, values: Floats, vectors: Floats, some: Singles, penalty: float, most: int
) -> Weights:
    """The ridge with a penalty, as the ``most`` products that matter most to some of the remainders, ``(n, voxels)``.

    F = Q L (L + penalty)^-1 Q'R are the subjects' own predictions; with T the leading eigenvectors of
    S S', S = L (L + penalty)^-1 Q'R, they are about Q T T'S, and Q = Z Z'Q L^-1 gives anyone's.
    """
    shrunk = (values / (values + penalty))[:, None] * vectors.T
    fitted = shrunk @ some.astype(np.float64)
    _, turn = leading(fitted @ fitted.T, most)
    loadings = scores.T.astype(np.float64) @ ((vectors / values) @ turn)
    return Weights(loadings.astype(np.float32), (turn.T @ shrunk).astype(np.float32))
