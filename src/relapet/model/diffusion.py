"""The noise schedule, q(x_t | x_0), conversions between predictions, and the ancestral step.

Notation of Ho et al. 2020 (DDPM) and Song et al. 2021 (DDIM): ``x_0`` clean, ``eps`` standard normal,
``x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps``. Volumes are ``(B, 1, X, Y, Z)``, timesteps ``t`` are integers
``(B,)`` in ``0 .. T-1``; ``t = -1`` means the clean volume (``abar_{-1} = 1``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["eps", "x0", "v"]
"""What is predicted: the noise, the clean volume, or v = sqrt(abar) eps - sqrt(1-abar) x_0."""


@dataclass(frozen=True)
class Schedule:
    """The two published tables, ``(T,)`` each, rounded to float32 as every released model was trained with them.

    Coefficients are computed from them in float64 and rounded once.
    """

    betas: Tensor
    alpha_bar: Tensor

    @property
    def length(self) -> int:
        """The number of timesteps T."""
        return len(self.alpha_bar)

    def _alpha_bar(self, t: Tensor) -> Tensor:
        padded = torch.cat([torch.ones(1), self.alpha_bar]).double()
        return padded[t.cpu() + 1]

    def signal_and_noise(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """``sqrt(abar_t)`` and ``sqrt(1 - abar_t)``, each ``(B, 1, 1, 1, 1)``, on the device of ``like``."""
        abar = self._alpha_bar(t)
        return _per_volume(abar.sqrt(), like), _per_volume((1 - abar).sqrt(), like)

    def add_noise(self, x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """``x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps`` (DDPM, equation 4)."""
        signal, noise = self.signal_and_noise(t, x_0)
        return signal * x_0 + noise * eps

    def target(self, kind: Prediction, x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """What a network of this kind should put out."""
        if kind == "eps":
            return eps
        if kind == "x0":
            return x_0
        signal, noise = self.signal_and_noise(t, x_0)
        return signal * eps - noise * x_0

    def to_x0(self, kind: Prediction, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The clean prediction ``x0_hat`` from the network's output, not clamped."""
        if kind == "x0":
            return output
        signal, noise = self.signal_and_noise(t, x_t)
        if kind == "eps":
            return (x_t - noise * output) / signal
        return signal * x_t - noise * output  # v (Salimans and Ho 2022, appendix D)

    def to_eps(self, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The noise that takes ``x_0`` to ``x_t``."""
        signal, noise = self.signal_and_noise(t, x_t)
        return (x_t - signal * x_0) / noise

    def wiener(self, x_t: Tensor, centre: Tensor, t: Tensor, sd: float) -> tuple[Tensor, Tensor]:
        """What ``x_t`` alone says of ``x_0`` where each voxel of it is normal about ``centre`` with deviation ``sd``.

        Its posterior mean about the centre, ``(B, 1, X, Y, Z)``, and posterior deviation, ``(B, 1, 1, 1, 1)``: c_skip
        and c_out of Karras et al. 2022 (EDM, table 1), for a process that keeps the variance.
        """
        signal, noise = self.signal_and_noise(t, x_t)
        variance = (signal * sd).square() + noise.square()
        return signal * sd**2 / variance * (x_t - signal * centre), sd * noise / variance.sqrt()

    def posterior_step(self, x_t: Tensor, x_0: Tensor, t: Tensor, s: Tensor, noise: Tensor) -> Tensor:
        """One ancestral step from ``t`` to any earlier ``s``: a sample of q(x_s | x_t, x_0) (DDPM, equations 6, 7).

        ``noise`` is standard normal, ``(B, 1, X, Y, Z)``; where ``s`` is -1 the variance is 0.
        """
        abar_t, abar_s = self._alpha_bar(t), self._alpha_bar(s)
        log_alpha = torch.cat([torch.zeros(1, dtype=torch.float64), (-self.betas.double()).log1p().cumsum(0)])
        alpha = (log_alpha[t.cpu() + 1] - log_alpha[s.cpu() + 1]).exp()  # signal power kept from s to t
        weight_x0 = abar_s.sqrt() * (1 - alpha) / (1 - abar_t)
        weight_xt = alpha.sqrt() * (1 - abar_s) / (1 - abar_t)
        deviation = ((1 - abar_s) / (1 - abar_t) * (1 - alpha)).sqrt()
        return (
            _per_volume(weight_x0, x_t) * x_0
            + _per_volume(weight_xt, x_t) * x_t
            + _per_volume(deviation, x_t) * noise
        )


def _per_volume(coefficients: Tensor, like: Tensor) -> Tensor:
    """``(B,)`` to ``(B, 1, 1, 1, 1)``, in float64 beside float64 volumes, else float32, on their device."""
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    return coefficients.view(-1, *[1] * (like.ndim - 1)).to(like.device, dtype)


def scaled_linear_schedule(length: int, beta_first: float, beta_last: float) -> Schedule:
    """``beta_t`` whose square root grows linearly (Rombach et al. 2022); the published release uses this one."""
    betas = torch.linspace(beta_first**0.5, beta_last**0.5, length, dtype=torch.float32).square()
    return Schedule(betas, torch.cumprod(1 - betas, dim=0))
