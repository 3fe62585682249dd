"""Parity with the published modules, from the numbers in tests/data (see its README)."""

from __future__ import annotations

from itertools import chain, repeat

import numpy as np
import pytest
import torch
from torch import Tensor

from relapet.model.diffusion import Schedule, scaled_linear_schedule
from relapet.model.discriminator import Discriminator, DiscriminatorConfig
from relapet.model.losses import (
    gradient_penalty,
    relativistic_discriminator_loss,
    relativistic_generator_loss,
)
from relapet.model.parametrisation import Raw
from relapet.model.samplers import ddpm
from support import DATA, condition_of, facts, recipe_weights

TOLERANCE = {"rtol": 0.0, "atol": 1e-5}
TIMESTEPS = (0, 10, 250, 500, 750, 999)
SCHEDULE = scaled_linear_schedule(1000, 5e-4, 1.95e-2)
GAMMA = 1e-3


@pytest.fixture(scope="module")
def reference() -> dict[str, Tensor]:
    with np.load(DATA / "released_reference.npz") as arrays:
        return {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays.files}


@pytest.fixture(scope="module")
def critic() -> Discriminator:
    network = Discriminator(DiscriminatorConfig(kind="patch", channels=4, layers=2), facts())
    network.body.network.load_state_dict(recipe_weights("discriminator"))
    return network.eval()


def test_schedule(reference: dict[str, Tensor]) -> None:
    torch.testing.assert_close(SCHEDULE.alpha_bar, reference["alphas_cumprod"], **TOLERANCE)


@pytest.mark.parametrize("t", TIMESTEPS)
def test_noising_clean_prediction_and_step(reference: dict[str, Tensor], t: int) -> None:
    now = torch.tensor([t])
    x_t = SCHEDULE.mix(reference["x0"], reference["eps"], now)
    torch.testing.assert_close(x_t, reference[f"x_t_{t}"], **TOLERANCE)
    condition = condition_of(torch.zeros(1, 2, *x_t.shape[2:]), [0])
    eps_hat = 0.9 * reference["eps"] + 0.05
    x0_hat = Raw(SCHEDULE, "eps").clean(eps_hat, x_t, now, condition).clamp(-1, 1)
    torch.testing.assert_close(x0_hat, reference[f"x0_pred_{t}"], **TOLERANCE)
    previous = SCHEDULE.step(x_t, x0_hat, now, now - 1, reference[f"step_noise_{t}"])
    torch.testing.assert_close(previous, reference[f"x_prev_{t}"], **TOLERANCE)


@pytest.mark.parametrize("t", TIMESTEPS)
def test_one_step_of_the_ancestral_sampler(reference: dict[str, Tensor], t: int) -> None:
    """From the release's x_t, x0_hat and noise to its x_(t-1)."""

    class From(Schedule):
        def times(self, steps: int) -> list[int]:
            return list(range(t, -1, -1))

    seen: list[Tensor] = []

    def denoise(x_t: Tensor, now: Tensor) -> Tensor:
        seen.append(x_t)
        return reference[f"x0_pred_{t}"]

    noise = chain([reference[f"x_t_{t}"]], repeat(reference[f"step_noise_{t}"]))
    last = ddpm(denoise, From(SCHEDULE.betas, SCHEDULE.alpha_bar), lambda: next(noise), t + 1)
    after = [*seen, last][1]
    torch.testing.assert_close(after, reference[f"x_prev_{t}"], **TOLERANCE)


def test_logits_losses_and_penalties(reference: dict[str, Tensor], critic: Discriminator) -> None:
    condition, t = condition_of(torch.zeros(1, 2, 24, 24, 24), [0]), torch.tensor([0])
    real, fake = (reference[name].clone().requires_grad_() for name in ("d_real", "d_fake"))
    real_logits, fake_logits = critic(real, condition, t), critic(fake, condition, t)
    torch.testing.assert_close(real_logits, reference["d_logits_real"], **TOLERANCE)
    torch.testing.assert_close(fake_logits, reference["d_logits_fake"], **TOLERANCE)
    r1, r2 = gradient_penalty(real_logits, real), gradient_penalty(fake_logits, fake)
    torch.testing.assert_close(r1[None], reference["r1_full"], **TOLERANCE)
    torch.testing.assert_close(r2[None], reference["r2_full"], **TOLERANCE)
    generator_loss = relativistic_generator_loss(fake_logits, real_logits)
    torch.testing.assert_close(generator_loss, reference["g_loss"], **TOLERANCE)
    released = [gradient_penalty(*pair, "released") for pair in ((real_logits, real), (fake_logits, fake))]
    discriminator_loss = relativistic_discriminator_loss(real_logits, fake_logits) + GAMMA / 2 * sum(released)
    torch.testing.assert_close(discriminator_loss, reference["d_loss_released"], **TOLERANCE)
