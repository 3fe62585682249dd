from __future__ import annotations

import pytest
import torch

from relapet.model.diffusion import scaled_linear_schedule
from relapet.model.parametrisation import Prediction, Raw, wiener
from support import condition_of

SCHEDULE = scaled_linear_schedule(1000, 5e-4, 1.95e-2)


def volumes(count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    shape = (count, 1, 4, 6, 8)
    return torch.randn(shape, generator=rng, dtype=torch.float64), torch.randn(
        shape, generator=rng, dtype=torch.float64
    )


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_a_perfect_prediction_gives_the_clean_volume_back(kind: Prediction) -> None:
    x_0, eps = volumes()
    t = torch.tensor([0, 500, 999])
    x_t = SCHEDULE.mix(x_0, eps, t)
    form, condition = Raw(SCHEDULE, kind), condition_of(torch.zeros(3, 2, 4, 6, 8), [0, 1, 2])
    target = form.target(x_0, eps, t, condition)
    torch.testing.assert_close(form.clean(target, x_t, t, condition), x_0)
    torch.testing.assert_close(SCHEDULE.noise_in(x_t, x_0, t), eps)


def test_the_last_step_leaves_the_clean_prediction() -> None:
    x_0, eps = volumes(1)
    t = torch.tensor([500])
    x_t = SCHEDULE.mix(x_0, eps, t)
    last = SCHEDULE.step(x_t, x_0, t, torch.tensor([-1]), eps)
    torch.testing.assert_close(last, x_0, atol=1e-4, rtol=0)


def test_the_posterior_has_the_marginal_of_the_earlier_step() -> None:
    """Mean and variance of q(x_s | x_t, x_0) averaged over x_t must be those of q(x_s | x_0)."""
    rng = torch.Generator().manual_seed(0)
    x_0 = torch.full((1, 1, 60, 60, 60), 0.7, dtype=torch.float64)
    t, s = torch.tensor([700]), torch.tensor([300])
    eps, fresh = (torch.randn(x_0.shape, generator=rng, dtype=torch.float64) for _ in range(2))
    x_s = SCHEDULE.step(SCHEDULE.mix(x_0, eps, t), x_0, t, s, fresh)
    abar = SCHEDULE.alpha_bar[300].double()
    assert abs(x_s.mean() - abar.sqrt() * 0.7) < 5 * ((1 - abar) / x_0.numel()).sqrt()
    assert abs(x_s.var() / (1 - abar) - 1) < 5 * (2 / x_0.numel()) ** 0.5


def test_half_precision_volumes_keep_float32_coefficients() -> None:
    signal, noise = SCHEDULE.signal_and_noise(
        torch.tensor([999]), torch.zeros(1, 1, 2, 2, 2, dtype=torch.bfloat16)
    )
    assert signal.dtype == noise.dtype == torch.float32
    assert signal.shape == (1, 1, 1, 1, 1)


def test_wiener_is_the_posterior_of_a_normal_volume() -> None:
    """Against the regression of x_0 on x_t in a large normal sample, and at both ends of the process."""
    rng, sd = torch.Generator().manual_seed(1), 0.1
    centre = torch.full((1, 1, 1, 1, 400_000), 0.3, dtype=torch.float64)
    x_0 = centre + sd * torch.randn(centre.shape, generator=rng, dtype=torch.float64)
    for step in (5, 100, 300):
        t = torch.tensor([step])
        x_t = SCHEDULE.mix(x_0, torch.randn(centre.shape, generator=rng, dtype=torch.float64), t)
        known, unknown = wiener(SCHEDULE, x_t, centre, t, sd)
        covariance = torch.cov(torch.stack([x_t.flatten(), x_0.flatten()]))
        slope = covariance[0, 1] / covariance[0, 0]
        by_hand = slope * (x_t - x_t.mean()) + x_0.mean()
        torch.testing.assert_close(centre + known, by_hand, atol=2e-3, rtol=0)
        torch.testing.assert_close(unknown.squeeze(), (x_0 - by_hand).std(), rtol=1e-2, atol=0)
    known, unknown = wiener(SCHEDULE, x_0, centre, torch.tensor([-1]), sd)
    torch.testing.assert_close(centre + known, x_0)
    assert unknown.abs().max() == 0


def test_wiener_takes_each_volume_s_own_timestep() -> None:
    x_0, eps = volumes(2)
    t = torch.tensor([10, 900])
    x_t = SCHEDULE.mix(x_0, eps, t)
    together = wiener(SCHEDULE, x_t, torch.zeros_like(x_0), t, 0.1)
    for n in range(2):
        alone = wiener(SCHEDULE, x_t[n : n + 1], torch.zeros_like(x_0[:1]), t[n : n + 1], 0.1)
        for one, other in zip(together, alone, strict=True):
            torch.testing.assert_close(one[n : n + 1], other)
