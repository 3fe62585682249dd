"""RelA-Diffusion of what the prior leaves, in noise of its shape, with every tracer in one call."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from relapet.errors import InputError
from relapet.methods.rela import Rela, RelaConfig
from relapet.model.interface import Batch, Condition, DataFacts, Draws
from relapet.synthesis.sample_config import SampleConfig

SHAPE = (8, 12, 16)
TRACERS = 3
SMALL: dict[str, Any] = {
    "noise": "shaped",
    "tracers": "all",
    "generator": {"channels": (8, 8), "residual_blocks": 1},
    "discriminator": {"kind": "conditional", "channels": 4, "layers": 2},
}


def batch(present: list[list[bool]] | None = None, seed: int = 3) -> Batch:
    """Two visits with three tracers, whose remainders have an SD of 0.1; two slices lie outside the brain."""
    rng = torch.Generator().manual_seed(seed)
    mri = torch.rand((2, 2, *SHAPE), generator=rng) - 0.5
    mri[..., :2] = -1
    prior = 0.2 * torch.rand((2, TRACERS, *SHAPE), generator=rng)
    pet = prior + 0.1 * torch.randn((2, TRACERS, *SHAPE), generator=rng)
    there = torch.ones((2, TRACERS), dtype=torch.bool) if present is None else torch.tensor(present)
    pet = torch.where(there[:, :, None, None, None], pet, -1.0)
    return Batch(pet, there, Condition(mri, prior, torch.arange(TRACERS).expand(2, TRACERS)))


def visits() -> list[Batch]:
    """The visits of six batches, one each."""
    found = []
    for seed in range(6):
        b = batch(seed=seed)
        for i in range(2):
            c = b.condition
            condition = Condition(c.mri[i : i + 1], c.prior[i : i + 1], c.tracer[i : i + 1])
            found.append(Batch(b.pet[i : i + 1], b.present[i : i + 1], condition))
    return found


def make(**settings: Any) -> Rela:
    torch.manual_seed(0)
    method = Rela(
        RelaConfig.model_validate(SMALL | {"adversarial_weight": 0.0} | settings),
        DataFacts(TRACERS, 4, True, SHAPE, 6.0),
    )
    method.fit(visits())
    # MONAI starts the last layers at 0: give them something to pass on.
    for parameter in method.networks["generator"].parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return method


def draws(seed: int = 0) -> Draws:
    return Draws(tuple(torch.Generator().manual_seed(seed + i) for i in range(2)))


LACKING = [[True, False, True], [True, True, True]]


@pytest.mark.parametrize(
    "settings", [{}, {"regional_weight": 2.0, "mean_share": 0.5}, {"adversarial_weight": 1.0}]
)
def test_a_tracer_that_a_visit_lacks_has_no_loss_and_no_gradient(settings: dict[str, Any]) -> None:
    """Whatever stands in its place, and whatever the network says of it, neither player's losses change."""
    method, b = make(**settings), batch(LACKING)
    other = b.pet.clone()
    other[0, 1] = 0.7
    losses = []
    for pet in (b.pet, other):
        shared = method.forward(replace(b, pet=pet), draws(), step=0)
        losses.append([phase.loss(shared) for phase in method.phases()])
    for one, two in zip(*losses, strict=True):
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one)
    shared = method.forward(b, draws(), step=0)
    total = method.phases()[-1].loss(shared)["total"]
    (gradient,) = torch.autograd.grad(total, shared.prediction)
    assert not gradient[0, 1].any()
    assert all(gradient[i, k].any() for i in range(2) for k in range(TRACERS) if LACKING[i][k])
    # Outside the brain nothing counts but what the critic sees.
    assert bool(gradient[..., :2].any()) == ("adversarial_weight" in settings)


def test_the_losses_are_those_of_the_tracers_that_are_there() -> None:
    method, b = make(regional_weight=2.0), batch(LACKING)
    shared = method.forward(b, draws(), step=0)
    losses = method.phases()[-1].loss(shared)
    there = torch.tensor(LACKING)
    error = (shared.prediction - shared.target)[..., 2:][there]
    torch.testing.assert_close(losses["target"], error.square().mean())
    torch.testing.assert_close(losses["image"], (shared.x0_hat - b.pet)[..., 2:][there].abs().mean())
    cubes = torch.nn.functional.avg_pool3d((shared.prediction - shared.target)[..., 4:], 4)[there]
    edge = torch.nn.functional.avg_pool3d((shared.prediction - shared.target)[..., 2:4], (4, 4, 2))[there]
    # The first cubes along z hold half as many voxels of the brain, and count half.
    regional = (cubes.square().sum() + 0.5 * edge.square().sum()) / (cubes.numel() + 0.5 * edge.numel())
    torch.testing.assert_close(losses["regional"], regional)
    torch.testing.assert_close(losses["total"], losses["target"] + losses["image"] + 2 * losses["regional"])


