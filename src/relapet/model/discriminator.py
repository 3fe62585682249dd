"""Discriminators: the published PatchGAN, and a norm-free one that also sees the MRI and the tracer."""

from __future__ import annotations

from typing import Literal

import torch
from monai.networks.nets import PatchDiscriminator
from monai.networks.nets.diffusion_model_unet import get_timestep_embedding
from pydantic import Field, model_validator
from torch import Tensor, nn

from relapet.model.interface import Condition, DataFacts
from relapet.settings import Settings

_TIMESTEP_WAVES = 32
"""Sines and cosines that a timestep is written in."""
_SLOPE = 0.2
"""Of the conditional discriminator's leaky ReLU."""


class DiscriminatorConfig(Settings):
    """Which discriminator, and its size."""

    kind: Literal["patch", "conditional"] = Field(
        "conditional",
        description="patch: as published, batch norm, sees PET alone; conditional: norm-free, sees MRI",
    )
    channels: int = Field(
        16, ge=1, le=1024, description="channels of the first layer; doubled at each further one"
    )
    layers: int = Field(
        3, ge=1, le=8, description="strided layers after the first (patch) or in all (conditional)"
    )
    timestep_conditioned: bool = Field(
        False, description="whether it knows the noise level that a prediction was made at (conditional)"
    )

    @model_validator(mode="after")
    def _check(self) -> DiscriminatorConfig:
        if self.timestep_conditioned and self.kind == "patch":
            raise ValueError(
                "timestep_conditioned needs kind: conditional; the published discriminator sees PET alone"
            )
        return self


class Discriminator(nn.Module):
    """``forward(pet, condition, t)``: patch logits of PET ``(B, 1, X, Y, Z)``, higher for more real.

    ``t`` is the timestep ``(B,)`` of the prediction that is judged, or that the measured PET is paired with.
    """

    def __init__(self, config: DiscriminatorConfig, facts: DataFacts) -> None:
        super().__init__()
        self.body = _Patch(config) if config.kind == "patch" else _Conditional(config, facts.tracer_slots)

    def forward(self, pet: Tensor, condition: Condition, t: Tensor) -> Tensor:
        """See the class. Always in float32: the penalties differentiate twice, which half precision does not bear."""
        with torch.autocast(pet.device.type, enabled=False):
            logits: Tensor = self.body(pet, condition, t)
        return logits


class _Patch(nn.Module):
    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.network = PatchDiscriminator(
            spatial_dims=3,
            channels=config.channels,
            in_channels=1,
            out_channels=1,
            num_layers_d=config.layers,
        )

    def forward(self, pet: Tensor, condition: Condition, t: Tensor) -> Tensor:
        return self.network(pet)[-1]  # type: ignore[no-any-return]  # MONAI lists every layer's output


class _Conditional(nn.Module):
    """Strided convolutions without normalisation; tracer and timestep by projection (Miyato and Koyama 2018).

    Sees T1w and FLAIR alone of the condition: a prior would tell it nothing that they do not.
    """

    def __init__(self, config: DiscriminatorConfig, tracer_slots: int) -> None:
        super().__init__()
        widths = [config.channels * 2**i for i in range(config.layers)]
        layers: list[nn.Module] = []
        for width_in, width in zip([3, *widths], widths, strict=False):
            layers += [nn.Conv3d(width_in, width, 4, stride=2, padding=1), nn.LeakyReLU(_SLOPE)]
        self.features = nn.Sequential(*layers)
        self.score = nn.Conv3d(widths[-1], 1, 3, padding=1)
        for layer in self.features:
            if isinstance(layer, nn.Conv3d):
                # Without norms PyTorch's own start fades the volume with each layer, and the critic sleeps for
                # hundreds of steps; this one keeps its variance (He et al. 2015).
                nn.init.kaiming_normal_(layer.weight, a=_SLOPE)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.tracer = nn.Embedding(tracer_slots, widths[-1])
        nn.init.zeros_(self.tracer.weight)
        self.timestep = _timestep_layers(widths[-1]) if config.timestep_conditioned else None

    def forward(self, pet: Tensor, condition: Condition, t: Tensor) -> Tensor:
        features = self.features(torch.cat([pet, condition.mri], dim=1))
        direction = self.tracer(condition.tracer[:, 0])
        if self.timestep is not None:
            waves = get_timestep_embedding(t, _TIMESTEP_WAVES).to(direction.dtype)
            direction = direction + self.timestep(waves)
        projection = torch.einsum("bcxyz,bc->bxyz", features, direction).unsqueeze(1)
        return self.score(features) + projection  # type: ignore[no-any-return]


def _timestep_layers(width: int) -> nn.Sequential:
    last = nn.Linear(width, width)
    nn.init.zeros_(last.weight)  # begins as a critic that is not told
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(_TIMESTEP_WAVES, width), nn.SiLU(), last)
