"""The generator G(x_t, c, t, k): MONAI core's diffusion U-Net, the condition concatenated, the tracer embedded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from monai.networks.nets import DiffusionModelUNet
from monai.networks.nets.diffusion_model_unet import DiffusionUNetResnetBlock, SpatialTransformer
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from relapet.errors import InputError
from relapet.model.interface import Condition, DataFacts, Targets
from relapet.settings import Settings


class GeneratorConfig(Settings):
    """Size and shape of the U-Net."""

    channels: tuple[int, ...] = Field((16, 32, 64), description="channels of each level, finest first")
    residual_blocks: int = Field(2, ge=1, description="residual blocks a level")
    norm_groups: int = Field(8, ge=1, description="groups of the group normalisation")
    attention: Literal["lowest", "none"] = Field(
        "none", description="self-attention at the lowest level (as published), or nowhere"
    )
    checkpointing: bool = Field(
        False, description="recompute each block in the backward pass: less memory, a third more time"
    )


class Generator(nn.Module):
    """``forward(x_t, t, condition)``: the raw output, ``(B, K, X, Y, Z)``, in float32.

    Its channels follow from the data: ``x_t`` and, of the condition, the MRI and the prior where there is one. For one
    tracer at a time (K = 1, as published) the tracer is embedded; for all at once each has a channel of its own.
    """

    def __init__(self, config: GeneratorConfig, facts: DataFacts, targets: Targets = "one") -> None:
        super().__init__()
        self.config = config
        count = facts.tracers if targets == "all" else 1
        self.embedded = targets == "one"
        attention = config.attention == "lowest"
        levels = len(config.channels)
        self.unet = DiffusionModelUNet(
            spatial_dims=3,
            in_channels=count + 2 + (count if facts.prior else 0),
            out_channels=count,
            channels=config.channels,
            attention_levels=(False,) * (levels - 1) + (attention,),
            num_res_blocks=config.residual_blocks,
            num_head_channels=config.channels[-1],
            norm_num_groups=config.norm_groups,
            num_class_embeds=facts.tracer_slots if self.embedded else None,
            # The published network has cross-attention layers; without a context they attend to themselves.
            with_conditioning=attention,
            cross_attention_dim=config.channels[-1] if attention else None,
            # The same numbers without the matrix of tokens by tokens: 20 GB for the 72,000 tokens of a 1 mm grid.
            use_flash_attention=attention,
        )
        if not attention:
            # MONAI keeps attention in the middle block whatever attention_levels says.
            self.unet.middle_block.attention = nn.Identity()
        if config.checkpointing:
            for module in self.unet.modules():
                if isinstance(module, DiffusionUNetResnetBlock | SpatialTransformer):
                    module.forward = _recomputed(module.forward)

    def forward(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """See the class. Raises InputError for a grid whose sides the levels do not divide."""
        factor = 2 ** (len(self.config.channels) - 1)
        if any(side % factor for side in x_t.shape[2:]):
            raise InputError(
                f"The grid {tuple(x_t.shape[2:])} cannot be halved {len(self.config.channels) - 1} times; "
                f"use a grid whose sides are multiples of {factor}."
            )
        inputs = torch.cat([x_t, condition.known()], dim=1).contiguous(memory_format=torch.channels_last_3d)
        labels = condition.tracer[:, 0] if self.embedded else None
        output: Tensor = self.unet(inputs, timesteps=t, class_labels=labels)
        return output.float() if output.dtype in (torch.float16, torch.bfloat16) else output


def _recomputed(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``forward``, keeping only its inputs for the backward pass (Chen et al. 2016, arXiv:1604.06174)."""

    def wrapped(*args: Any, **kwargs: Any) -> Tensor:
        # The non-reentrant form is the one that torch.autograd.grad works with; the blocks draw no random numbers.
        result: Tensor = checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)
        return result

    return wrapped