def test_what_is_expected_is_one_call_that_draws_nothing() -> None:
    method, b = make(mean_share=0.5), batch()
    with torch.no_grad():
        expected = method.expected(b.condition)
        again = method.expected(b.condition)
    assert expected is not None
    assert expected.shape == b.pet.shape
    assert expected.abs().max() <= 1
    assert torch.equal(expected, again)
    other = replace(b.condition, mri=-b.condition.mri)
    with torch.no_grad():
        assert not torch.equal(expected, method.expected(other))
    assert make().expected(b.condition) is None  # it was never trained to give it


def test_an_untrained_method_expects_the_prior() -> None:
    method, b = make(mean_share=0.5), batch()
    for parameter in method.networks["generator"].unet.out.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        assert torch.equal(method.expected(b.condition), b.condition.prior)


def sampled(method: Rela, b: Batch, sampler: str, steps: int) -> tuple[Tensor, int]:
    """A sample about the method's own mean, and the network calls that it took."""
    calls: list[Tensor] = []
    handle = method.networks["generator"].register_forward_pre_hook(lambda _, given: calls.append(given[1]))
    with torch.no_grad():
        condition = replace(b.condition, mean=method.expected(b.condition))
        calls.clear()
        found = method.sample(condition, SampleConfig(sampler=sampler, steps=steps), draws())
    handle.remove()
    return found, len(calls)


@pytest.mark.parametrize(("sampler", "calls"), [("flow", 4), ("ddim", 4), ("dpmpp", 4), ("heun", 7)])
def test_the_mean_stands_for_the_first_call_of_a_sample(sampler: str, calls: int) -> None:
    """One call fewer; the same sample where the network says of pure noise what it says of nothing shown."""
    b, usual, short = batch(), make(mean_share=0.5), make(mean_share=0.5, start_at_mean=True)
    assert not usual.knows_start
    assert short.knows_start
    assert sampled(usual, b, sampler, 4)[1] == calls
    assert sampled(short, b, sampler, 4)[1] == calls - 1
    for method in (usual, short):
        method.networks["generator"] = _Blind()
    (one, _), (other, _) = (sampled(method, b, sampler, 4) for method in (usual, short))
    torch.testing.assert_close(one, other, atol=1e-4, rtol=0)
    assert not make(start_at_mean=True).knows_start  # it was never trained to give a mean


def seen(method: Rela, b: Batch, seed: int = 0) -> tuple[Tensor, Tensor]:
    """``x_t`` over the noise's scale as the network was given it, and ``t``."""
    given: list[tuple[Tensor, Tensor]] = []
    handle = method.networks["generator"].register_forward_pre_hook(
        lambda network, arguments: given.append((arguments[0], arguments[1]))
    )
    with torch.no_grad():
        method.forward(b, draws(seed), step=0)
    handle.remove()
    return given[0]


def test_a_share_of_the_volumes_is_shown_nothing() -> None:
    method, b = make(mean_share=0.4), batch()
    method.networks["generator"] = _Zero()
    blank = []
    for seed in range(0, 100, 2):
        x_t, t = seen(method, b, seed)
        for volume, time in zip(x_t, t, strict=True):
            hidden = not volume.any()
            assert time == 999 or not hidden
            blank.append(hidden)
    assert sum(blank) / len(blank) == pytest.approx(0.4, abs=0.15)
    shown, _ = seen(make(), b)
    assert all(volume.any() for volume in shown)


def test_what_is_missing_is_shown_as_noise_of_its_own_size() -> None:
    x_t, _ = seen(make(), batch(LACKING))
    inside = x_t[..., 2:].flatten(2).std(dim=2)
    torch.testing.assert_close(inside, torch.ones(2, TRACERS), atol=0.2, rtol=0)


