"""Samplers: short pure functions that see only "noisy in, clean out".

Each is ``sample(denoise, noise, schedule, steps, generator, on_step)``: ``denoise(x_t, t)`` gives the clean
prediction (the wrapper has bound condition and tracer), ``noise`` is ``x_{T-1}``, ``(B, 1, X, Y, Z)``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from relapet.errors import InputError
from relapet.model.diffusion import Schedule

Denoise = Callable[[Tensor, Tensor], Tensor]
OnStep = Callable[[int, int], None]
Sampler = Callable[[Denoise, Tensor, Schedule, int, torch.Generator | None, OnStep | None], Tensor]


def trailing_timesteps(length: int, steps: int) -> list[int]:
    """Timesteps from T-1 downward, evenly spaced from the end.

    The first step always starts at pure noise (Lin et al. 2024, "Common diffusion noise schedules and sample
    steps are flawed", table 2).
    """
    if not 1 <= steps <= length:
        raise InputError(f"Sampling steps must lie in 1 to {length}, not {steps}; change --steps.")
    return [round(length - i * length / steps) - 1 for i in range(steps)]


def ddim(
    denoise: Denoise,
    noise: Tensor,
    schedule: Schedule,
    steps: int,
    generator: torch.Generator | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Deterministic DDIM (Song et al. 2021, equation 12 with sigma 0).

    The noise estimate is computed from the clamped clean prediction, so that the two always agree with ``x_t``.
    """
    x = noise
    times = trailing_timesteps(schedule.length, steps)
    for i, (now, following) in enumerate(zip(times, [*times[1:], -1], strict=True)):
        t = torch.full((len(x),), now, device=x.device)
        s = torch.full_like(t, following)
        x_0 = denoise(x, t)
        eps = schedule.to_eps(x_0, x, t)
        x = schedule.add_noise(x_0, eps, s)
        if on_step is not None:
            on_step(i + 1, steps)
    return x


def ddpm(
    denoise: Denoise,
    noise: Tensor,
    schedule: Schedule,
    steps: int,
    generator: torch.Generator | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Ancestral sampling, strided where ``steps`` is below T: each step samples q(x_s | x_t, x0_hat)."""
    x = noise
    times = trailing_timesteps(schedule.length, steps)
    for i, (now, following) in enumerate(zip(times, [*times[1:], -1], strict=True)):
        t = torch.full((len(x),), now, device=x.device)
        s = torch.full_like(t, following)
        fresh = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
        x = schedule.posterior_step(x, denoise(x, t), t, s, fresh)
        if on_step is not None:
            on_step(i + 1, steps)
    return x


SAMPLERS: dict[str, Sampler] = {"ddim": ddim, "ddpm": ddpm}
