"""Noise of the remainder's shape: Gaussian, with the covariance of what a prior leaves over.

White noise averages out over a region, so that a noisy volume gives the regional mean away at nearly every timestep
and a few-step sampler never puts any regional spread in. With noise of the remainder's own covariance every scale is
noised at the same rate, and what a network that knows nothing samples has the right spread.

    eta = sum_j z_j u_j + sd * (sum_near w_s g_s + M_h sum_wide w_s g_s)

z_j: normal. g_s: normal fields of unit variance smoothed to sigma_s.
u_j: leading components over participants, shrunk to the variance that left-out participants have along them (components
fitted to few participants are too large along themselves). sd: what is left of each voxel's SD. w_s: weights of the
smoothness, from the correlation of voxels some way apart. M_h: the hemispheres resemble each other
in what is as wide as a region, so these fields are mixed with their mirror images to the correlation h, at the same
variance everywhere; else left would differ from right by more than it does, and both sides together by less.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from scipy.fft import next_fast_len
from scipy.optimize import brentq, nnls
from torch import Tensor
from torch.nn import functional

from relapet.model.interface import Batch

COMPONENTS = 32
"""Most components of one tracer."""
FOLDS = 5
LAGS = (1, 2, 3, 4, 6, 8)
"""Distances at which the correlation of voxels is measured, voxels."""
SIGMAS_MM = (0.0, 3.0, 6.0, 12.0, 24.0)
"""SDs of the Gaussians that white noise may be smoothed by; 0: not at all."""
WIDE_MM = 12.0
"""What is smoothed as far as this is as wide as a region; what is not, is mostly the scanner's noise."""
_NEAR_MM = tuple(sigma for sigma in SIGMAS_MM if sigma < WIDE_MM)
_FAR_MM = tuple(sigma for sigma in SIGMAS_MM if sigma >= WIDE_MM)
LATTICE_MM = 6.0
"""About the spacing at which components are kept: they are smooth."""
REGION_MM = 24.0
"""Edge of the cubes over which noise and remainders are to vary alike: about that of a cortical VOI."""
_DRAWS = 32
_LEAST_SHARE = 0.1
"""Share of each voxel's variance that stays with the short-range noise, whatever the components take."""
_LEAST_WIDE = 0.02
"""Share of the short-range variance below which wide noise is not there to speak of."""
_NEAR = 0.5
"""Of smoothness alone, beyond which a place is too near the midline to tell how the hemispheres resemble each other."""
_MOST_MIRRORED = 0.875


