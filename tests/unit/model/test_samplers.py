"""The samplers against a distribution whose perfect denoiser is known in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import chain, count, pairwise

import pytest
import torch
from torch import Tensor

from relapet.errors import InputError
from relapet.model.diffusion import NoiseProcess, Schedule, scaled_linear_schedule
from relapet.model.noise import SIGMAS_MM, NoiseShape
from relapet.model.samplers import SAMPLERS, ddim, ddpm, walk_of
from relapet.synthesis.sample_config import SampleConfig

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
    sample = SAMPLERS[name].walk(perfect_denoiser, SCHEDULE, draws(), 1000, None)
    assert sample.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert sample.std().item() == pytest.approx(SD, rel=0.03)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "flow"])
def test_one_step_gives_the_clean_prediction(name: str) -> None:
    noise = start(8)
    sample = SAMPLERS[name].walk(perfect_denoiser, SCHEDULE, lambda: noise, 1, None)
    torch.testing.assert_close(sample, perfect_denoiser(noise, torch.tensor([999])), atol=1e-6, rtol=0)


def even_in_log_snr(length: int = 1024, first: float = 9.0, last: float = -3.0) -> Schedule:
    """A fine schedule in float64 whose timesteps lie evenly in log(a / b), down to so little noise that none is missed.

    On it a sampler shows its order. On the schedule of the release, whose b grows as the root of t, the last of K even
    steps starts where b^2 is about 1 / K, and misses by as much whatever the sampler.
    """
    alpha_bar = torch.sigmoid(2 * torch.linspace(first, last, length, dtype=torch.float64))
    before = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])
    return Schedule(1 - alpha_bar / before, alpha_bar)


def error(
    name: str, process: Schedule, steps: int, noise: Tensor, mean: float = MEAN, sd: float = SD
) -> float:
    """Largest distance from the end of the exact probability flow, where each voxel's x_0 is N(mean, (sd eps)^2)."""

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        signal, deviation = process.signal_and_noise(t, x_t)
        return mean + signal * sd**2 / (signal**2 * sd**2 + deviation**2) * (x_t - signal * mean)

    signal, deviation = process.signal_and_noise(torch.tensor([process.length - 1]), noise)
    exact = mean + sd * (noise - signal * mean) / (signal**2 * sd**2 + deviation**2).sqrt()
    sample = SAMPLERS[name].walk(denoise, process, lambda: noise, steps, None)
    return float((sample - exact).abs().max())


def slopes(errors: list[float]) -> list[float]:
    """The measured order from each number of steps to twice as many."""
    return [math.log2(one / other) for one, other in pairwise(errors)]


@pytest.mark.parametrize("name", ["ddim", "flow", "dpmpp", "heun"])
def test_the_error_falls_with_the_stated_order(name: str) -> None:
    process, noise = even_in_log_snr(), start(6)
    found = slopes([error(name, process, steps, noise) for steps in (128, 256, 512)])
    assert found == pytest.approx([SAMPLERS[name].order] * 2, abs=0.15)


def shaped_noise() -> Tensor:
    """A draw of noise with the covariance of some remainder: components and a smooth field, uneven over the volume."""
    shape, rng = (8, 9, 10), torch.Generator().manual_seed(3)
    smooth = torch.tensor([0.6, 0.0, 0.8, 0.0, 0.0])
    assert len(smooth) == len(SIGMAS_MM)
    components = 0.1 * torch.randn((2, *shape), generator=rng)
    shape_of_noise = NoiseShape(components, 0.2 * torch.rand(shape, generator=rng), smooth, 6.0)
    return shape_of_noise.draw(rng).double()[None, None]


@pytest.mark.parametrize("name", ["ddim", "flow", "dpmpp", "heun"])
def test_data_of_the_noise_s_own_covariance_come_back_with_the_stated_order(name: str) -> None:
    """Then the exact flow leads every volume to itself; the flow's steps are exact at any number."""
    process, noise = even_in_log_snr(), shaped_noise()
    errors = [error(name, process, steps, noise, mean=0.0, sd=1.0) for steps in (128, 256, 512)]
    if name == "flow":
        assert max(errors) < 1e-12
    else:
        assert slopes(errors) == pytest.approx([SAMPLERS[name].order] * 2, abs=0.15)


@pytest.mark.parametrize("name", ["ddim", "dpmpp", "heun"])
def test_even_steps_of_the_released_schedule_make_every_order_one_but_the_error_smaller(name: str) -> None:
    errors = [error(name, SCHEDULE, steps, start(6)) for steps in (125, 250, 500)]
    assert slopes(errors) == pytest.approx([1, 1], abs=0.15)
    if name != "ddim":
        for steps, share in {10: 0.7, 20: 0.5, 50: 0.5, 125: 0.5}.items():
            assert error(name, SCHEDULE, steps, start(6)) < share * error("ddim", SCHEDULE, steps, start(6))


