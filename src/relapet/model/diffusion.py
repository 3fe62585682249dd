"""The noise process of diffusion models: q(x_t | x_0), the ancestral step, and the times that samplers walk.

Notation of Ho et al. 2020 (DDPM) and Song et al. 2021 (DDIM): ``x_0`` clean, ``eps`` standard normal,
``x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps``. Volumes are ``(B, K, X, Y, Z)``, timesteps ``t`` are integers
``(B,)`` in ``0 .. T-1``; ``t = -1`` means the clean volume (``abar_{-1} = 1``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from relapet.errors import InputError


class NoiseProcess(Protocol):
    """What a sampler asks of a process that leads from noise to a clean volume."""

    def times(self, steps: int) -> list[int]:
        """The timesteps of ``steps`` network calls, noisiest first; raises InputError for a number that cannot be."""
        ...

    def start(self, noise: Tensor) -> Tensor:
        """The noisiest volume, from standard noise."""
        ...

    def signal_and_noise(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """What ``x_t`` holds of the clean volume and of the noise, each ``(B, 1, 1, 1, 1)``."""
        ...

    def mix(self, x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """``x_t`` of a clean volume and noise."""
        ...

    def noise_in(self, x_t: Tensor, x_0: Tensor, t: Tensor) -> Tensor:
        """The noise that takes ``x_0`` to ``x_t``."""
        ...

    def step(self, x_t: Tensor, x_0: Tensor, t: Tensor, s: Tensor, noise: Tensor) -> Tensor:
        """A sample of q(x_s | x_t, x_0) for an earlier ``s``."""
        ...

    def renewed(self, t: Tensor, s: Tensor, like: Tensor) -> Tensor:
        """Deviation of what `step` draws anew over that of the noise at ``s``, ``(B, 1, 1, 1, 1)``."""
        ...

    def turn(self, x_t: Tensor, x_0: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """A step of the probability flow to an earlier ``s``, along its slope in the process's own angle at ``t``."""
        ...


