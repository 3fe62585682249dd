from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from relapet.config import load_config
from relapet.errors import InputError
from relapet.methods.latent import Latent, LatentConfig
from relapet.model.autoencoder import kl_divergence, padded
from relapet.model.interface import Batch, Draws
from relapet.model.losses import regional_error
from relapet.synthesis.sample_config import SampleConfig
from support import batch_of, facts

SMALL: dict[str, Any] = {
    "generator": {"channels": (8, 8), "residual_blocks": 1},
    "autoencoder": {"channels": (8, 8), "latent_channels": 3},
    "discriminator": {"channels": 4, "layers": 2},
    "autoencoder_steps": 10,
    "timesteps": 20,
}
SHAPE = (10, 12, 14)
"""Of which two sides are no multiples of 4."""


def made(prior: bool = False, **settings: Any) -> Latent:
    torch.manual_seed(0)
    return Latent(LatentConfig.model_validate(SMALL | settings), facts(prior, SHAPE))


def batch(prior: bool = False) -> Batch:
    rng = torch.Generator().manual_seed(3)
    pet = torch.rand((2, 1, *SHAPE), generator=rng) * 0.2
    mri = torch.rand((2, 2, *SHAPE), generator=rng) - 0.5
    return batch_of(pet, mri, torch.full_like(pet, -0.2) if prior else None)


def draws(seed: int = 0) -> Draws:
    return Draws(tuple(torch.Generator().manual_seed(seed + i) for i in range(2)))


@pytest.mark.parametrize("prior", [False, True])
def test_the_autoencoder_comes_first_and_stays_as_it_was(prior: bool) -> None:
    method, b = made(prior, regional_weight=0.5), batch(prior)
    method.fit([b])
    coder, unet = method.phases()
    assert [(coder.runs_at(n), unet.runs_at(n)) for n in (0, 9, 10)] == [(True, False)] * 2 + [(False, True)]
    x = method.frame.into(b.pet, b.condition)
    coded = method.forward(b, draws(), 9)
    assert torch.equal(coded.x[:, :, :10, :, :14], x)
    losses = coder.loss(coded)
    error = (coded.decoded - coded.x).abs().mean()
    kl = kl_divergence(coded.mu, coded.sigma)
    brain = (b.condition.mri > -1).any(dim=1, keepdim=True).float()
    regional = regional_error(coded.decoded - coded.x, padded(brain, 4), 6)  # 24 mm of 4 mm voxels
    torch.testing.assert_close(losses["total"], error + 1e-4 * kl + 0.5 * regional)
    denoised = method.forward(b, draws(), 10)
    total = unet.loss(denoised)["total"]
    wanted = (denoised.clean - denoised.latents).square().mean() + (denoised.image - b.pet).abs().mean()
    torch.testing.assert_close(total, wanted)
    assert not denoised.latents.requires_grad
    found = torch.autograd.grad(total, unet.parameters(), allow_unused=True)
    assert any(gradient is not None and gradient.any() for gradient in found)


