"""What a denoising network's output means: raw, a residual of the prior, or a preconditioned residual.

Each wraps a network of `relapet.model.generator.Generator`'s call, ``network(x_t, t, condition)``, and gives the
training target of what it predicts and the clean volume that the prediction stands for. A method picks one by
`parametrised` and never repeats the formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from relapet.model.diffusion import Schedule
from relapet.model.interface import Condition, Draws
from relapet.model.noise import NoiseShape

Prediction = Literal["eps", "x0", "v"]
"""What is predicted: the noise, the clean volume, or v = sqrt(abar) eps - sqrt(1-abar) x_0."""
Network = Callable[[Tensor, Tensor, Condition], Tensor]


@dataclass(frozen=True)
class Raw:
    """The network's output is the prediction itself, of a volume in white noise."""

    schedule: Schedule
    kind: Prediction

    def fresh(self, draws: Draws, condition: Condition) -> Tensor:
        """Noise of the wanted volumes, ``(B, K, X, Y, Z)``."""
        return draws.normal(condition.volumes())

    def walked(self, pet: Tensor, condition: Condition) -> Tensor:
        """The clean end of the walk that leads to a PET."""
        return pet

    def finished(self, x_0: Tensor, condition: Condition) -> Tensor:
        """The PET in [-1, 1] that a walk ended at."""
        return x_0.clamp(-1, 1)

    def predict(self, network: Network, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """What `kind` names, ``(B, K, X, Y, Z)``."""
        return network(x_t, t, condition)

    def target(self, x_0: Tensor, eps: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """What the prediction should be."""
        if self.kind == "eps":
            return eps
        if self.kind == "x0":
            return x_0
        signal, noise = self.schedule.signal_and_noise(t, x_0)
        return signal * eps - noise * x_0

    def clean(self, prediction: Tensor, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The clean end ``x0_hat`` that a prediction stands for, not clamped."""
        if self.kind == "x0":
            return prediction
        signal, noise = self.schedule.signal_and_noise(t, x_t)
        if self.kind == "eps":
            return (x_t - noise * prediction) / signal
        return signal * x_t - noise * prediction  # v (Salimans and Ho 2022, appendix D)


@dataclass(frozen=True)
class Residual(Raw):
    """The clean volume is the prior plus the network's output."""

    def predict(self, network: Network, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The clean volume, ``(B, K, X, Y, Z)``."""
        return _prior(condition) + network(x_t, t, condition)


@dataclass(frozen=True)
class Preconditioned(Raw):
    """The residual where each voxel of it is normal with deviation ``sd`` about the prior.

    The network sees what ``x_t`` alone says of the residual and adds to that in units of what is still unknown (c_skip
    and c_out of Karras et al. 2022, EDM, table 1). The noise that says nothing of the volume is taken out of its
    input, so that it need not be learned away.
    """

    sd: float

    def predict(self, network: Network, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The clean volume, ``(B, K, X, Y, Z)``."""
        prior = _prior(condition)
        known, unknown = wiener(self.schedule, x_t, prior, t, self.sd)
        return prior + known + unknown * network(known / self.sd, t, condition)


@dataclass(frozen=True)
class Remainder(Raw):
    """The walk is that of the remainder r = PET - prior, in noise of r's own covariance (`relapet.model.noise`).

    Then E[r | x_t] is ``sqrt(abar) x_t`` at every scale for who knows nothing of the person, and one scalar a tracer
    preconditions all: ``r_hat = sqrt(abar) x_t + sqrt(1 - abar) s F(x_t / s)``, where F is asked for a number of
    deviation 1 at every t. A network that gives 0 samples the right spread.
    """

    noise: Mapping[int, NoiseShape]
    """By tracer index."""

    def fresh(self, draws: Draws, condition: Condition) -> Tensor:
        """Noise of each tracer's shape, ``(B, K, X, Y, Z)``."""
        rows, device = condition.tracer.tolist(), condition.mri.device
        volumes = [
            torch.stack([self.noise[index].to(device).draw(generator) for index in row])
            for row, generator in zip(rows, draws.generators, strict=True)
        ]
        return torch.stack(volumes)

    def walked(self, pet: Tensor, condition: Condition) -> Tensor:
        """The remainder."""
        return pet - _prior(condition)

    def finished(self, x_0: Tensor, condition: Condition) -> Tensor:
        """The prior and a remainder."""
        return (_prior(condition) + x_0).clamp(-1, 1)

    def predict(self, network: Network, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """F, ``(B, K, X, Y, Z)``."""
        return network(x_t / self.scale(condition), t, condition)

    def target(self, x_0: Tensor, eps: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """``(r - sqrt(abar) x_t) / (sqrt(1 - abar) s)``."""
        signal, noise = self.schedule.signal_and_noise(t, x_0)
        return (noise * x_0 - signal * eps) / self.scale(condition)

    def clean(self, prediction: Tensor, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The remainder that a prediction stands for."""
        signal, noise = self.schedule.signal_and_noise(t, x_t)
        return signal * x_t + noise * self.scale(condition) * prediction

    def scale(self, condition: Condition) -> Tensor:
        """s, ``(B, K, 1, 1, 1)``."""
        scales = [[self.noise[index].scale for index in row] for row in condition.tracer.tolist()]
        return torch.tensor(scales, device=condition.mri.device)[:, :, None, None, None]


def wiener(schedule: Schedule, x_t: Tensor, centre: Tensor, t: Tensor, sd: float) -> tuple[Tensor, Tensor]:
    """What ``x_t`` alone says of ``x_0`` where each voxel of it is normal about ``centre`` with deviation ``sd``.

    Its posterior mean about the centre, ``(B, K, X, Y, Z)``, and posterior deviation, ``(B, 1, 1, 1, 1)``.
    """
    signal, noise = schedule.signal_and_noise(t, x_t)
    variance = (signal * sd).square() + noise.square()
    return signal * sd**2 / variance * (x_t - signal * centre), sd * noise / variance.sqrt()


def parametrised(schedule: Schedule, kind: Prediction, prior: bool, sd: float) -> Raw:
    """The parametrisation that follows from what is predicted, whether there is a prior, and its residual's SD.

    With a prior the clean volume is predicted as a residual, preconditioned where its SD is given (not 0); noise
    and v are always raw.
    """
    if not prior or kind != "x0":
        return Raw(schedule, kind)
    return Preconditioned(schedule, kind, sd) if sd else Residual(schedule, kind)


def _prior(condition: Condition) -> Tensor:
    if condition.prior is None:
        raise ValueError("a residual needs a prior to be added to")
    return condition.prior