@dataclass(frozen=True)
class NoiseShape:
    """The covariance of one tracer's remainders on a grid."""

    components: Tensor
    """``(J, x, y, z)``, each as large as one SD of its share, on a lattice as fine as the grid or coarser."""
    sd: Tensor
    """SD of the short-range noise, ``(X, Y, Z)``."""
    smooth: Tensor
    """Weights ``(S,)`` of the Gaussians of `SIGMAS_MM`; their squares sum to 1."""
    voxel_mm: float
    mirrored: float = 0.0
    """h, the correlation of the noise of `WIDE_MM` and more with that at its mirrored place, 0 to 1."""

    @cached_property
    def scale(self) -> float:
        """Root mean square of the whole noise over voxels where there is any."""
        total = self.variance()
        return float(total[total > 0].mean().sqrt())

    def variance(self) -> Tensor:
        """Variance at each voxel, ``(X, Y, Z)``."""
        return self.sd.square() + self._on_grid(self.components).square().sum(dim=0)

    def draw(self, generator: torch.Generator) -> Tensor:
        """One draw ``(X, Y, Z)`` in float32, on the shape's device; the normals are drawn on the generator's."""
        device = self.sd.device
        z = torch.randn(len(self.components), generator=generator, device=generator.device).to(device)
        wide = self._on_grid(torch.einsum("j,jxyz->xyz", z, self.components.float())[None])[0]
        if not self.mirrored:
            return wide + self.sd * self._field(generator, self._spectrum(SIGMAS_MM))
        near, far = (self._field(generator, self._spectrum(sigmas)) for sigmas in (_NEAR_MM, _FAR_MM))
        return wide + self.sd * (near + self._mixed(far))

    def _field(self, generator: torch.Generator, spectrum: Tensor) -> Tensor:
        """A normal field ``(X, Y, Z)`` of a spectrum."""
        white = torch.randn(self._padded, generator=generator, device=generator.device).to(self.sd.device)
        field = torch.fft.irfftn(torch.fft.rfftn(white) * spectrum, s=self._padded)
        inside: Tensor = field[tuple(slice(length) for length in self.sd.shape)]
        return inside

    def _mixed(self, field: Tensor) -> Tensor:
        """A wide field with its mirror image, so that they correlate by h; its variance stays."""
        other, h = field.flip(0), self.mirrored
        even, odd = (field + other) / 2, (field - other) / 2
        # Near the midline a field resembles its mirror image anyway.
        kept = torch.rsqrt(1 + h * self._across).to(field.device)
        mixed: Tensor = (math.sqrt(1 + h) * even + math.sqrt(1 - h) * odd) * kept[:, None, None]
        return mixed

    @cached_property
    def _across(self) -> Tensor:
        """Correlation of the unmixed wide noise with its mirror image at each voxel along x, ``(X,)``."""
        voxels = len(self.sd)
        apart = (2 * torch.arange(voxels) - (voxels - 1)).abs() * self.voxel_mm
        found, squares = torch.zeros(voxels), self._squares(_FAR_MM)
        for sigma, square in squares.items():
            found += square * torch.exp(-apart.square() / (4 * sigma**2))
        return found / max(sum(squares.values()), 1e-12)

    def _squares(self, sigmas: Sequence[float]) -> dict[float, float]:
        """Share of the short-range variance that some Gaussians have."""
        weights = dict(zip(SIGMAS_MM, self.smooth.tolist(), strict=True))
        return {sigma: weights[sigma] ** 2 for sigma in sigmas}

    def to(self, device: torch.device) -> NoiseShape:
        """The same shape on a device, from then on kept there."""
        if self.sd.device == device:
            return self
        if device not in self._elsewhere:
            components, sd, smooth = (tensor.to(device) for tensor in (self.components, self.sd, self.smooth))
            self._elsewhere[device] = replace(self, components=components, sd=sd, smooth=smooth)
        return self._elsewhere[device]

    @cached_property
    def _elsewhere(self) -> dict[torch.device, NoiseShape]:
        return {}

    @cached_property
    def _padded(self) -> tuple[int, ...]:
        """Sides of the box that the field is periodic in, so wide that one end of the grid does not meet the other."""
        reach = math.ceil(2 * max(SIGMAS_MM) / self.voxel_mm)
        return tuple(next_fast_len(length + reach, real=True) for length in self.sd.shape)

    def _spectrum(self, sigmas: Sequence[float]) -> Tensor:
        """What white noise is multiplied by for the Gaussians of some sigmas: the root of their mixture's power."""
        if sigmas not in self._spectra:
            self._spectra[tuple(sigmas)] = self._made_spectrum(sigmas)
        return self._spectra[tuple(sigmas)]

    @cached_property
    def _spectra(self) -> dict[tuple[float, ...], Tensor]:
        return {}

    def _made_spectrum(self, sigmas: Sequence[float]) -> Tensor:
        device = self.sd.device
        frequencies = [torch.fft.fftfreq(length, device=device) for length in self._padded[:2]]
        frequencies.append(torch.fft.rfftfreq(self._padded[2], device=device))
        square = torch.stack(torch.meshgrid(*frequencies, indexing="ij")).square().sum(dim=0)
        power = torch.zeros_like(square)
        for sigma, share in self._squares(sigmas).items():
            # A Gaussian of sigma voxels has the transfer function exp(-2 pi^2 sigma^2 f^2).
            one = torch.exp(-4 * math.pi**2 * (sigma / self.voxel_mm) ** 2 * square)
            power += share * one / _mean_over_all(one, self._padded[2])
        return power.sqrt()

    def _on_grid(self, volumes: Tensor) -> Tensor:
        if volumes.shape[1:] == self.sd.shape or not len(volumes):
            return volumes.float()
        size = tuple(self.sd.shape)
        fine = functional.interpolate(volumes[None].float(), size=size, mode="trilinear", align_corners=False)
        return fine[0]

    def to_tensors(self) -> dict[str, Tensor]:
        """What `from_tensors` takes."""
        mirrored = torch.tensor(self.mirrored)
        return {"components": self.components, "sd": self.sd, "smooth": self.smooth, "mirrored": mirrored}

    @classmethod
    def from_tensors(cls, found: Mapping[str, Tensor], shape: Sequence[int], voxel_mm: float) -> NoiseShape:
        """The shape of `to_tensors`; raises KeyError or ValueError where it is none of this grid."""
        components, sd, smooth = (found[name] for name in ("components", "sd", "smooth"))
        if tuple(sd.shape) != tuple(shape) or components.ndim != 4 or smooth.shape != (len(SIGMAS_MM),):
            raise ValueError("the noise's shape is of another grid")
        if not all(bool(tensor.isfinite().all()) for tensor in (components, sd, smooth)):
            raise ValueError("the noise's shape is not finite")
        # Runs of before the hemispheres were told of each other have none.
        mirrored = float(found["mirrored"]) if "mirrored" in found else 0.0
        if not 0 <= mirrored < 1:
            raise ValueError("the noise's shape has no correlation between the hemispheres")
        return cls(components, sd, smooth, voxel_mm, mirrored)