def test_latents_are_the_posteriors_mean_in_units_of_what_was_watched() -> None:
    """Of no sample: whatever is drawn, the clean end of the walk is the same, and its channels have mean 0 and SD 1."""
    method, b = made(), batch()
    coder = method.phases()[0]
    for step in range(3):
        coder.loss(method.forward(b, draws(step), step))
    latents = method.forward(b, draws(), 10).latents
    assert torch.equal(latents, method.forward(b, draws(5), 10).latents)
    torch.testing.assert_close(latents.mean(dim=(0, 2, 3, 4)), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(latents.square().mean(dim=(0, 2, 3, 4)), torch.ones(3), atol=1e-2, rtol=0)


def test_before_any_is_watched_latents_are_as_they_are() -> None:
    method, b = made(), batch()
    mu = method.autoencoder.encode(padded(b.pet, method.generator.multiple))[0]
    assert torch.equal(method.forward(b, draws(), 10).latents, mu)


def test_a_gradual_average_of_what_was_watched_keeps_its_ratios() -> None:
    """The moving average of the weights begins at 0 for these, and must give the same mean and SD."""
    method = made()
    mu = torch.randn(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(1)) * 3 + 2
    method.autoencoder.watch(mu)
    mean, sd = method.autoencoder.units()
    torch.testing.assert_close(mean.flatten(), mu.mean(dim=(0, 2, 3, 4)))
    torch.testing.assert_close(sd.flatten(), mu.std(dim=(0, 2, 3, 4), correction=0))
    method.autoencoder.watched.mul_(0.3)
    torch.testing.assert_close(method.autoencoder.units(), (mean, sd))


@pytest.mark.parametrize("prior", [False, True])
def test_what_is_synthesised_is_decoded_without_noise(prior: bool) -> None:
    """A U-Net that knows the latents gives what the autoencoder leaves of the PET, in one step and in several."""
    method, b = made(prior), batch(prior)
    method.fit([b])
    coder = method.phases()[0]
    coder.loss(method.forward(b, draws(), 0))
    with torch.no_grad():
        latents = method.forward(b, draws(), 10).latents
        method.generator.forward = lambda x_t, t, condition: latents
        ceiling = method.reconstruct(b.pet, b.condition)
        for settings in (SampleConfig(sampler="ddim", steps=1), SampleConfig(sampler="dpmpp", steps=4)):
            found = method.sample(b.condition, settings, draws(7))
            torch.testing.assert_close(found, ceiling, atol=1e-4, rtol=0)
    assert ceiling.shape == b.pet.shape
    assert ceiling.abs().max() <= 1


@pytest.mark.parametrize("judged", ["decoded", "latent"])
def test_the_critic_judges_what_it_is_told(judged: str) -> None:
    method, b = made(adversarial_weight=0.5, adversarial_on=judged, penalty_weight=2.0), batch()
    _, critic, unet = method.phases()
    step = method.forward(b, draws(), 10)
    fake, real, judge = method._judged(step)
    shown = (step.image, b.pet) if judged == "decoded" else (step.clean, step.latents)
    assert torch.equal(fake, shown[0])
    assert torch.equal(real, shown[1])
    on_fake, on_real = judge(fake), judge(real)
    losses = critic.loss(step)
    torch.testing.assert_close(losses["adversarial"], torch.nn.functional.softplus(on_fake - on_real).mean())
    torch.testing.assert_close(losses["total"], losses["adversarial"] + losses["r1"] + losses["r2"])
    losses = unet.loss(step)
    adversarial = torch.nn.functional.softplus(on_real - on_fake).mean()
    torch.testing.assert_close(losses["total"], losses["target"] + losses["image"] + 0.5 * adversarial)


def test_odd_sides_are_padded_with_their_last_voxels() -> None:
    volumes = torch.arange(2.0 * 3 * 5 * 4).reshape(1, 2, 3, 5, 4)
    found = padded(volumes, 4)
    assert found.shape == (1, 2, 4, 8, 4)
    assert torch.equal(found[:, :, :3, :5], volumes)
    assert torch.equal(found[:, :, 3, 7], volumes[:, :, 2, 4])
    assert padded(volumes, 1) is volumes


def test_the_divergence_of_a_standard_normal_is_none() -> None:
    """And that of N(1, 4) is (1 + 4 - 1 - log 4) / 2."""
    one = torch.ones(3)
    assert kl_divergence(0 * one, one) == 0
    torch.testing.assert_close(kl_divergence(one, 2 * one), torch.tensor((4 - math.log(4)) / 2))


def test_a_training_that_ends_with_the_autoencoder_is_refused() -> None:
    with pytest.raises(InputError, match=r"train\.steps is 500"):
        load_config("latent", settings=("train.steps=500",))
    config = load_config("latent", settings=("train.steps=500", "method.autoencoder_steps=100"))
    assert config.train.steps == 500


def test_channels_that_the_groups_do_not_divide_are_refused() -> None:
    with pytest.raises(InputError, match=r"autoencoder\.channels has 10"):
        load_config("latent", settings=("method.autoencoder.channels=[10,16]",))