@dataclass(frozen=True)
class Schedule:
    """Diffusion by the two published tables, ``(T,)`` each, rounded to float32 as released models were trained.

    Coefficients are computed from them in float64 and rounded once.
    """

    betas: Tensor
    alpha_bar: Tensor
    _tables: dict[torch.device, tuple[Tensor, Tensor]] = field(
        default_factory=dict, compare=False, repr=False
    )
    """By device: abar and the log of its running product without rounding, ``(T + 1,)`` float64, clean first."""

    @property
    def length(self) -> int:
        """The number of timesteps T."""
        return len(self.alpha_bar)

    def times(self, steps: int) -> list[int]:
        """Timesteps from T-1 downward, evenly spaced from the end.

        The first step always starts at pure noise (Lin et al. 2024, "Common diffusion noise schedules and sample
        steps are flawed", table 2). Raises InputError for more steps than there are timesteps.
        """
        return trailing_times(self.length, steps)

    def start(self, noise: Tensor) -> Tensor:
        """Pure noise: the little signal that is left at T-1 is taken for none."""
        return noise

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        # A table on the volume's own device: an index must not wait for the accelerator at every call.
        if device not in self._tables:
            abar = torch.cat([torch.ones(1), self.alpha_bar]).double()
            log_alpha = torch.cat(
                [torch.zeros(1, dtype=torch.float64), (-self.betas.double()).log1p().cumsum(0)]
            )
            self._tables[device] = (abar.to(device), log_alpha.to(device))
        return self._tables[device]

    def _alpha_bar(self, t: Tensor) -> Tensor:
        return self._on(t.device)[0][t + 1]

    def signal_and_noise(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """``sqrt(abar_t)`` and ``sqrt(1 - abar_t)``, each ``(B, 1, 1, 1, 1)``, on the device of ``like``."""
        abar = self._alpha_bar(t)
        return per_volume(abar.sqrt(), like), per_volume((1 - abar).sqrt(), like)

    def mix(self, x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """``x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps`` (DDPM, equation 4)."""
        signal, deviation = self.signal_and_noise(t, x_0)
        return signal * x_0 + deviation * noise

    def noise_in(self, x_t: Tensor, x_0: Tensor, t: Tensor) -> Tensor:
        """The noise that takes ``x_0`` to ``x_t``."""
        signal, noise = self.signal_and_noise(t, x_t)
        return (x_t - signal * x_0) / noise

    def onward(self, x_s: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """A sample of q(x_t | x_{t-1}), one step towards noise: ``sqrt(1 - beta_t) x_{t-1} + sqrt(beta_t) eps``."""
        beta = self.betas.double()[t.cpu()].to(x_s.device)
        return per_volume((1 - beta).sqrt(), x_s) * x_s + per_volume(beta.sqrt(), x_s) * noise

    def step(self, x_t: Tensor, x_0: Tensor, t: Tensor, s: Tensor, noise: Tensor) -> Tensor:
        """One ancestral step from ``t`` to any earlier ``s``: a sample of q(x_s | x_t, x_0) (DDPM, equations 6, 7).

        ``noise`` is standard normal, ``(B, K, X, Y, Z)``; where ``s`` is -1 the variance is 0.
        """
        abar_t, abar_s = self._alpha_bar(t), self._alpha_bar(s)
        log_alpha = self._on(t.device)[1]
        alpha = (log_alpha[t + 1] - log_alpha[s + 1]).exp()  # signal power kept from s to t
        weight_x0 = abar_s.sqrt() * (1 - alpha) / (1 - abar_t)
        weight_xt = alpha.sqrt() * (1 - abar_s) / (1 - abar_t)
        deviation = ((1 - abar_s) / (1 - abar_t) * (1 - alpha)).sqrt()
        return (
            per_volume(weight_x0, x_t) * x_0
            + per_volume(weight_xt, x_t) * x_t
            + per_volume(deviation, x_t) * noise
        )

    def renewed(self, t: Tensor, s: Tensor, like: Tensor) -> Tensor:
        """``sqrt((1 - abar_t / abar_s) / (1 - abar_t))``: the deviation of `step` over ``sqrt(1 - abar_s)``."""
        log_alpha = self._on(t.device)[1]
        drawn = -(log_alpha[t + 1] - log_alpha[s + 1]).expm1() / (1 - self._alpha_bar(t))
        # The rounded table of abar and the exact product differ in the last digits: never more than all of it.
        return per_volume(drawn.clamp(max=1).sqrt(), like)

    def turn(self, x_t: Tensor, x_0: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """An Euler step of the probability flow in phi, where ``sqrt(abar) = cos phi``.

        ``dx/dphi = -(x_0_hat - cos(phi) x_t) / sin(phi)``, which is -v of Salimans and Ho 2022. A volume of the noise's
        own covariance, of which nothing is known, stays where it is, however few the steps.
        """
        cos_t, sin_t = self.signal_and_noise(t, x_t)
        cos_s, sin_s = self.signal_and_noise(s, x_t)
        angle = torch.atan2(sin_t, cos_t) - torch.atan2(sin_s, cos_s)
        return x_t + angle * (x_0 - cos_t * x_t) / sin_t


def trailing_times(length: int, steps: int) -> list[int]:
    """Of ``length`` timesteps ``steps``, evenly spaced from the last one; raises InputError for more than there are."""
    if not 1 <= steps <= length:
        raise InputError(f"Sampling steps must lie in 1 to {length}, not {steps}; change their number.")
    return [round(length - i * length / steps) - 1 for i in range(steps)]


def per_volume(coefficients: Tensor, like: Tensor) -> Tensor:
    """``(B,)`` to ``(B, 1, 1, 1, 1)``, in float64 beside float64 volumes, else float32, on their device."""
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    return coefficients.view(-1, *[1] * (like.ndim - 1)).to(like.device, dtype)


def scaled_linear_schedule(length: int, beta_first: float, beta_last: float) -> Schedule:
    """``beta_t`` whose square root grows linearly (Rombach et al. 2022); the published release uses this one."""
    betas = torch.linspace(beta_first**0.5, beta_last**0.5, length, dtype=torch.float32).square()
    return Schedule(betas, torch.cumprod(1 - betas, dim=0))


BETA_MIN, BETA_MAX = 0.1, 20.0
"""Of the variance-preserving SDE (Song et al. 2021, arXiv:2011.13456)."""


def few_step_schedule(length: int) -> Schedule:
    """The variance-preserving SDE in a few steps: ``beta_t = 1 - exp(-b / T - (B - b) (2 t - 1) / (2 T^2))``, t from 1.

    b and B are `BETA_MIN` and `BETA_MAX`; whatever T, next to nothing of the volume is left at its end (Xiao et al.
    2021, arXiv:2112.07804).
    """
    t = torch.arange(1, length + 1, dtype=torch.float64)
    rate = BETA_MIN / length + (BETA_MAX - BETA_MIN) * (2 * t - 1) / (2 * length**2)
    betas = (-(-rate).expm1()).float()
    return Schedule(betas, torch.cumprod(1 - betas, dim=0))