def _mean_over_all(half: Tensor, last: int) -> Tensor:
    """Mean of a real field's power over all frequencies, of which ``rfftn`` keeps half along the last axis."""
    weights = torch.full((half.shape[-1],), 2.0, device=half.device)
    weights[0] = 1
    if last % 2 == 0:
        weights[-1] = 1
    return (half * weights).sum() / (half.shape[0] * half.shape[1] * last)


def fit_noise(remainders: Tensor, brain: Tensor, voxel_mm: float) -> NoiseShape:
    """The shape of some remainders ``(N, X, Y, Z)``, each of another participant; nothing varies outside ``brain``.

    With fewer than `FOLDS` participants there are no components, since nothing would tell how large they are.
    """
    n, shape = len(remainders), tuple(remainders.shape[1:])
    inside = remainders.float() * brain
    total = inside.square().mean(dim=0)
    stride = max(1, round(LATTICE_MM / voxel_mm - 0.01))
    coarse = functional.avg_pool3d(inside[:, None], stride, ceil_mode=True)[:, 0] if stride > 1 else inside
    components = _components(coarse.reshape(n, -1).numpy().astype(np.float64))
    lattice = torch.from_numpy(components.reshape(-1, *coarse.shape[1:])).float()
    bare = NoiseShape(lattice, torch.zeros(shape), _unsmoothed(), voxel_mm)
    sd = _short_range(total, bare.variance(), brain)
    smooth = _smoothness(inside, bare, sd, brain, voxel_mm)
    found = NoiseShape(lattice, sd, smooth, voxel_mm)
    true = _regionally_true(found, inside, total, brain)
    return replace(true, mirrored=_mirrored(inside, true))


def _short_range(total: Tensor, explained: Tensor, brain: Tensor) -> Tensor:
    """SD that is left to each voxel beside its components, which never take all of its variance ``total``."""
    return torch.maximum(total - explained, _LEAST_SHARE * total).sqrt() * brain


def _regionally_true(found: NoiseShape, inside: Tensor, total: Tensor, brain: Tensor) -> NoiseShape:
    """The noise with its components scaled so that means over cubes of `REGION_MM` vary as those of the remainders.

    Each voxel's own variance stays, as far as the short-range noise can give way.
    """
    cube = max(1, round(REGION_MM / found.voxel_mm))

    def varying(volumes: Tensor) -> float:
        return float(functional.avg_pool3d(volumes[:, None], cube, ceil_mode=True).square().mean())

    if not len(found.components):
        return NoiseShape(found.components.half(), found.sd, found.smooth, found.voxel_mm)
    generator = torch.Generator().manual_seed(0)
    bare = NoiseShape(found.components[:0], found.sd, found.smooth, found.voxel_mm)
    short = varying(torch.stack([bare.draw(generator) for _ in range(_DRAWS)]))
    wide = varying(found._on_grid(found.components)) * len(found.components)
    square = min(4.0, max(0.25, (varying(inside) - short) / wide))
    components = found.components * math.sqrt(square)
    explained = square * found._on_grid(found.components).square().sum(dim=0)
    sd = _short_range(total, explained, brain)
    return NoiseShape(components.half(), sd, found.smooth, found.voxel_mm)


def _mirrored(inside: Tensor, found: NoiseShape) -> float:
    """h, from what remainders share with their mirror images beyond their components; 0 where that is nothing."""
    components, sd = found._on_grid(found.components), found.sd
    both, share = sd * sd.flip(0), sum(found._squares(_FAR_MM).values())
    # A voxel on the midline is its own mirror image, and one beside it says more of smoothness than of hemispheres.
    away = (found._across < _NEAR)[:, None, None] & (both > 0)
    if share < _LEAST_WIDE or not bool(away.any()):
        return 0.0
    covariance = (inside * inside.flip(1)).mean(dim=0) - (components * components.flip(1)).sum(dim=0)
    wanted = float(covariance[away].sum() / (share * both[away].sum()))
    across, weight = found._across.double(), (both * away).sum(dim=(1, 2)).double()

    def beyond(h: float) -> float:
        told = (h + across) / (1 + h * across)
        return float((weight * told).sum() / weight.sum()) - wanted

    if beyond(0.0) >= 0:
        return 0.0
    found_h = brentq(beyond, 0.0, _MOST_MIRRORED) if beyond(_MOST_MIRRORED) > 0 else _MOST_MIRRORED
    return float(np.float32(found_h))  # as it is stored