def test_the_critic_judges_each_measured_tracer_by_itself() -> None:
    method, b = make(adversarial_weight=1.0), batch(LACKING)
    judged: list[tuple[Tensor, Condition, Tensor]] = []
    method.networks["discriminator"].register_forward_pre_hook(
        lambda network, volumes, told: judged.append((*volumes, told["condition"], told["t"])),
        with_kwargs=True,
    )
    shared = method.forward(b, draws(), step=0)
    critic, generator = method.phases()
    losses = critic.loss(shared)
    assert {"total", "adversarial", "r1", "r2"} == set(losses)
    real, condition, t = judged[0]
    assert real.shape == (5, 1, *SHAPE)
    assert torch.equal(real[:, 0], b.pet[b.present])
    assert condition.tracer[:, 0].tolist() == [0, 2, 0, 1, 2]
    assert torch.equal(condition.mri, b.condition.mri[[0, 0, 1, 1, 1]])
    assert torch.equal(t, shared.t[[0, 0, 1, 1, 1]])
    gradients = torch.autograd.grad(generator.loss(shared)["adversarial"], shared.x0_hat)[0]
    assert not gradients[0, 1].any()
    assert gradients[0, 0].any()


def test_a_mean_is_not_judged() -> None:
    """A prediction from nothing shown is a mean, which is not to look like a PET."""
    method, b = make(adversarial_weight=1.0, mean_share=0.5), batch(LACKING)
    counts = set()
    for seed in range(0, 40, 2):
        shared = method.forward(b, draws(seed), step=0)
        shown = shared.t < 999
        fake, _, judge = method._judged(shared)
        t = judge.keywords["t"]
        assert len(fake) == int((b.present & shown[:, None]).sum())
        assert (t < 999).all()
        counts.add(len(fake))
        critic, generator = method.phases()
        for phase in (critic, generator):
            total = phase.loss(shared)["total"]
            gradients = torch.autograd.grad(total, list(phase.parameters()), retain_graph=True)
            for parameter, gradient in zip(phase.parameters(), gradients, strict=True):
                assert gradient.isfinite().all()
                gradient.mul_(0.5)  # each number has a place of its own, as clipping needs
                assert gradient.shape == parameter.shape
            if phase is critic:
                assert any(bool(gradient.any()) for gradient in gradients) == bool(len(fake))
    assert counts == {0, 2, 3, 5}


def test_the_critic_can_be_shown_what_the_prior_leaves() -> None:
    method, b = make(adversarial_weight=1.0, adversarial_on="remainder"), batch()
    fake, real, _ = method._judged(method.forward(b, draws(), step=0))
    left = (b.pet - b.condition.prior).flatten(0, 1)
    scale = method.parametrisation.scale(b.condition).flatten()
    torch.testing.assert_close(real[:, 0], left / scale[:, None, None, None])
    assert fake.shape == real.shape
    assert float(fake.detach()[..., 2:].std()) < 3


class _Zero(nn.Module):
    def forward(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return torch.zeros_like(x_t)


class _Blind(nn.Module):
    """Answers by the MRI alone."""

    def forward(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return condition.mri[:, :1].expand_as(x_t)


def test_samples_have_the_spread_of_what_the_prior_leaves() -> None:
    """With a network that gives zero and many steps: samples differ as the remainders do."""
    method, b = make(), batch()
    method.networks["generator"] = _Zero()
    settings = SampleConfig(steps=100)
    with torch.no_grad():
        samples = torch.stack([method.sample(b.condition, settings, draws(2 * n)) for n in range(24)])
    left = (samples - b.condition.prior)[..., 2:]
    assert float(left.std()) == pytest.approx(0.1, rel=0.1)
    assert not (samples - b.condition.prior)[..., :2].any()


def test_what_was_fitted_is_stored_and_taken() -> None:
    method = make()
    found = method.fitted()
    assert {name.partition(".")[0] for name in found} == {"0", "1", "2"}
    other = make()
    other.noise.clear()
    other.load_fitted(found)
    noises = [m.parametrisation.fresh(draws(), batch().condition) for m in (method, other)]
    assert torch.equal(*noises)
    with pytest.raises((KeyError, ValueError)):
        other.load_fitted(
            {name: tensor[..., :-1] if tensor.ndim else tensor for name, tensor in found.items()}
        )


def test_settings_that_only_shaped_noise_has_are_refused_without_it() -> None:
    for name in ("mean_share", "regional_weight"):
        with pytest.raises(InputError, match="noise: shaped"):
            RelaConfig(**{name: 0.5})
    with pytest.raises(InputError, match="adversarial_on: remainder"):
        RelaConfig(adversarial_on="remainder")
    with pytest.raises(InputError, match="preconditions by itself"):
        RelaConfig(noise="shaped", residual_sd=0.1)
    assert "none" not in RelaConfig(noise="shaped").priors