SPREAD = {
    "ddim": {1: 0.021, 2: 0.424, 4: 0.687, 10: 0.863, 20: 0.928, 50: 0.970},
    "ddpm": {1: 0.021, 2: 0.419, 4: 0.606, 10: 0.790, 20: 0.876, 50: 0.944},
    "flow": {1: 1.0, 2: 1.0, 4: 1.0, 10: 1.0, 20: 1.0, 50: 1.0},
    "dpmpp": {1: 0.021, 2: 0.424, 4: 0.752, 10: 0.962, 20: 0.990, 50: 0.996},
    "heun": {1: 0.021, 2: 1.580, 4: 1.064, 10: 0.991, 20: 0.991, 50: 0.996},
}
"""SD of samples over that of the data, by steps, where the data have the noise's covariance and nothing is known: the
numbers of docs/methods.md."""


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_the_spread_that_is_left_after_few_steps(name: str) -> None:
    """Data of the noise's own covariance: ``E[x_0 | x_t] = sqrt(abar) x_t``."""
    assert set(SPREAD) == set(SAMPLERS)

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        return SCHEDULE.signal_and_noise(t, x_t)[0] * x_t

    for steps, spread in SPREAD[name].items():
        sample = SAMPLERS[name].walk(denoise, SCHEDULE, draws(), steps, None)
        # Of random steps the SD over 24^3 voxels is known to within some 0.6 %.
        within = 0.03 if name == "ddpm" else 1e-3
        assert float(sample.std() / start().std()) == pytest.approx(spread, abs=within)


def ancestral_moments(steps: int, eta: float, process: Schedule = SCHEDULE) -> tuple[float, float]:
    """Mean and variance that a perfect denoiser's random walk ends at, by Gaussian conditioning at each step.

    Given x_0, (x_s, x_t) are jointly normal with covariance (a_t / a_s) b_s^2; the walk puts x0_hat in the place of x_0
    and, with eta below 1, leaves the rest of x_s's variance to the noise estimate.
    """
    a, b = (process.alpha_bar.double().sqrt(), (1 - process.alpha_bar.double()).sqrt())
    one, none = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    a, b = torch.cat([a, one]), torch.cat([b, none])  # -1 is the clean volume
    times = process.times(steps)
    mean, variance = torch.zeros(1, dtype=torch.float64), one
    for t, s in zip(times, [*times[1:], -1], strict=True):
        covariance = a[t] / a[s] * b[s] ** 2
        fresh = eta**2 * (b[s] ** 2 - covariance**2 / b[t] ** 2)
        kept = (b[s] ** 2 - fresh).clamp(min=0).sqrt()
        gain = a[t] * SD**2 / (a[t] ** 2 * SD**2 + b[t] ** 2)
        weight = a[s] * gain + kept * (1 - a[t] * gain) / b[t]  # of x_t in x_s
        constant = (1 - gain * a[t]) * MEAN
        mean = weight * mean + constant * (a[s] - kept * a[t] / b[t])
        variance = weight**2 * variance + fresh
    return float(mean), float(variance)


@pytest.mark.parametrize("steps", [2, 7, 40])
@pytest.mark.parametrize(
    ("walk", "eta"), [(ddpm, 1.0), (partial(ddim, eta=1.0), 1.0), (partial(ddim, eta=0.5), 0.5), (ddim, 0.0)]
)
def test_random_steps_end_at_the_exact_ancestral_moments(
    walk: Callable[..., Tensor], eta: float, steps: int
) -> None:
    sample = walk(perfect_denoiser, SCHEDULE, draws(size=40), steps)
    mean, variance = ancestral_moments(steps, eta)
    assert abs(float(sample.mean()) - mean) < 5 * (variance / sample.numel()) ** 0.5
    assert abs(float(sample.var()) / variance - 1) < 5 * (2 / sample.numel()) ** 0.5


def test_the_ancestral_spread_comes_right_with_order_one() -> None:
    """Of the moments that the test above holds the sampler to."""
    errors = [
        abs(ancestral_moments(steps, 1.0, even_in_log_snr())[1] ** 0.5 - SD) for steps in (128, 256, 512)
    ]
    assert slopes(errors) == pytest.approx([SAMPLERS["ddpm"].order] * 2, abs=0.15)


def test_ddim_with_all_of_the_noise_anew_is_ddpm() -> None:
    one = ddim(perfect_denoiser, SCHEDULE, draws(size=8), 9, eta=1.0)
    torch.testing.assert_close(one, ddpm(perfect_denoiser, SCHEDULE, draws(size=8), 9), atol=1e-5, rtol=0)
    half = ddim(perfect_denoiser, SCHEDULE, draws(size=8), 9, eta=0.5)
    assert not torch.allclose(half, one, atol=1e-2)
    assert not torch.allclose(half, ddim(perfect_denoiser, SCHEDULE, draws(size=8), 9), atol=1e-2)


def test_eta_reaches_ddim_through_the_settings() -> None:
    for settings, eta in ((SampleConfig(eta=0.5), 0.5), (SampleConfig(), 0.0)):
        found = walk_of(settings)(perfect_denoiser, SCHEDULE, draws(size=8), 5, None)
        assert torch.equal(found, ddim(perfect_denoiser, SCHEDULE, draws(size=8), 5, eta=eta))
    with pytest.raises(InputError, match=r"eta is 0\.5, which is ddim's alone; leave it at 0 with heun"):
        SampleConfig(sampler="heun", eta=0.5)


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_a_process_without_signal_at_its_noisiest_is_refused_where_sigma_must_be_finite(name: str) -> None:
    silent: NoiseProcess = scaled_linear_schedule(40_000, 5e-4, 1.95e-2)
    assert not silent.signal_and_noise(torch.tensor([39_999]), start(4))[0].any()
    walk = SAMPLERS[name].walk
    if SAMPLERS[name].order == 1:
        assert walk(lambda x, t: torch.tanh(x), silent, draws(size=4), 5, None).isfinite().all()
        return
    with pytest.raises(InputError, match=f"{name} needs a process that leaves some signal"):
        walk(lambda x, t: torch.tanh(x), silent, draws(size=4), 5, None)


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
