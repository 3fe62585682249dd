"""Noise of the remainders' shape: what is fitted, what is drawn, what is stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from relapet.model.interface import Batch, Condition
from relapet.model.noise import (
    FOLDS,
    SIGMAS_MM,
    NoiseShape,
    _mirrored,
    fit_noise,
    noise_of_remainders,
)

SIDE, VOXEL_MM = 16, 4.0
SHAPE = (SIDE,) * 3
BRAIN = torch.zeros(SHAPE)
BRAIN[1:-1, 1:-1, 1:-1] = 1
SMOOTH_SD = 0.1 + 0.1 * torch.linspace(0, 1, SIDE)[:, None, None].expand(SHAPE)


def waves() -> Tensor:
    """Three smooth components of known size, ``(3, X, Y, Z)``."""
    axis = torch.linspace(0, torch.pi, SIDE)
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    return torch.stack([0.2 * torch.ones(SHAPE), 0.15 * torch.cos(x), 0.1 * torch.cos(y) * torch.cos(z)])


def known_remainders(count: int, seed: int = 0) -> Tensor:
    """Draws ``(N, X, Y, Z)`` of the three components and of noise smoothed by 6 mm, within the brain.

    The components' coordinates are exactly uncorrelated and of variance 1, so that not chance is tested.
    """
    rng = torch.Generator().manual_seed(seed)
    along = torch.randn((count, 3), generator=rng)
    if count > 3:
        along = torch.linalg.qr(along).Q * count**0.5
    wide = torch.einsum("nj,jxyz->nxyz", along, waves())
    sigma = (0, *[6 / VOXEL_MM] * 3)
    white = torch.randn((count, *SHAPE), generator=rng).numpy()
    short = ndimage.gaussian_filter(white, sigma, mode="wrap")
    short = torch.from_numpy(short / short.std())
    return (wide + SMOOTH_SD * short) * BRAIN


@pytest.fixture(scope="module")
def noise() -> NoiseShape:
    return fit_noise(known_remainders(200), BRAIN, VOXEL_MM)


@pytest.fixture(scope="module")
def drawn(noise: NoiseShape) -> Tensor:
    """``(N, X, Y, Z)``."""
    return torch.stack([noise.draw(torch.Generator().manual_seed(n)) for n in range(300)])


def test_voxels_vary_as_they_did(noise: NoiseShape) -> None:
    inside = BRAIN > 0
    truth = (waves().square().sum(dim=0) + SMOOTH_SD.square())[inside]
    found = noise.variance()[inside]
    assert float(found.mean() / truth.mean()) == pytest.approx(1, abs=0.04)
    assert float((found / truth - 1).abs().median()) < 0.06
    assert (noise.variance()[~inside] < 1e-6).all()
    assert noise.scale == pytest.approx(float(found.mean().sqrt()), rel=1e-3)


def cubes(volumes: Tensor, side: int) -> Tensor:
    """Means over cubes that lie within the brain, ``(N, cubes)``."""
    inner = volumes[:, None, 2:-2, 2:-2, 2:-2]
    return torch.nn.functional.avg_pool3d(inner, side).flatten(1)


@pytest.mark.parametrize("side", [2, 4, 6])
def test_regions_vary_as_they_did(drawn: Tensor, side: int) -> None:
    """Where white noise of the same SD would average out."""
    own = cubes(known_remainders(200), side).square().mean()
    assert float(cubes(drawn, side).square().mean() / own) == pytest.approx(1, abs=0.15)


def test_what_draws_vary_by_is_the_stated_variance(noise: NoiseShape, drawn: Tensor) -> None:
    inside = BRAIN > 0
    found, stated = drawn.square().mean(dim=0)[inside], noise.variance()[inside]
    assert float(found.mean() / stated.mean()) == pytest.approx(1, abs=0.1)


def test_what_is_not_smooth_is_taken_for_white() -> None:
    rng = torch.Generator().manual_seed(1)
    noise = fit_noise(torch.randn((60, *SHAPE), generator=rng) * BRAIN, BRAIN, VOXEL_MM)
    assert float(noise.smooth[0].square()) > 0.9
    assert float(noise.variance()[BRAIN > 0].mean()) == pytest.approx(1, abs=0.03)


def test_components_of_few_participants_are_shrunk_to_what_left_out_ones_have() -> None:
    """White noise has no components: what the fit finds along them is far below the eigenvalues of so few."""
    rng = torch.Generator().manual_seed(2)
    rows = torch.randn((20, *SHAPE), generator=rng) * BRAIN
    noise = fit_noise(rows, BRAIN, VOXEL_MM)
    explained = noise.components.float().square().sum()
    assert float(explained) < 0.1 * float(rows.square().mean(dim=0).sum())


def test_draws_repeat_by_seed(noise: NoiseShape) -> None:
    one, again, other = (noise.draw(torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert one.dtype == torch.float32
    assert one.shape == SHAPE
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert (one[BRAIN == 0].abs() < 1e-4).all()


def short_range(sigma: float, shape: tuple[int, int, int]) -> NoiseShape:
    """Noise of unit variance and one smoothness, without components."""
    smooth = torch.tensor([1.0 if one == sigma else 0.0 for one in SIGMAS_MM])
    return NoiseShape(torch.zeros((0, *shape)), torch.ones(shape), smooth, VOXEL_MM)


@pytest.mark.parametrize("sigma", SIGMAS_MM)
def test_smoothing_keeps_the_variance_at_1_up_to_the_edges(sigma: float) -> None:
    shape = short_range(sigma, (6, 7, 8))
    square = torch.stack([shape.draw(torch.Generator().manual_seed(n)) for n in range(1500)]).square()
    assert float(square.mean()) == pytest.approx(1, abs=0.15 if sigma > 6 else 0.05)
    corners = square[:, ::5, ::6, ::7].mean(dim=0)  # 1500 draws: SD 0.037
    torch.testing.assert_close(corners, torch.ones(2, 2, 2), atol=0.15, rtol=0)


def test_neighbours_correlate_as_the_smoothness_says() -> None:
    """``exp(-d^2 / (4 sigma^2))``; opposite ends of the grid do not."""
    shape = short_range(6.0, (48, 48, 48))
    volumes = torch.stack([shape.draw(torch.Generator().manual_seed(n)) for n in range(3)])
    for lag in (1, 2, 3):
        found = (volumes[:, lag:] * volumes[:, :-lag]).mean() / volumes.square().mean()
        assert float(found) == pytest.approx(np.exp(-((lag * VOXEL_MM) ** 2) / (4 * 6.0**2)), abs=0.03)
    assert abs(float((volumes[:, 0] * volumes[:, -1]).mean())) < 0.2


def test_wide_noise_resembles_its_mirror_image_at_the_same_variance() -> None:
    shape = replace(short_range(12.0, (40, 6, 6)), mirrored=0.6)
    volumes = torch.stack([shape.draw(torch.Generator().manual_seed(n)) for n in range(1500)])
    torch.testing.assert_close(
        volumes.square().mean(dim=(0, 2, 3)), torch.ones(40), atol=0.12, rtol=0
    )  # at the midline, too
    products = (volumes * volumes.flip(1)).mean(dim=(0, 2, 3))
    assert float(products[:10].mean()) == pytest.approx(0.6, abs=0.06)
    scanner = replace(short_range(3.0, (40, 6, 6)), mirrored=0.6).draw(torch.Generator().manual_seed(0))
    assert abs(float((scanner * scanner.flip(0))[:10].mean())) < 0.15


@pytest.mark.parametrize("h", [0.0, 0.3, 0.7])
def test_how_far_hemispheres_resemble_each_other_is_found(h: float) -> None:
    shape, smooth = (40, 14, 14), torch.tensor([0.5, 0.0, 0.5, 0.5**0.5, 0.0])
    true = NoiseShape(torch.zeros((0, *shape)), 0.2 * torch.ones(shape), smooth, VOXEL_MM, h)
    remainders = torch.stack([true.draw(torch.Generator().manual_seed(n)) for n in range(150)])
    found = fit_noise(remainders[: FOLDS - 1], torch.ones(shape), VOXEL_MM)  # too few for components
    assert 0 <= found.mirrored < 1
    assert _mirrored(remainders, true) == pytest.approx(h, abs=0.1)


def test_runs_of_before_know_nothing_of_mirror_images(noise: NoiseShape) -> None:
    found = noise.to_tensors()
    del found["mirrored"]
    assert NoiseShape.from_tensors(found, SHAPE, VOXEL_MM).mirrored == 0


@pytest.mark.parametrize("count", [1, 2, FOLDS - 1])
def test_few_participants_give_no_components(count: int) -> None:
    rows = known_remainders(count)
    noise = fit_noise(rows, BRAIN, VOXEL_MM)
    assert noise.components.shape[0] == 0
    torch.testing.assert_close(noise.variance(), rows.square().mean(dim=0), rtol=1e-4, atol=1e-6)
    assert noise.draw(torch.Generator().manual_seed(0)).isfinite().all()


def test_components_are_kept_on_a_coarser_lattice_where_voxels_are_small() -> None:
    rng = torch.Generator().manual_seed(0)
    shape = (18, 20, 22)
    level = torch.randn((40, 1, 1, 1), generator=rng)
    rows = 0.1 * level + 0.1 * torch.randn((40, *shape), generator=rng)
    noise = fit_noise(rows, torch.ones(shape), voxel_mm=2.0)
    assert noise.components.shape[1:] == (6, 7, 8)
    assert float(noise.variance().mean() / rows.square().mean()) == pytest.approx(1, abs=0.05)
    assert noise.draw(rng).shape == shape


def test_it_survives_being_stored(noise: NoiseShape) -> None:
    again = NoiseShape.from_tensors(noise.to_tensors(), SHAPE, VOXEL_MM)
    one, other = (shape.draw(torch.Generator().manual_seed(0)) for shape in (noise, again))
    assert torch.equal(one, other)
    assert again.scale == noise.scale


def _of_nan(found: dict[str, Tensor]) -> None:
    found["sd"] = torch.full_like(found["sd"], torch.nan)


def _without_smooth(found: dict[str, Tensor]) -> None:
    del found["smooth"]


def _of_other_sigmas(found: dict[str, Tensor]) -> None:
    found["smooth"] = torch.ones(len(SIGMAS_MM) + 1)


def _of_too_much_symmetry(found: dict[str, Tensor]) -> None:
    found["mirrored"] = torch.tensor(1.5)


@pytest.mark.parametrize("damage", [_of_nan, _without_smooth, _of_other_sigmas, _of_too_much_symmetry])
def test_a_broken_store_is_refused(noise: NoiseShape, damage: Callable[[dict[str, Tensor]], None]) -> None:
    found = noise.to_tensors()
    damage(found)
    with pytest.raises((KeyError, ValueError)):
        NoiseShape.from_tensors(found, SHAPE, VOXEL_MM)


def test_another_grid_is_refused(noise: NoiseShape) -> None:
    with pytest.raises(ValueError, match="another grid"):
        NoiseShape.from_tensors(noise.to_tensors(), (SIDE, SIDE, SIDE + 1), VOXEL_MM)


def visit(seed: int, present: tuple[bool, bool] = (True, True), prior: bool = True) -> Batch:
    """One visit with tracers 2 and 0, the second of which lies 0.1 and more above its prior."""
    rng = torch.Generator().manual_seed(seed)
    mri = torch.full((1, 2, *SHAPE), -1.0)
    mri[:, :, BRAIN > 0] = 0.3
    expected = torch.zeros((1, 2, *SHAPE))
    pet = torch.stack(
        [0.02 * torch.randn(SHAPE, generator=rng), 0.1 + 0.01 * torch.randn(SHAPE, generator=rng)]
    )
    condition = Condition(mri, expected if prior else None, torch.tensor([[2, 0]]))
    return Batch(pet[None] * BRAIN, torch.tensor([present]), condition)


def test_each_tracer_has_a_shape_of_the_visits_that_have_it() -> None:
    visits = [visit(1), visit(2, present=(False, True)), visit(3)]
    shapes = noise_of_remainders(iter(visits), VOXEL_MM)
    assert set(shapes) == {0, 2}
    inside = BRAIN > 0
    assert float(shapes[2].variance()[inside].mean().sqrt()) == pytest.approx(0.02, rel=0.1)
    assert float(shapes[0].variance()[inside].mean().sqrt()) == pytest.approx(0.1, rel=0.1)
    assert (shapes[0].variance()[~inside] == 0).all()


def test_without_a_prior_nothing_remains() -> None:
    with pytest.raises(ValueError, match="needs a prior"):
        noise_of_remainders([visit(1, prior=False)], VOXEL_MM)