def _unsmoothed() -> Tensor:
    weights = torch.zeros(len(SIGMAS_MM))
    weights[0] = 1
    return weights


def _components(rows: np.ndarray) -> np.ndarray:
    """Leading components ``(J, V)`` of remainders ``(N, V)``, each as long as its SD among participants left out."""
    n = len(rows)
    most = min(COMPONENTS, n * (FOLDS - 1) // FOLDS - 1)
    if n < FOLDS or most < 1:
        return np.zeros((0, rows.shape[1]))
    gram = rows @ rows.T
    held_out, own = np.zeros(most), np.zeros(most)
    for fold in range(FOLDS):
        out = np.arange(n) % FOLDS == fold
        values, vectors = _leading(gram[np.ix_(~out, ~out)], most)
        own += values / (~out).sum()
        # Along v_j = rows' a_j / sqrt(l_j) a left-out row has the coordinate gram . a_j / sqrt(l_j).
        held_out += np.square(gram[np.ix_(out, ~out)] @ vectors / np.sqrt(values)).mean(axis=0)
    values, vectors = _leading(gram, most)
    kept = np.minimum.accumulate(np.clip(held_out / own, 0, 1))
    lengths = np.sqrt(values / n * kept)
    directions = (rows.T @ vectors / np.sqrt(values)).T
    found: np.ndarray = directions * lengths[:, None]
    return found


def _leading(gram: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest eigenvalues ``(J,)`` of a Gram matrix and their vectors ``(N, J)``, largest first."""
    values, vectors = np.linalg.eigh(gram)
    order = np.argsort(values)[::-1][:most]
    return np.maximum(values[order], 1e-12 * values.max()), vectors[:, order]


def _smoothness(inside: Tensor, bare: NoiseShape, sd: Tensor, brain: Tensor, voxel_mm: float) -> Tensor:
    """Weights of `SIGMAS_MM` whose mixture correlates as the remainders do beyond their components.

    Two voxels d apart in white noise smoothed by sigma correlate by exp(-d^2 / (4 sigma^2)).
    """
    components = bare._on_grid(bare.components)
    wanted = []
    for lag in LAGS:
        products, expected = [], []
        for axis in range(3):
            one, other = (_shifted(sd * brain, axis, lag, first) for first in (True, False))
            both = (one > 0) & (other > 0)
            a, b = (_shifted(inside, axis + 1, lag, first) for first in (True, False))
            c, d = (_shifted(components, axis + 1, lag, first) for first in (True, False))
            covariance = (a * b).mean(dim=0) - (c * d).sum(dim=0)
            products.append(covariance[both].sum())
            expected.append((one * other)[both].sum())
        wanted.append(float(sum(products) / sum(expected)))
    distance = np.array(LAGS) * voxel_mm
    columns = [np.exp(-(distance**2) / (4 * s**2)) if s else np.zeros(len(LAGS)) for s in SIGMAS_MM]
    # The squares sum to 1: a heavy row says so, and with it what is not smooth is white.
    heavy = 10.0
    matrix = np.vstack([np.stack(columns, axis=1), heavy * np.ones(len(SIGMAS_MM))])
    squares, _ = nnls(matrix, np.array([*wanted, heavy]))
    return torch.from_numpy(np.sqrt(squares / squares.sum())).float()


def _shifted(volume: Tensor, axis: int, lag: int, first: bool) -> Tensor:
    length = volume.shape[axis] - lag
    return volume.narrow(axis, 0 if first else lag, length)


def noise_of_remainders(training: Iterable[Batch], voxel_mm: float) -> dict[int, NoiseShape]:
    """The shape of what the prior leaves of each tracer, by its index; ``training`` as in `Method.fit`."""
    left: dict[int, list[Tensor]] = {}
    brains: list[Tensor] = []
    for batch in training:
        prior = batch.condition.prior
        if prior is None:
            raise ValueError("noise: shaped needs a prior")
        brains.append((batch.condition.mri[0] > -1).any(dim=0))
        for k, index in enumerate(batch.condition.tracer[0].tolist()):
            if batch.present[0, k]:
                left.setdefault(index, []).append((batch.pet[0, k] - prior[0, k]).half())
    brain = torch.stack(brains).float().mean(dim=0) > 0.5
    return {index: fit_noise(torch.stack(volumes), brain, voxel_mm) for index, volumes in left.items()}
