"""Samplers: short pure functions that see only "noisy in, clean out" and a noise process.

Each is ``walk(denoise, process, fresh, steps, on_step)``: ``denoise(x_t, t)`` gives the clean prediction (the
caller has bound the condition), ``fresh()`` draws noise of the volumes' shape, ``(B, K, X, Y, Z)``; the first draw is
where the walk starts. ``on_step`` hears of every network call.

Below, a volume at t is ``a_t x_0 + b_t eps`` (``a_t`` signal, ``b_t`` noise), whatever the covariance of eps. An order
p means that K steps miss the end of the exact probability flow by about ``K^-p``, as far as ``process.times`` come
close to the clean end: the last step, which is of order 1 for all, misses by ``(b / a)^2`` at the last timestep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from relapet.errors import InputError
from relapet.model.diffusion import NoiseProcess
from relapet.model.interface import OnStep, SampleSettings

Denoise = Callable[[Tensor, Tensor], Tensor]
Fresh = Callable[[], Tensor]
Walk = Callable[[Denoise, NoiseProcess, Fresh, int, OnStep | None], Tensor]


def ddim(
    denoise: Denoise,
    process: NoiseProcess,
    fresh: Fresh,
    steps: int,
    on_step: OnStep | None = None,
    eta: float = 0.0,
) -> Tensor:
    """DDIM, deterministic; with eta above 0 it draws noise anew in each step.

    Song et al. 2021, arXiv:2010.02502, equation 12, sigma by equation 16: of the noise, the share that an ancestral
    step would draw anew is drawn anew, times ``eta``; with 1 it is `ddpm`. The noise estimate is computed from the
    clamped clean prediction, so that the two always agree with ``x_t``.
    """
    x = process.start(fresh())
    for done, t, s in _times(process, steps, x):
        x_0 = denoise(x, t)
        noise = process.noise_in(x, x_0, t)
        if eta:
            share = eta * process.renewed(t, s, x)
            noise = (1 - share.square()).sqrt() * noise + share * fresh()
        x = process.mix(x_0, noise, s)
        if on_step is not None:
            on_step(done, steps)
    return x


def ddpm(
    denoise: Denoise, process: NoiseProcess, fresh: Fresh, steps: int, on_step: OnStep | None = None
) -> Tensor:
    """Ancestral sampling, random: each step samples q(x_s | x_t, x0_hat).

    Ho et al. 2020, arXiv:2006.11239, algorithm 2; strided where ``steps`` is below T.
    """
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
    """Probability flow by Euler steps in the angle of the process, deterministic; keeps spread at few steps.

    Where the data have the covariance of the noise it keeps their spread at few steps: DDIM with K even steps loses a
    factor of cos(90 deg / K) to the power of K (0.73 at 4).
    """
    x = process.start(fresh())
    for done, t, s in _times(process, steps, x):
        x = process.turn(x, denoise(x, t), t, s)
        if on_step is not None:
            on_step(done, steps)
    return x


def dpmpp(
    denoise: Denoise, process: NoiseProcess, fresh: Fresh, steps: int, on_step: OnStep | None = None
) -> Tensor:
    """DPM-Solver++(2M), deterministic: DDIM towards the clean prediction carried on from the last two calls.

    Lu et al. 2022, arXiv:2211.01095, algorithm 2: with ``h`` the step in ``log(a / b)`` and ``h'`` the one before, the
    prediction in the middle of the step is about ``x0_hat + h / (2 h') (x0_hat - x0_hat')``. The first step has no call
    before it and the last one an endless ``h``, so both are of order 1. Raises InputError as `heun` does.
    """
    x = process.start(fresh())
    before: tuple[Tensor, Tensor] | None = None  # the call before: its clean prediction, its log(a / b)
    for done, t, s in _times(process, steps, x):
        if done == 1:
            _require_signal(process, t, x, "dpmpp")
        x_0, level = denoise(x, t), _log_ratio(process, t, x)
        aim = x_0
        if before is not None and done < steps:
            ahead = (_log_ratio(process, s, x) - level) / (2 * (level - before[1]))
            aim = x_0 + ahead * (x_0 - before[0])
        before = x_0, level
        x = process.mix(aim, process.noise_in(x, aim, t), s)
        if on_step is not None:
            on_step(done, steps)
    return x


def heun(
    denoise: Denoise, process: NoiseProcess, fresh: Fresh, steps: int, on_step: OnStep | None = None
) -> Tensor:
    """Heun's method on the sigma form, deterministic: each step's slope is the mean of those at its two ends.

    Karras et al. 2022, arXiv:2206.00364, algorithm 1: of ``y = x / a`` over ``sigma = b / a`` the slope is the noise in
    x. The last step, to sigma 0, is Euler's. Two network calls a step but for that one. Raises InputError where a
    process has no signal at its noisiest, so that sigma is infinite there.
    """
    x, calls = process.start(fresh()), 2 * steps - 1
    for done, t, s in _times(process, steps, x):
        if done == 1:
            _require_signal(process, t, x, "heun")
        x_0 = denoise(x, t)
        noise = process.noise_in(x, x_0, t)
        if on_step is not None:
            on_step(2 * done - 1, calls)
        end = process.mix(x_0, noise, s)
        if done == steps:
            return end
        slope = (noise + process.noise_in(end, denoise(end, s), s)) / 2
        signal, deviation = process.signal_and_noise(t, x)
        x = process.mix((x - deviation * slope) / signal, slope, s)
        if on_step is not None:
            on_step(2 * done, calls)
    return x


def _times(process: NoiseProcess, steps: int, like: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """The number of each step from 1, its timestep and the one it leads to, ``(B,)`` each; -1 is the clean volume."""
    times = process.times(steps)
    for done, (now, following) in enumerate(zip(times, [*times[1:], -1], strict=True), 1):
        t = torch.full((len(like),), now, device=like.device)
        yield done, t, torch.full_like(t, following)


def _require_signal(process: NoiseProcess, t: Tensor, like: Tensor, name: str) -> None:
    if not process.signal_and_noise(t, like)[0].all():
        raise InputError(
            f"The sampler {name} needs a process that leaves some signal in its noisiest volume; use another sampler."
        )


def _log_ratio(process: NoiseProcess, t: Tensor, like: Tensor) -> Tensor:
    """``log(a_t / b_t)``, half the log of the signal-to-noise ratio, ``(B, 1, 1, 1, 1)``."""
    signal, noise = process.signal_and_noise(t, like)
    return (signal / noise).log()


@dataclass(frozen=True)
class Sampler:
    """A row of `SAMPLERS`."""

    walk: Walk
    order: int
    """Of the probability flow; `ddpm`, which is random, has it of the samples' moments."""
    calls_a_step: int = 1
    """Network calls of every step but the last, which is one call."""

    def calls(self, steps: int) -> int:
        """Network calls of a sample."""
        return self.calls_a_step * (steps - 1) + 1


SAMPLERS: dict[str, Sampler] = {
    "ddim": Sampler(ddim, order=1),
    "ddpm": Sampler(ddpm, order=1),
    "flow": Sampler(flow, order=1),
    "dpmpp": Sampler(dpmpp, order=2),
    "heun": Sampler(heun, order=2, calls_a_step=2),
}


def walk_of(settings: SampleSettings) -> Walk:
    """What walks from noise to a volume as the settings say."""
    return partial(ddim, eta=settings.eta) if settings.eta else SAMPLERS[settings.sampler].walk
