"""What is a person's own in MRI and prior."""

from __future__ import annotations

import pytest
import torch

from relapet.model.centre import Centre, CentreFinder
from relapet.model.generator import Generator, GeneratorConfig
from relapet.model.interface import Batch, Condition, DataFacts
from relapet.model.portable import plain

SHAPE = (4, 5, 6)


def _people(count: int) -> list[Batch]:
    rng = torch.Generator().manual_seed(3)
    batches = []
    for _ in range(count):
        mri, prior = (torch.randn((1, n, *SHAPE), generator=rng) * 0.2 for n in (2, 3))
        condition = Condition(mri, prior, torch.arange(3)[None])
        batches.append(Batch(torch.zeros(1, 3, *SHAPE), torch.ones(1, 3, dtype=torch.bool), condition))
    return batches


def test_what_is_shown_has_mean_0_and_variance_1_over_people() -> None:
    people = _people(40)
    finder = CentreFinder()
    assert list(finder.watch(people)) == people
    centre = finder.found()
    shown = torch.cat([centre.shown(one.condition).known() for one in people])
    own = shown[:, 5:]
    assert shown.shape == (40, 10, *SHAPE)
    torch.testing.assert_close(own.mean(dim=0), torch.zeros(5, *SHAPE), atol=2e-3, rtol=0)
    torch.testing.assert_close(own.square().mean(dim=(0, 2, 3, 4)), torch.ones(5), atol=2e-3, rtol=0)


def test_a_channel_that_never_varies_is_not_blown_up() -> None:
    people = _people(6)
    for one in people:
        one.condition.mri[:, 1] = -1
    finder = CentreFinder()
    list(finder.watch(people))
    own = finder.found().shown(people[0].condition).own
    assert own is not None
    assert own[:, 1].abs().max() < 1e-3


def test_a_difference_far_beyond_all_others_is_clipped() -> None:
    people = _people(6)
    finder = CentreFinder()
    list(finder.watch(people))
    people[0].condition.mri[:] = 1e4
    own = finder.found().shown(people[0].condition).own
    assert own is not None
    assert own.max() == 8


@pytest.mark.parametrize(
    "broken",
    [
        {"mean": torch.zeros(5, 4, 5, 7), "sd": torch.ones(5)},
        {"mean": torch.full((5, *SHAPE), torch.nan), "sd": torch.ones(5)},
        {"mean": torch.zeros(5, *SHAPE), "sd": torch.zeros(5)},
    ],
)
def test_the_means_of_another_grid_or_broken_ones_are_refused(broken: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="training means"):
        Centre.from_tensors(broken, SHAPE)


def test_a_generator_is_shown_what_is_a_persons_own() -> None:
    facts = DataFacts(tracers=3, tracer_slots=3, prior=True, shape=(8, 8, 8), voxel_mm=3.0)
    config = GeneratorConfig(channels=(8, 8), norm_groups=4, residual_blocks=1, packed=True)
    generator = Generator(config, facts, "all", own=True)
    torch.nn.init.normal_(generator.head.last.weight)  # it begins by giving 0
    condition = Condition(torch.rand(1, 2, 8, 8, 8), torch.rand(1, 3, 8, 8, 8), torch.arange(3)[None])
    x_t, t = torch.rand(1, 3, 8, 8, 8), torch.tensor([10])
    with pytest.raises(ValueError, match="must be told the centre"):
        generator(x_t, t, condition)
    outputs = []
    for mean in (0.0, 0.5):
        generator.centre = Centre(torch.full((5, 8, 8, 8), mean), torch.ones(5))
        outputs.append(generator(x_t, t, condition))
        same = plain(generator, facts)
        torch.testing.assert_close(same(x_t, t, condition), outputs[-1])
    assert not torch.allclose(*outputs)
