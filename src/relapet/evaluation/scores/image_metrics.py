"""Voxelwise metrics of one synthetic PET volume against the measured one, in one explicit table.

Three groups: `image` is measured in SUVr inside the brain mask with the tracer's fixed SUVr window as data
range; `released` repeats the scoring of the published release (each volume scaled by its own minimum and
maximum, whole volume, background included) to show what that flatters; `realism` asks whether the
synthetic volume has the texture of a scan, which a blurred mean has not however good its PSNR.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from skimage.metrics import structural_similarity

from relapet.types import Mask, Volume

SSIM_SIGMA = 1.5
"""SD of the SSIM window in voxels; scikit-image truncates it at 3.5 SD, which is an 11 x 11 x 11 window."""
_SSIM_RADIUS = 5
_POWER_FLOOR = 1e-12


@dataclass(frozen=True)
class ScanPair:
    """Measured and synthetic SUVr on one grid ``(X, Y, Z)``, the brain mask and the tracer's SUVr window."""

    real: Volume
    synthetic: Volume
    brain: Mask
    window: tuple[float, float]
    target: Mask | None = None
    """Cortex in which the tracer's disease shows (its positivity composite), where it has one."""

    @property
    def data_range(self) -> float:
        """Width of the tracer's window, SUVr."""
        return self.window[1] - self.window[0]

    @cached_property
    def inside(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Measured and synthetic SUVr of the voxels in the brain, each ``(voxels,)``."""
        return self.real[self.brain].astype(np.float64), self.synthetic[self.brain].astype(np.float64)

    @cached_property
    def ssim_map(self) -> npt.NDArray[np.float64]:
        """Local SSIM ``(X, Y, Z)``; computed in the brain's bounding box plus the window, NaN outside it.

        Volumes thinner than the window have no SSIM: the map is NaN throughout.
        """
        result = np.full(self.real.shape, np.nan)
        box = tuple(
            slice(max(0, int(index.min()) - _SSIM_RADIUS), int(index.max()) + _SSIM_RADIUS + 1)
            for index in np.nonzero(self.brain)
        )
        if min(self.real[box].shape) > 2 * _SSIM_RADIUS:
            result[box] = structural_similarity(
                self.real[box].astype(np.float64),
                self.synthetic[box].astype(np.float64),
                data_range=self.data_range,
                gaussian_weights=True,
                sigma=SSIM_SIGMA,
                use_sample_covariance=False,
                full=True,
            )[1]
        return result

    @cached_property
    def released(self) -> tuple[Volume, Volume]:
        """Both volumes as the published release scores them: brain-masked, each scaled to [0, 1] alone."""
        return _min_max(np.where(self.brain, self.real, 0)), _min_max(np.where(self.brain, self.synthetic, 0))


@dataclass(frozen=True)
class Metric:
    """One column of image_metrics.tsv: what it computes, in which unit, which way is better, and whence."""

    name: str
    title: str
    group: Literal["image", "released", "realism"]
    compute: Callable[[ScanPair], float]
    unit: str
    better: Literal["higher", "lower", "one"]
    source: str

    def goodness(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The values turned so that more is better (``one``: minus the distance from 1 in log)."""
        if self.better == "higher":
            return values
        if self.better == "lower":
            return -values
        with np.errstate(divide="ignore"):
            return np.asarray(-np.abs(np.log(values)))


def _min_max(volume: npt.NDArray[Any]) -> Volume:
    low, high = float(volume.min()), float(volume.max())
    scale = high - low if high > low else 1.0
    return np.asarray((volume - low) / scale, dtype=np.float32)


def _psnr(squared_error: float, data_range: float) -> float:
    return math.inf if squared_error == 0 else 10 * math.log10(data_range**2 / squared_error)


def _mse(real: npt.NDArray[Any], synthetic: npt.NDArray[Any]) -> float:
    return float(np.mean((real - synthetic) ** 2, dtype=np.float64))


def psnr(pair: ScanPair) -> float:
    """Peak signal-to-noise ratio in the brain: 10 log10(window^2 / MSE), dB; infinite where identical."""
    return _psnr(_mse(*pair.inside), pair.data_range)


def ssim(pair: ScanPair) -> float:
    """Structural similarity in 3-D (Gaussian window), the local map averaged in the brain."""
    return float(pair.ssim_map[pair.brain].mean())


def ssim_target(pair: ScanPair) -> float:
    """The same SSIM map averaged in the tracer's target cortex; NaN for a tracer without one."""
    if pair.target is None or not pair.target.any():
        return math.nan
    return float(pair.ssim_map[pair.target].mean())


def mae(pair: ScanPair) -> float:
    """Mean absolute error in the brain, SUVr."""
    real, synthetic = pair.inside
    return float(np.abs(synthetic - real).mean())


def rmse(pair: ScanPair) -> float:
    """Root mean squared error in the brain, SUVr."""
    return math.sqrt(_mse(*pair.inside))


def nrmse(pair: ScanPair) -> float:
    """RMSE divided by the measured mean in the brain."""
    mean = float(pair.inside[0].mean())
    return rmse(pair) / mean if mean > 0 else math.nan


def psnr_released(pair: ScanPair) -> float:
    """PSNR after scaling each volume by its own minimum and maximum, background included, dB."""
    return _psnr(_mse(*pair.released), 1.0)


def ssim_released(pair: ScanPair) -> float:
    """SSIM (uniform 7 x 7 x 7 window) after the same scaling, averaged over the whole volume."""
    if min(pair.real.shape) < 7:
        return math.nan
    return float(structural_similarity(*pair.released, data_range=1.0))


def mae_released(pair: ScanPair) -> float:
    """Mean absolute error after the same scaling, over the whole volume."""
    real, synthetic = pair.released
    return float(np.abs(synthetic - real).mean(dtype=np.float64))


@lru_cache(maxsize=4)
def _radial_shells(shape: tuple[int, ...]) -> npt.NDArray[np.intp]:
    """Shell of each frequency of rfftn, in steps of 1/N cycles a voxel (N: shortest side), rounded."""
    axes = [np.fft.fftfreq(n) for n in shape[:-1]] + [np.fft.rfftfreq(shape[-1])]
    radius = np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij", sparse=True)))
    return np.asarray(np.rint(radius * min(shape)), dtype=np.intp)


def radial_spectrum_db(volume: Volume, brain: Mask) -> npt.NDArray[np.float64]:
    """Log radial power spectrum in the brain, dB; entry k is (k + 1) / (shortest side) cycles a voxel."""
    centred = np.where(brain, volume - volume[brain].mean(dtype=np.float64), 0)
    power = np.abs(np.fft.rfftn(centred)) ** 2
    shells = _radial_shells(volume.shape).ravel()
    last = min(volume.shape) // 2  # Nyquist; shell 0 is the mean, which has been taken away
    mean = np.bincount(shells, power.ravel())[1 : last + 1] / np.bincount(shells)[1 : last + 1]
    return np.asarray(10 * np.log10(mean + _POWER_FLOOR))


def spectrum_distance(pair: ScanPair) -> float:
    """Root mean squared difference of the two log radial power spectra up to Nyquist, dB."""
    real, synthetic = (radial_spectrum_db(v, pair.brain) for v in (pair.real, pair.synthetic))
    return float(np.sqrt(np.mean((synthetic - real) ** 2)))


def _mean_gradient(volume: Volume, brain: Mask) -> float:
    squared = sum(component**2 for component in np.gradient(volume))
    return float(np.sqrt(squared)[brain].mean(dtype=np.float64))


def gradient_ratio(pair: ScanPair) -> float:
    """Mean gradient magnitude in the brain, synthetic over measured: below 1 is blurred, above 1 noisy."""
    real = _mean_gradient(pair.real, pair.brain)
    return _mean_gradient(pair.synthetic, pair.brain) / real if real > 0 else math.nan


_WANG = "Wang et al., IEEE Trans Image Process 13:600 (2004), doi:10.1109/TIP.2003.819861"
_RELEASED = "scoring of the public RelA-Diffusion release, arXiv:2602.21345"
_DURALL = "radial power spectra as in Durall et al., CVPR 2020, arXiv:2003.01826"
_DEFINITION = "definition"

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("psnr", "PSNR", "image", psnr, "dB", "higher", _DEFINITION),
        Metric("ssim", "SSIM", "image", ssim, "1", "higher", _WANG),
        Metric("mae", "MAE", "image", mae, "SUVr", "lower", _DEFINITION),
        Metric("rmse", "RMSE", "image", rmse, "SUVr", "lower", _DEFINITION),
        Metric("nrmse", "NRMSE", "image", nrmse, "1", "lower", _DEFINITION),
        Metric("ssim_target", "SSIM, target cortex", "image", ssim_target, "1", "higher", _WANG),
        Metric("psnr_released", "PSNR (released)", "released", psnr_released, "dB", "higher", _RELEASED),
        Metric("ssim_released", "SSIM (released)", "released", ssim_released, "1", "higher", _RELEASED),
        Metric("mae_released", "MAE (released)", "released", mae_released, "1", "lower", _RELEASED),
        Metric("spectrum_distance", "Spectrum", "realism", spectrum_distance, "dB", "lower", _DURALL),
        Metric("gradient_ratio", "Gradient ratio", "realism", gradient_ratio, "1", "one", _DEFINITION),
    )
}


def score(pair: ScanPair) -> dict[str, float]:
    """Every metric of the table for one pair of volumes."""
    return {name: metric.compute(pair) for name, metric in METRICS.items()}
