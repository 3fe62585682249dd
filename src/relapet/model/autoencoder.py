"""A variational autoencoder of volumes: what it codes, what it decodes, and what its latents are like on average.

MONAI core's, after Rombach et al. 2022, arXiv:2112.10752, in 3D and without attention.
"""

from __future__ import annotations

from typing import Annotated, Self

import torch
from monai.networks.nets import AutoencoderKL
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from relapet.settings import Settings

_WINDOW = 100
"""Batches that the latents' mean and SD are measured over: about the last so many that are watched."""
_LEAST_SD = 1e-4


class AutoencoderConfig(Settings):
    """Size and shape of the autoencoder."""

    channels: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        (8, 16),
        min_length=2,
        max_length=6,
        description="channels of each level, finest first; the latent grid is halved once a level after the first",
    )
    latent_channels: int = Field(4, ge=1, le=256, description="numbers a voxel of the latent grid")
    residual_blocks: int = Field(1, ge=1, le=16, description="residual blocks a level")
    norm_groups: int = Field(4, ge=1, description="groups of the group normalisation")

    @model_validator(mode="after")
    def _groups_divide_channels(self) -> Self:
        odd = [count for count in self.channels if count % self.norm_groups]
        if odd:
            raise ValueError(
                f"autoencoder.channels has {odd[0]}, which is no multiple of autoencoder.norm_groups "
                f"({self.norm_groups}); give one"
            )
        return self

    @property
    def halvings(self) -> int:
        """How often the latent grid is halved."""
        return len(self.channels) - 1


class Autoencoder(nn.Module):
    """MONAI's variational autoencoder without attention, and what its latents are like on average."""

    watched: Tensor
    """Running means of 1, mu and mu^2 by channel, ``(3, C)``, from 0; weights' moving average keeps their ratios."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.network = AutoencoderKL(
            spatial_dims=3,
            in_channels=1,
            out_channels=1,
            num_res_blocks=config.residual_blocks,
            channels=config.channels,
            attention_levels=(False,) * len(config.channels),
            latent_channels=config.latent_channels,
            norm_num_groups=config.norm_groups,
            with_encoder_nonlocal_attn=False,
            with_decoder_nonlocal_attn=False,
        )
        for part in (self.network.encoder, self.network.decoder):
            # MONAI normalises once more before the last convolution, where the level of uptake is to be kept.
            assert isinstance(part.blocks[-2], nn.GroupNorm)
            part.blocks[-2] = nn.Identity()
        self.register_buffer("watched", torch.zeros(3, config.latent_channels))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the posterior, ``(B, C, x, y, z)`` each, float32."""
        mu, sigma = self.network.encode(x)
        return mu.float(), sigma.float()

    def decode(self, mu: Tensor) -> Tensor:
        """The volumes of latents, ``(B, 1, X, Y, Z)``, float32."""
        return self.network.decode(mu).float()  # type: ignore[no-any-return]

    @torch.no_grad()
    def watch(self, mu: Tensor) -> None:
        """Take a batch's latents into the running means, those of all processes."""
        new = torch.stack([torch.ones_like(mu), mu, mu.square()]).mean(dim=(1, 3, 4, 5))
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(new)
            new = new / torch.distributed.get_world_size()
        self.watched.lerp_(new, 1 / _WINDOW)

    def units(self) -> tuple[Tensor, Tensor]:
        """Mean and SD of each channel, ``(C, 1, 1, 1)``; 0 and 1 before any is watched."""
        weight, first, second = self.watched
        known = weight > 0
        weight = torch.where(known, weight, 1.0)
        mean = first / weight
        sd = (second / weight - mean.square()).clamp(min=_LEAST_SD**2).sqrt()
        return mean[:, None, None, None], torch.where(known, sd, 1.0)[:, None, None, None]


def padded(volumes: Tensor, multiple: int) -> Tensor:
    """Volumes whose sides are multiples, ``(B, C, X, Y, Z)``, the last voxels repeated."""
    missing = [(-side) % multiple for side in volumes.shape[2:]]
    if not any(missing):
        return volumes
    x, y, z = missing
    return functional.pad(volumes, (0, z, 0, y, 0, x), mode="replicate")


def kl_divergence(mu: Tensor, sigma: Tensor) -> Tensor:
    """Of a normal of this mean and deviation from the standard normal, mean over its numbers, nats."""
    return 0.5 * (mu.square() + sigma.square() - 1 - 2 * sigma.log()).mean()
