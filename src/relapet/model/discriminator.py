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
    """``forward(judged, condition, t)``: patch logits of volumes ``(B, C, X, Y, Z)``, higher for more real.

    What is judged is PET, C = 1, unless ``channels`` says otherwise; ``sees_mri``: beside the MRI of the condition, so
    that it must fit. ``t`` is the timestep ``(B,)`` of the prediction, or that the measured volume is paired with.
    """

    def __init__(
        self, config: DiscriminatorConfig, facts: DataFacts, channels: int = 1, sees_mri: bool = True
    ) -> None:
        super().__init__()
        self.body = (
            _Patch(config, channels)
            if config.kind == "patch"
            else _Conditional(config, facts.tracer_slots, channels, sees_mri)
        )

    def forward(self, judged: Tensor, condition: Condition, t: Tensor) -> Tensor:
        """See the class. Always in float32: the penalties differentiate twice, which half precision does not bear."""
        with torch.autocast(judged.device.type, enabled=False):
            logits: Tensor = self.body(judged, condition, t)
        return logits


class _Patch(nn.Module):
    def __init__(self, config: DiscriminatorConfig, channels: int) -> None:
        super().__init__()
        self.network = PatchDiscriminator(
            spatial_dims=3,
            channels=config.channels,
            in_channels=channels,
            out_channels=1,
            num_layers_d=config.layers,
        )

    def forward(self, judged: Tensor, condition: Condition, t: Tensor) -> Tensor:
        return self.network(judged)[-1]  # type: ignore[no-any-return]  # MONAI lists every layer's output


class _Conditional(nn.Module):
    """Strided convolutions without normalisation; tracer and timestep by projection (Miyato and Koyama 2018).

    Sees T1w and FLAIR at most of the condition: a prior would tell it nothing that they do not.
    """

    def __init__(self, config: DiscriminatorConfig, tracer_slots: int, channels: int, sees_mri: bool) -> None:
        super().__init__()
        self.sees_mri = sees_mri
        widths = [config.channels * 2**i for i in range(config.layers)]
        layers: list[nn.Module] = []
        for width_in, width in zip([channels + 2 * sees_mri, *widths], widths, strict=False):
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

    def forward(self, judged: Tensor, condition: Condition, t: Tensor) -> Tensor:
        seen = torch.cat([judged, condition.mri], dim=1) if self.sees_mri else judged
        features = self.features(seen)
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
