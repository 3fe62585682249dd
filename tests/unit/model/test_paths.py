"""Straight path and bridge against distributions whose perfect denoiser is known in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import chain, count

import pytest
import torch
from torch import Tensor

from relapet.errors import InputError
from relapet.model.diffusion import NoiseProcess, scaled_linear_schedule
from relapet.model.paths import GaussianPath, brownian_bridge, straight_path
from relapet.model.samplers import SAMPLERS, Denoise

MEAN, SD = 0.3, 0.5
PATHS = {"straight": straight_path(1000), "bridge": brownian_bridge(1000, 1.0)}
WALKS = [
    (path, sampler)
    for path in PATHS
    for sampler in SAMPLERS
    if path == "bridge" or sampler not in ("dpmpp", "heun")
]
"""The straight path has no signal left at its end, which two samplers need."""


def perfect(path: NoiseProcess, mean: float = MEAN, sd: float = SD) -> Denoise:
    """E[x_0 | x_t] where every voxel is N(mean, sd^2)."""

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        signal, noise = path.signal_and_noise(t, x_t)
        return mean + signal * sd**2 / (signal**2 * sd**2 + noise**2) * (x_t - signal * mean)

    return denoise


def draws(size: int = 24) -> Callable[[], Tensor]:
    rng = torch.Generator().manual_seed(1)
    fresh = chain(torch.randn((1, 1, size, size, size), generator=rng, dtype=torch.float64) for _ in count())
    return lambda: next(fresh)


@pytest.mark.parametrize(("name", "sampler"), WALKS)
def test_samples_of_a_gaussian_have_its_mean_and_spread(name: str, sampler: str) -> None:
    path = PATHS[name]
    sample = SAMPLERS[sampler].walk(perfect(path), path, draws(), 1000, None)
    assert sample.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert sample.std().item() == pytest.approx(SD, rel=0.03)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize(("name", "sampler"), WALKS)
def test_what_is_known_is_found_in_any_number_of_steps(name: str, sampler: str, steps: int) -> None:
    """Of a volume without spread; but `flow`, which keeps the spread of what it starts from."""
    if sampler == "flow":
        return
    path = PATHS[name]
    sample = SAMPLERS[sampler].walk(perfect(path, sd=0), path, draws(8), steps, None)
    torch.testing.assert_close(sample, torch.full_like(sample, MEAN), atol=1e-6, rtol=0)


def test_eulers_steps_on_the_straight_path_follow_the_velocity() -> None:
    """`ddim` is x - h v, with v = eps_hat - x0_hat; its end nears the exact map MEAN + SD eps as 1 / steps."""
    path, noise = PATHS["straight"], draws(8)()
    denoise, x, steps = perfect(path), noise, 10
    for i in range(steps):
        t = torch.tensor([1000 - 100 * i - 1])
        u = 1 - i / steps
        clean = denoise(x, t)
        velocity = (x - (1 - u) * clean) / u - clean
        x = x - velocity / steps
    sample = SAMPLERS["ddim"].walk(denoise, path, lambda: noise, steps, None)
    torch.testing.assert_close(sample, x, atol=1e-6, rtol=0)
    errors = [
        float((SAMPLERS["ddim"].walk(denoise, path, lambda: noise, k, None) - MEAN - SD * noise).abs().max())
        for k in (50, 100)
    ]
    assert errors[1] == pytest.approx(errors[0] / 2, rel=0.1)


def test_turns_of_unit_spread_are_exact_in_one_step() -> None:
    """A volume of the noise's own spread, of which nothing is known, is the noise itself."""
    path, noise = PATHS["straight"], draws(8)()
    for steps in (1, 5):
        sample = SAMPLERS["flow"].walk(perfect(path, 0.0, 1.0), path, lambda: noise, steps, None)
        torch.testing.assert_close(sample, noise, atol=1e-6, rtol=0)


def test_a_path_of_diffusions_tables_steps_as_diffusion_does() -> None:
    schedule = scaled_linear_schedule(50, 1e-3, 0.3)
    path = GaussianPath(schedule.alpha_bar.double().sqrt(), (1 - schedule.alpha_bar.double()).sqrt())
    x_t, x_0, noise = (draws(4)() for _ in range(3))
    t, s = torch.tensor([40]), torch.tensor([11])
    for name in ("step", "turn", "renewed"):
        given = {"step": (x_t, x_0, t, s, noise), "turn": (x_t, x_0, t, s), "renewed": (t, s, x_t)}[name]
        torch.testing.assert_close(
            getattr(path, name)(*given), getattr(schedule, name)(*given), rtol=1e-5, atol=1e-6
        )
    assert path.times(7) == schedule.times(7)


def test_the_bridges_posterior_is_that_of_a_brownian_motion_held_at_both_ends() -> None:
    """Given x_t and x_0, x_s is normal on the line between them, with variance 2 s m_s (m_t - m_s) / m_t."""
    path, t, s = brownian_bridge(99, 0.7), torch.tensor([59]), torch.tensor([19])
    m_t, m_s = 0.6, 0.2
    one = torch.ones((1, 1, 1, 1, 1), dtype=torch.float64)
    mean = path.step(3 * one, one, t, s, 0 * one).item()
    assert mean == pytest.approx(1 + (3 - 1) * m_s / m_t)
    deviation = path.step(3 * one, one, t, s, one).item() - mean
    assert deviation == pytest.approx(math.sqrt(2 * 0.7 * m_s * (m_t - m_s) / m_t))
    signal, noise = path.signal_and_noise(torch.tensor([49]), one)
    assert signal.item() == pytest.approx(0.5)
    assert noise.item() == pytest.approx(math.sqrt(0.7 / 2))


def test_a_sampler_that_needs_signal_says_so_on_the_straight_path() -> None:
    with pytest.raises(InputError, match="use another sampler"):
        SAMPLERS["dpmpp"].walk(perfect(PATHS["straight"]), PATHS["straight"], draws(4), 4, None)
