from __future__ import annotations

import pytest
import torch

from relapet.config import load_config
from relapet.errors import InputError
from relapet.model.generator import (
    Generator,
    GeneratorConfig,
    in_one_call,
    keep_generators_in,
    packed,
    unpacked,
)
from relapet.model.interface import Condition
from support import condition_of, facts


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_paper_preset_has_the_published_size() -> None:
    generator = Generator(load_config("paper").method.generator, facts())
    assert count(generator) == 3_038_017
    assert len(generator.state_dict()) == 367


def test_without_attention_there_is_none_anywhere() -> None:
    generator = Generator(GeneratorConfig(channels=(8, 16), attention="none"), facts())
    assert not [name for name in generator.state_dict() if "attn" in name or "attention" in name]


def test_a_grid_that_cannot_be_halved_is_refused() -> None:
    generator = Generator(GeneratorConfig(channels=(8, 16, 16), residual_blocks=1), facts())
    x = torch.zeros(1, 1, 8, 10, 8)
    with pytest.raises(InputError, match="multiples of 4"):
        generator(x, torch.tensor([0]), condition_of(torch.zeros(1, 2, 8, 10, 8), [0]))


def test_tracer_time_and_mri_all_reach_the_output() -> None:
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(channels=(8, 16), residual_blocks=1), facts())
    # MONAI starts the last convolution of each block at 0: give it something to pass on.
    for parameter in generator.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    x, mri = torch.randn(1, 1, 8, 8, 8), torch.randn(1, 2, 8, 8, 8)
    base = generator(x, torch.tensor([10]), condition_of(mri, [0]))
    for changed in (
        (x, torch.tensor([900]), condition_of(mri, [0])),
        (x, torch.tensor([10]), condition_of(mri, [2])),
        (x, torch.tensor([10]), condition_of(mri + 1, [0])),
        (x + 1, torch.tensor([10]), condition_of(mri, [0])),
    ):
        assert not torch.allclose(generator(*changed), base)


@pytest.mark.parametrize("targets", ["one", "all"])
def test_a_latent_vector_reaches_the_output_and_must_be_given(targets: str) -> None:
    torch.manual_seed(0)
    known = facts(prior=False, tracers=3)
    generator = Generator(GeneratorConfig(channels=(8, 8), residual_blocks=1), known, targets, latent=5)  # type: ignore[arg-type]
    for parameter in generator.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    count = 3 if targets == "all" else 1
    condition = Condition(torch.zeros(2, 2, 8, 8, 8), None, torch.arange(count).expand(2, count))
    latent = torch.randn(2, 5)
    one = in_one_call(generator, condition, latent)
    assert one.shape == (2, count, 8, 8, 8)
    assert not torch.allclose(one[0], one[1])
    with pytest.raises(ValueError, match="latent"):
        in_one_call(generator, condition)
    plain = Generator(GeneratorConfig(channels=(8, 8), residual_blocks=1), known, targets)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="latent"):
        in_one_call(plain, condition, latent)


def test_all_tracers_at_once_have_a_channel_each_and_no_embedding() -> None:
    generator = Generator(GeneratorConfig(channels=(8, 8), residual_blocks=1), facts(prior=True), "all")
    assert not [name for name in generator.state_dict() if "class_embedding" in name]
    volumes = torch.zeros(1, 3, 8, 8, 8)
    condition = Condition(torch.zeros(1, 2, 8, 8, 8), volumes, torch.tensor([[0, 1, 2]]))
    assert generator(volumes, torch.tensor([0]), condition).shape == volumes.shape


