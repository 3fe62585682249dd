"""Random MRI, noise shapes and a prior of the sizes that a training gives: time does not depend on their values."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from relapet.imaging.grid import Grid
from relapet.model.noise import COMPONENTS, LATTICE_MM, SIGMAS_MM
from relapet.prior.across import Standard
from relapet.prior.anatomy import Anatomy, Lattice
from relapet.prior.config import PriorConfig
from relapet.prior.contents import GlobalFit, TracerFit
from relapet.prior.features import INPUT_SETS, base_names, cube_sizes, whole_length
from relapet.prior.fitted import FittedPrior
from relapet.types import Mask, Volume

_SHARE = 0.85
"""Axes of the ellipsoid that stands for a brain, as a share of the grid's."""
_REGION_MM = 25.0
"""Edge of the cubes that stand for regions: some hundred in a brain, as in the atlas."""


def brain(grid: Grid) -> Mask:
    """An ellipsoid, ``(X, Y, Z)``."""
    axes = [np.linspace(-1, 1, length) / _SHARE for length in grid.shape]
    return sum(np.square(axis) for axis in np.meshgrid(*axes, indexing="ij", sparse=True)) < 1


def mri(grid: Grid) -> Volume:
    """T1w and FLAIR of noise in the brain, -1 around it, ``(2, X, Y, Z)``."""
    values = np.random.default_rng(0).uniform(-0.99, 1, (2, *grid.shape)).astype(np.float32)
    return np.where(brain(grid), values, np.float32(-1))


def noise_shapes(grid: Grid, indices: list[int]) -> dict[str, Tensor]:
    """What `relapet.methods.rela.Rela.load_fitted` takes: each tracer's components on their lattice, and SD map."""
    generator = torch.Generator().manual_seed(0)
    stride = max(1, round(LATTICE_MM / grid.voxel_size - 0.01))
    lattice = [-(-length // stride) for length in grid.shape]
    smooth = torch.full((len(SIGMAS_MM),), len(SIGMAS_MM) ** -0.5)
    sd = 0.1 * torch.from_numpy(brain(grid)).float()
    return {
        f"{index}.{name}": tensor
        for index in indices
        for name, tensor in {
            "components": (0.02 * torch.randn(COMPONENTS, *lattice, generator=generator)).half(),
            "sd": sd,
            "smooth": smooth,
        }.items()
    }


def centre(grid: Grid, tracers: int) -> dict[str, Tensor]:
    """The training means that `relapet.methods.rela.Rela.load_fitted` takes too where `centred` is on."""
    channels = 2 + tracers
    return {"centre.mean": torch.zeros(channels, *grid.shape).half(), "centre.sd": torch.ones(channels)}


def prior(grid: Grid, tracers: list[str]) -> FittedPrior:
    """A prior of the default settings, fitted to T1w with FLAIR."""
    rng, config, inputs = np.random.default_rng(0), PriorConfig(), INPUT_SETS[0]
    edge = max(1, round(_REGION_MM / grid.voxel_size))
    blocks = [np.arange(length) // edge for length in grid.shape]
    counts = [int(axis.max()) + 1 for axis in blocks]
    regions = 1 + np.ravel_multi_index(np.meshgrid(*blocks, indexing="ij"), counts)
    anatomy = Anatomy(brain(grid), np.where(brain(grid), regions, 0).astype(np.int32), grid.voxel_size)
    lattice = Lattice.of(anatomy, config.spacing_mm)
    sizes = cube_sizes(config.cubes_mm, config.spacing_mm, grid.voxel_size)
    length, points = whole_length(inputs, anatomy), lattice.voxels
    features = len(base_names(inputs)) * len(sizes)

    def values(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.01, shape).astype(np.float32)

    def fit() -> TracerFit:
        across = GlobalFit(
            values(length, config.components), values(config.components, points).astype(np.float16)
        )
        reach = np.ones(points, np.float16)
        return TracerFit(values(points), values(features, points).astype(np.float16), reach, across)

    return FittedPrior(
        anatomy,
        lattice,
        sizes,
        {tracer: anatomy.brain.astype(np.float32) for tracer in tracers},
        {name: values(*grid.shape) for name in base_names(inputs)},
        {inputs: Standard(values(length), np.ones(length, np.float32))},
        {(inputs, tracer): fit() for tracer in tracers},
    )
