"""The samplers against a distribution whose perfect denoiser is known in closed form."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, count

import pytest
import torch
from torch import Tensor

from relapet.errors import InputError
from relapet.model.diffusion import scaled_linear_schedule
from relapet.model.samplers import SAMPLERS, ddim, ddpm, flow

SCHEDULE = scaled_linear_schedule(1000, 5e-4, 1.95e-2)
MEAN, SD = 0.3, 0.5


def perfect_denoiser(x_t: Tensor, t: Tensor) -> Tensor:
    """E[x_0 | x_t] where every voxel is N(MEAN, SD^2)."""
    signal, noise = SCHEDULE.signal_and_noise(t, x_t)
    gain = signal * SD**2 / (signal**2 * SD**2 + noise**2)
    return MEAN + gain * (x_t - signal * MEAN)


def start(size: int = 24) -> Tensor:
    return torch.randn(
        1, 1, size, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )


def draws(seed: int = 1, size: int = 24) -> Callable[[], Tensor]:
    """`start`, then fresh noise."""
    generator = torch.Generator().manual_seed(seed)
    noise = chain(
        [start(size)],
        (torch.randn(start(size).shape, generator=generator, dtype=torch.float64) for _ in count()),
    )
    return lambda: next(noise)


def test_trailing_timesteps_start_at_pure_noise() -> None:
    assert SCHEDULE.times(4) == [999, 749, 499, 249]
    assert SCHEDULE.times(1) == [999]
    assert scaled_linear_schedule(10, 5e-4, 1.95e-2).times(10) == list(range(9, -1, -1))


@pytest.mark.parametrize("steps", [0, 1001])
def test_steps_out_of_range_are_refused(steps: int) -> None:
    with pytest.raises(InputError, match="Sampling steps"):
        SCHEDULE.times(steps)


def test_ddim_follows_the_exact_path() -> None:
    """For a Gaussian the exact flow maps x_T to MEAN + SD (x_T - signal MEAN) / sqrt(signal^2 SD^2 + noise^2)."""
    noise = start()
    signal, deviation = SCHEDULE.signal_and_noise(torch.tensor([999]), noise)
    exact = MEAN + SD * (noise - signal * MEAN) / (signal**2 * SD**2 + deviation**2).sqrt()
    sample = ddim(perfect_denoiser, SCHEDULE, lambda: noise, 1000)
    assert (sample - exact).abs().max() < 0.01 * SD * noise.abs().max()


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_samples_have_the_right_mean_and_spread(name: str) -> None:
    sample = SAMPLERS[name](perfect_denoiser, SCHEDULE, draws(), 1000, None)
    assert sample.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert sample.std().item() == pytest.approx(SD, rel=0.03)


@pytest.mark.parametrize("name", ["ddim", "ddpm"])
def test_one_step_gives_the_clean_prediction(name: str) -> None:
    noise = start(8)
    sample = SAMPLERS[name](perfect_denoiser, SCHEDULE, lambda: noise, 1, None)
    torch.testing.assert_close(sample, perfect_denoiser(noise, torch.tensor([999])), atol=1e-6, rtol=0)


@pytest.mark.parametrize("steps", [1, 4, 50])
def test_the_flow_keeps_what_nothing_is_known_of(steps: int) -> None:
    """Data of the noise's own covariance: ``E[x_0 | x_t] = sqrt(abar) x_t``; DDIM of few steps loses spread."""
    noise = start(8)

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        return SCHEDULE.signal_and_noise(t, x_t)[0] * x_t

    torch.testing.assert_close(flow(denoise, SCHEDULE, lambda: noise, steps), noise)
    assert ddim(denoise, SCHEDULE, lambda: noise, 4).std() < 0.8 * noise.std()


def test_the_noise_estimate_belongs_to_the_clamped_prediction() -> None:
    """A denoiser that always says 1 must end at exactly 1, whatever the steps."""
    sample = ddim(lambda x, t: torch.ones_like(x), SCHEDULE, draws(size=8), 7)
    torch.testing.assert_close(sample, torch.ones_like(sample))


def test_progress_is_told_and_ancestral_noise_is_seeded() -> None:
    told: list[tuple[int, int]] = []

    def run(seed: int) -> Tensor:
        return ddpm(perfect_denoiser, SCHEDULE, draws(seed, 8), 5, lambda i, n: told.append((i, n)))

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))
    assert told[:5] == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
