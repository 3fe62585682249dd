"""Samplers: short pure functions that see only "noisy in, clean out" and a noise process.

Each is ``sample(denoise, process, fresh, steps, on_step)``: ``denoise(x_t, t)`` gives the clean prediction (the
caller has bound the condition), ``fresh()`` draws noise of the volumes' shape, ``(B, K, X, Y, Z)``; the first draw is
where the walk starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from relapet.model.diffusion import NoiseProcess
from relapet.model.interface import OnStep

Denoise = Callable[[Tensor, Tensor], Tensor]
Fresh = Callable[[], Tensor]
Sampler = Callable[[Denoise, NoiseProcess, Fresh, int, OnStep | None], Tensor]


def ddim(
    denoise: Denoise, process: NoiseProcess, fresh: Fresh, steps: int, on_step: OnStep | None = None
) -> Tensor:
    """Deterministic DDIM (Song et al. 2021, equation 12 with sigma 0).

    The noise estimate is computed from the clamped clean prediction, so that the two always agree with ``x_t``.
    """
    x = process.start(fresh())
    for done, t, s in _times(process, steps, x):
        x_0 = denoise(x, t)
        x = process.mix(x_0, process.noise_in(x, x_0, t), s)
        if on_step is not None:
            on_step(done, steps)
    return x


def ddpm(
    denoise: Denoise, process: NoiseProcess, fresh: Fresh, steps: int, on_step: OnStep | None = None
) -> Tensor:
    """Ancestral sampling, strided where ``steps`` is below T: each step samples q(x_s | x_t, x0_hat)."""
    x = process.start(fresh())
    for done, t, s in _times(process, steps, x):
        noise = fresh()
        x = process.step(x, denoise(x, t), t, s, noise)
        if on_step is not None:
            on_step(done, steps)
    return x


def flow(
    denoise: Denoise, process: NoiseProcess, fresh: Fresh, steps: int, on_step: OnStep | None = None
) -> Tensor:
    """Probability flow by Euler steps in the angle of the process, deterministic.

    Where the data have the covariance of the noise it keeps their spread at few steps: DDIM with K even steps loses a
    factor of cos(90 deg / K) to the power of K (0.73 at 4).
    """
    x = process.start(fresh())
    for done, t, s in _times(process, steps, x):
        x = process.turn(x, denoise(x, t), t, s)
        if on_step is not None:
            on_step(done, steps)
    return x


def _times(process: NoiseProcess, steps: int, like: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """The number of each step from 1, its timestep and the one it leads to, ``(B,)`` each; -1 is the clean volume."""
    times = process.times(steps)
    for done, (now, following) in enumerate(zip(times, [*times[1:], -1], strict=True), 1):
        t = torch.full((len(like),), now, device=like.device)
        yield done, t, torch.full_like(t, following)


SAMPLERS: dict[str, Sampler] = {"ddim": ddim, "ddpm": ddpm, "flow": flow}
