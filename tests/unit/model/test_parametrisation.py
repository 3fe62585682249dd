"""What a network's output means, in each parametrisation; the preconditioned one is tested with the method."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from relapet.model.diffusion import scaled_linear_schedule
from relapet.model.interface import Condition, Draws
from relapet.model.noise import SIGMAS_MM, NoiseShape
from relapet.model.parametrisation import (
    Preconditioned,
    Raw,
    Remainder,
    Residual,
    parametrised,
)

SCHEDULE = scaled_linear_schedule(1000, 5e-4, 1.95e-2)
SHAPE = (4, 6, 8)
T = torch.tensor([0, 400, 999])
TRACERS = torch.tensor([[0, 3], [3, 0], [0, 3]])


def white(sd: float) -> NoiseShape:
    smooth = torch.zeros(len(SIGMAS_MM))
    smooth[0] = 1
    return NoiseShape(torch.zeros((0, *SHAPE)), torch.full(SHAPE, sd), smooth, 4.0)


REMAINDER = Remainder(SCHEDULE, "x0", {0: white(0.1), 3: white(0.3)})


def volumes(seed: int, scale: float = 1.0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return scale * torch.randn((3, 2, *SHAPE), generator=rng)


CONDITION = Condition(torch.zeros((3, 2, *SHAPE)), 0.3 * volumes(5).clamp(-1, 1), TRACERS)


def nothing(x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
    return torch.zeros_like(x_t)


@pytest.mark.parametrize("form", [Raw(SCHEDULE, "eps"), Raw(SCHEDULE, "x0"), Raw(SCHEDULE, "v"), REMAINDER])
def test_the_target_stands_for_the_clean_end_of_the_walk(form: Raw) -> None:
    pet, eps = CONDITION.prior + volumes(0, 0.1), volumes(1, 0.2)
    x_0 = form.walked(pet, CONDITION)
    x_t = SCHEDULE.mix(x_0, eps, T)
    target = form.target(x_0, eps, T, CONDITION)
    # The noise of T - 1 leaves little to tell the clean end from: eps is divided by sqrt(abar).
    torch.testing.assert_close(form.clean(target, x_t, T, CONDITION), x_0, atol=2e-4, rtol=0)


def test_the_walk_of_the_remainder_ends_at_the_prior_plus_it() -> None:
    pet = (CONDITION.prior + volumes(0, 0.1)).clamp(-1, 1)
    remainder = REMAINDER.walked(pet, CONDITION)
    torch.testing.assert_close(remainder, pet - CONDITION.prior)
    torch.testing.assert_close(REMAINDER.finished(remainder, CONDITION), pet)
    assert torch.equal(REMAINDER.finished(torch.zeros_like(pet), CONDITION), CONDITION.prior)
    assert REMAINDER.finished(pet + 5, CONDITION).max() == 1


def test_a_network_that_gives_zero_says_of_the_remainder_what_x_t_says() -> None:
    """``sqrt(abar) x_t``: the posterior mean where remainder and noise have one covariance."""
    x_t = volumes(2)
    prediction = REMAINDER.predict(nothing, x_t, T, CONDITION)
    signal, _ = SCHEDULE.signal_and_noise(T, x_t)
    torch.testing.assert_close(REMAINDER.clean(prediction, x_t, T, CONDITION), signal * x_t)


def test_the_remainders_network_is_asked_for_numbers_of_deviation_1() -> None:
    """And sees numbers of deviation 1, whatever the timestep and the tracer's own scale."""
    scales = torch.tensor([0.1, 0.3])
    sizes = torch.where(TRACERS == 0, scales[0], scales[1])[:, :, None, None, None]
    torch.testing.assert_close(REMAINDER.scale(CONDITION), sizes)
    rng = torch.Generator().manual_seed(0)
    many = (3, 2, 40, 40, 40)
    x_0, eps = (sizes * torch.randn(many, generator=rng) for _ in range(2))
    wanted = REMAINDER.target(x_0, eps, T, CONDITION).flatten(2).std(dim=2)
    torch.testing.assert_close(wanted, torch.ones(3, 2), atol=0.02, rtol=0)
    seen: list[Tensor] = []

    def network(x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        seen.append(x)
        return x

    REMAINDER.predict(network, SCHEDULE.mix(x_0, eps, T), T, CONDITION)
    torch.testing.assert_close(seen[0].flatten(2).std(dim=2), torch.ones(3, 2), atol=0.02, rtol=0)


def test_fresh_noise_is_of_each_tracers_shape_and_each_volumes_generator() -> None:
    draws = Draws(tuple(torch.Generator().manual_seed(seed) for seed in (0, 1, 0)))
    fresh = REMAINDER.fresh(draws, CONDITION)
    assert fresh.shape == (3, 2, *SHAPE)
    assert torch.equal(fresh[0], fresh[2])  # the same generator, the same tracers
    torch.testing.assert_close(fresh[:, :].flatten(2).std(dim=2) / REMAINDER.scale(CONDITION)[..., 0, 0, 0],
                               torch.ones(3, 2), atol=0.25, rtol=0)  # fmt: skip


def test_a_residual_adds_the_prior_to_the_networks_output() -> None:
    form = Residual(SCHEDULE, "x0")
    predicted = form.predict(lambda x_t, t, condition: 0.5 * x_t, volumes(0), T, CONDITION)
    torch.testing.assert_close(predicted, CONDITION.prior + 0.5 * volumes(0))


def test_a_residual_without_a_prior_is_refused() -> None:
    bare = Condition(CONDITION.mri, None, TRACERS)
    for form in (Residual(SCHEDULE, "x0"), Preconditioned(SCHEDULE, "x0", 0.1)):
        with pytest.raises(ValueError, match="needs a prior"):
            form.predict(nothing, volumes(0), T, bare)
    with pytest.raises(ValueError, match="needs a prior"):
        REMAINDER.walked(volumes(0), bare)


def test_the_parametrisation_follows_from_the_settings() -> None:
    kinds = {
        ("eps", True, 0.0): Raw,
        ("v", True, 0.0): Raw,
        ("x0", False, 0.1): Raw,
        ("x0", True, 0.0): Residual,
        ("x0", True, 0.1): Preconditioned,
    }
    for (kind, prior, sd), form in kinds.items():
        assert type(parametrised(SCHEDULE, kind, prior, sd)) is form