@pytest.mark.parametrize("attention", ["none", "lowest"])
def test_checkpointing_changes_neither_gradients_nor_names(attention: str) -> None:
    rng = torch.Generator().manual_seed(0)
    x, mri = (torch.randn(2, c, 8, 8, 8, generator=rng) for c in (1, 2))
    results, names = [], []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        config = GeneratorConfig(
            channels=(8, 16), residual_blocks=1, attention=attention, checkpointing=checkpointing
        )
        generator = Generator(config, facts())
        output = generator(x, torch.tensor([3, 900]), condition_of(mri, [0, 2]))
        results.append(
            torch.autograd.grad(output.square().mean(), list(generator.parameters()), allow_unused=True)
        )
        names.append(list(generator.state_dict()))
    assert names[0] == names[1]
    for one, other in zip(*results, strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


def test_checkpointing_keeps_less_for_the_backward_pass() -> None:
    kept = []
    for checkpointing in (False, True):
        generator = Generator(
            GeneratorConfig(channels=(8, 16), residual_blocks=2, checkpointing=checkpointing), facts()
        )
        total = 0

        def count(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            generator(
                torch.zeros(1, 1, 16, 16, 16),
                torch.tensor([0]),
                condition_of(torch.zeros(1, 2, 16, 16, 16), [0]),
            )
        kept.append(total)
    assert kept[1] < kept[0] / 2


def test_packing_is_undone_by_unpacking() -> None:
    volumes = torch.randn(2, 3, 4, 6, 8)
    coarse = packed(volumes)
    assert coarse.shape == (2, 24, 2, 3, 4)
    assert torch.equal(unpacked(coarse), volumes)
    # The eight channels of a coarse voxel are its own eight fine ones.
    assert set(coarse[0, :8, 1, 2, 3].tolist()) == set(volumes[0, 0, 2:4, 4:6, 6:8].flatten().tolist())


@pytest.mark.parametrize("targets", ["one", "all"])
def test_a_packed_generator_begins_by_giving_zero_and_learns(targets: str) -> None:
    config = GeneratorConfig(channels=(8, 8), residual_blocks=1, packed=True)
    torch.manual_seed(0)
    generator = Generator(config, facts(prior=True), targets)
    count = 3 if targets == "all" else 1
    x_t, prior = torch.randn(2, count, 8, 12, 16), torch.randn(2, count, 8, 12, 16)
    condition = Condition(torch.randn(2, 2, 8, 12, 16), prior, torch.arange(count).expand(2, count))
    output = generator(x_t, torch.tensor([3, 900]), condition)
    assert output.shape == x_t.shape
    assert not output.any()
    optimiser = torch.optim.SGD(generator.parameters(), 0.1)
    for _ in range(2):  # at first the last layer alone has a gradient
        optimiser.zero_grad()
        (generator(x_t, torch.tensor([3, 900]), condition) - prior).square().mean().backward()
        optimiser.step()
    assert generator(x_t, torch.tensor([3, 900]), condition).any()
    first = next(iter(generator.unet.conv_in.parameters())).grad
    assert first is not None
    assert first.isfinite().all()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("count", [1, 2])
def test_without_a_graph_the_numbers_are_the_same(packed: bool, count: int) -> None:
    config = GeneratorConfig(channels=(8, 8), residual_blocks=1, packed=packed)
    torch.manual_seed(0)
    generator = Generator(config, facts(prior=True))
    for parameter in generator.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    x, mri = torch.randn(count, 1, 8, 12, 16), torch.randn(count, 2, 8, 12, 16)
    call = (x, torch.tensor([3, 900])[:count], condition_of(mri, [0, 2][:count], torch.randn_like(x)))
    given = [tensor.clone() for tensor in (x, mri)]
    wanted = generator(*call).detach()
    with torch.no_grad():
        found = generator(*call)
    assert wanted.std() > 0.01
    torch.testing.assert_close(found, wanted)
    assert all(torch.equal(*pair) for pair in zip(given, (x, mri), strict=True))


@pytest.mark.parametrize("packed", [False, True])
def test_weights_kept_in_half_precision_give_what_autocast_gives(packed: bool) -> None:
    config = GeneratorConfig(channels=(8, 8), residual_blocks=1, packed=packed)
    torch.manual_seed(0)
    networks = torch.nn.ModuleDict({"generator": Generator(config, facts())})
    for parameter in networks.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    call = (
        torch.randn(2, 1, 8, 12, 16),
        torch.tensor([3, 900]),
        condition_of(torch.randn(2, 2, 8, 12, 16), [0, 1]),
    )
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        exact = networks["generator"].float()
        with torch.autocast("cpu", enabled=False):
            wanted = exact(*call)
        cast = networks["generator"](*call)
        keep_generators_in(networks, torch.bfloat16)
        kept = networks["generator"](*call)
    assert {parameter.dtype for parameter in networks.parameters()} == {torch.bfloat16}
    assert cast.dtype == kept.dtype == torch.float32
    assert 0 < (kept - wanted).std() < 1.5 * (cast - wanted).std() < 0.03 * wanted.std()


def test_packing_needs_one_more_halving() -> None:
    generator = Generator(GeneratorConfig(channels=(8, 8), residual_blocks=1, packed=True), facts())
    x = torch.zeros(1, 1, 8, 10, 8)
    with pytest.raises(
        InputError, match="cannot be halved 2 times; use a grid whose sides are multiples of 4"
    ):
        generator(x, torch.tensor([0]), condition_of(torch.zeros(1, 2, 8, 10, 8), [0]))
