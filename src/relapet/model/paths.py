"""Gaussian paths other than diffusion's: the straight line of rectified flow, and the Brownian bridge.

A path leads from a clean volume to its noisiest: ``x_t = a_t x_0 + b_t eps``, eps standard normal, t in ``0 .. T-1``
and -1 for the clean volume, as in `relapet.model.diffusion`. Both are Markov chains, so that samplers need nothing but
the two tables: ``q(x_t | x_s) = N(a_t / a_s x_s, b_t^2 - (a_t / a_s)^2 b_s^2)`` (Kingma et al. 2021, arXiv:2107.00630).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from relapet.model.diffusion import per_volume, trailing_times


@dataclass(frozen=True)
class GaussianPath:
    """A noise process of any signal and noise, ``(T,)`` float64 each, cleanest first; the noise is never 0."""

    signal: Tensor
    noise: Tensor
    _tables: dict[torch.device, Tensor] = field(default_factory=dict, compare=False, repr=False)
    """By device: both with the clean volume before them, ``(2, T + 1)``."""

    @property
    def length(self) -> int:
        """The number of timesteps T."""
        return len(self.signal)

    def times(self, steps: int) -> list[int]:
        """Timesteps from T-1 downward, evenly spaced from the end; raises InputError for more than there are."""
        return trailing_times(self.length, steps)

    def start(self, noise: Tensor) -> Tensor:
        """Noise of the deviation at T-1: the little signal that is left there is taken for none."""
        t = torch.full((len(noise),), self.length - 1, device=noise.device)
        return self.signal_and_noise(t, noise)[1] * noise

    def _at(self, t: Tensor) -> Tensor:
        """The pair a and b, ``(2, B)`` float64."""
        if t.device not in self._tables:
            clean = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
            tables = torch.cat([clean, torch.stack([self.signal, self.noise]).double()], dim=1)
            self._tables[t.device] = tables.to(t.device)
        table: Tensor = self._tables[t.device]
        return table[:, t + 1]

    def signal_and_noise(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """``a_t`` and ``b_t``, each ``(B, 1, 1, 1, 1)``, on the device of ``like``."""
        signal, noise = self._at(t)
        return per_volume(signal, like), per_volume(noise, like)

    def mix(self, x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """``a_t x_0 + b_t eps``."""
        signal, deviation = self.signal_and_noise(t, x_0)
        return signal * x_0 + deviation * noise

    def noise_in(self, x_t: Tensor, x_0: Tensor, t: Tensor) -> Tensor:
        """The noise that takes ``x_0`` to ``x_t``."""
        signal, deviation = self.signal_and_noise(t, x_t)
        return (x_t - signal * x_0) / deviation

    def step(self, x_t: Tensor, x_0: Tensor, t: Tensor, s: Tensor, noise: Tensor) -> Tensor:
        """A sample of ``q(x_s | x_t, x_0)`` for any earlier ``s``; ``noise`` is standard normal."""
        (a_t, b_t), (a_s, b_s) = self._at(t), self._at(s)
        kept = a_t / a_s
        new = self._new(t, s)
        weight_x0, weight_xt = a_s * new / b_t**2, kept * (b_s / b_t) ** 2
        deviation = new.sqrt() * b_s / b_t
        return (
            per_volume(weight_x0, x_t) * x_0
            + per_volume(weight_xt, x_t) * x_t
            + per_volume(deviation, x_t) * noise
        )

    def _new(self, t: Tensor, s: Tensor) -> Tensor:
        """Variance that is added from s to t, ``(B,)``."""
        (a_t, b_t), (a_s, b_s) = self._at(t), self._at(s)
        new: Tensor = b_t**2 - (a_t / a_s * b_s) ** 2
        return new.clamp(min=0)

    def renewed(self, t: Tensor, s: Tensor, like: Tensor) -> Tensor:
        """The deviation of what `step` draws anew over ``b_s``, ``(B, 1, 1, 1, 1)``."""
        return per_volume(self._new(t, s).sqrt() / self._at(t)[1], like)

    def turn(self, x_t: Tensor, x_0: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """An Euler step of the probability flow in the angle phi, ``tan phi = b / a``.

        On volumes divided by ``r = sqrt(a^2 + b^2)`` every path is that of diffusion, at another speed; see
        `relapet.model.diffusion.Schedule.turn`.
        """
        (a_t, b_t), (a_s, b_s) = self.signal_and_noise(t, x_t), self.signal_and_noise(s, x_t)
        r_t, r_s = torch.hypot(a_t, b_t), torch.hypot(a_s, b_s)
        angle = torch.atan2(b_t, a_t) - torch.atan2(b_s, a_s)
        scaled = x_t / r_t
        return r_s * (scaled + angle * (x_0 - a_t / r_t * scaled) / (b_t / r_t))


def straight_path(length: int) -> GaussianPath:
    """Rectified flow: ``x = (1 - u) x_0 + u eps`` at ``u = (t + 1) / T``, pure noise at T-1 (Liu et al. 2022)."""
    u = torch.arange(1, length + 1, dtype=torch.float64) / length
    return GaussianPath(1 - u, u)


def brownian_bridge(length: int, variance: float) -> GaussianPath:
    """A bridge between a clean volume and a known one, about the latter: ``x_t - end = a (x_0 - end) + b eps``.

    With ``m = (t + 1) / (T + 1)``: a = 1 - m and ``b^2 = 2 s (m - m^2)``, s the ``variance``, of which half is reached
    in the middle (Li et al. 2023, arXiv:2205.07680; with a constant rate of noise the bridge of I2SB, Liu et al. 2023,
    arXiv:2302.05872). At T-1 it has all but arrived.
    """
    m = torch.arange(1, length + 1, dtype=torch.float64) / (length + 1)
    return GaussianPath(1 - m, (2 * variance * (m - m.square())).sqrt())
