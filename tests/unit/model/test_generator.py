from __future__ import annotations

import pytest
import torch

from relapet.config import load_config
from relapet.errors import InputError
from relapet.model.generator import Generator, GeneratorConfig


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_paper_preset_has_the_published_size() -> None:
    generator = Generator(load_config("paper").method.generator)
    assert count(generator) == 3_038_017
    assert len(generator.state_dict()) == 367


def test_without_attention_there_is_none_anywhere() -> None:
    generator = Generator(GeneratorConfig(channels=(8, 16), attention="none"))
    assert not [name for name in generator.state_dict() if "attn" in name or "attention" in name]


def test_a_grid_that_cannot_be_halved_is_refused() -> None:
    generator = Generator(GeneratorConfig(channels=(8, 16, 16), residual_blocks=1))
    x = torch.zeros(1, 1, 8, 10, 8)
    with pytest.raises(InputError, match="multiples of 4"):
        generator(x, torch.tensor([0]), torch.zeros(1, 2, 8, 10, 8), torch.tensor([0]))


def test_tracer_time_and_mri_all_reach_the_output() -> None:
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(channels=(8, 16), residual_blocks=1))
    # MONAI starts the last convolution of each block at 0: give it something to pass on.
    for parameter in generator.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    x, condition = torch.randn(1, 1, 8, 8, 8), torch.randn(1, 2, 8, 8, 8)
    base = generator(x, torch.tensor([10]), condition, torch.tensor([0]))
    for changed in (
        (x, torch.tensor([900]), condition, torch.tensor([0])),
        (x, torch.tensor([10]), condition, torch.tensor([2])),
        (x, torch.tensor([10]), condition + 1, torch.tensor([0])),
        (x + 1, torch.tensor([10]), condition, torch.tensor([0])),
    ):
        assert not torch.allclose(generator(*changed), base)
