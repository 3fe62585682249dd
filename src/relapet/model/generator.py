"""The generator G(x_t, c, t, k): MONAI core's diffusion U-Net, the condition concatenated, the tracer embedded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, Self

import torch
from einops import rearrange
from monai.networks.nets import DiffusionModelUNet
from monai.networks.nets.diffusion_model_unet import DiffusionUNetResnetBlock, SpatialTransformer
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from relapet.errors import InputError
from relapet.model.centre import Centre
from relapet.model.interface import Condition, DataFacts, Targets
from relapet.model.residual_block import use_own_blocks
from relapet.settings import Settings

_PACK = 8
"""Voxels that `packed` puts into one."""
_HEAD_CHANNELS = 8
"""Channels at full resolution beside a packed trunk."""


class GeneratorConfig(Settings):
    """Size and shape of the U-Net."""

    channels: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        (16, 32, 64), min_length=1, max_length=8, description="channels of each level, finest first"
    )
    residual_blocks: int = Field(2, ge=1, le=16, description="residual blocks a level")
    norm_groups: int = Field(8, ge=1, description="groups of the group normalisation")
    attention: Literal["lowest", "none"] = Field(
        "none", description="self-attention at the lowest level (as published), or nowhere"
    )
    packed: bool = Field(
        False,
        description="work at half resolution, eight voxels a channel group, with a thin head at full resolution: an "
        "eighth of the arithmetic",
    )
    checkpointing: bool = Field(
        False, description="recompute each block in the backward pass: less memory, a third more time"
    )

    @model_validator(mode="after")
    def _groups_divide_channels(self) -> Self:
        odd = [count for count in self.channels if count % self.norm_groups]
        if odd:
            raise ValueError(
                f"generator.channels has {odd[0]}, which is no multiple of generator.norm_groups "
                f"({self.norm_groups}); give one"
            )
        return self


class UNet(nn.Module):
    """The U-Net that `Generator` and `Translator` are made of, or its half-resolution form; begins by giving 0."""

    def __init__(
        self, config: GeneratorConfig, channels: int, count: int, classes: int | None, latent: int = 0
    ) -> None:
        super().__init__()
        self.config = config
        self.kept: torch.dtype | None = None
        """See `keep_generators_in`."""
        self.head = _Head(_HEAD_CHANNELS + channels, count) if config.packed else None
        attention = config.attention == "lowest"
        levels = len(config.channels)
        self.unet = DiffusionModelUNet(
            spatial_dims=3,
            in_channels=_PACK * channels if config.packed else channels,
            out_channels=_PACK * _HEAD_CHANNELS if config.packed else count,
            channels=config.channels,
            attention_levels=(False,) * (levels - 1) + (attention,),
            num_res_blocks=config.residual_blocks,
            num_head_channels=config.channels[-1],
            norm_num_groups=config.norm_groups,
            num_class_embeds=classes,
            # The published network has cross-attention layers; without a context they attend to themselves.
            with_conditioning=attention,
            cross_attention_dim=config.channels[-1] if attention else None,
            # The same numbers without the matrix of tokens by tokens: 20 GB for the 72,000 tokens of a 1 mm grid.
            use_flash_attention=attention,
        )
        if not attention:
            # MONAI keeps attention in the middle block whatever attention_levels says.
            self.unet.middle_block.attention = nn.Identity()
        self.latent = latent
        if latent:
            self.unet.class_embedding = _LabelAndLatent(self.unet.class_embedding, latent)
        use_own_blocks(self.unet)
        if config.checkpointing:
            for module in self.unet.modules():
                if isinstance(module, DiffusionUNetResnetBlock | SpatialTransformer):
                    module.forward = _recomputed(module.forward)

    def run(self, parts: Sequence[Tensor], t: Tensor, labels: Any) -> Tensor:
        """The output of volumes given in parts, ``(B, C, X, Y, Z)`` each, together all channels; in float32.

        Raises InputError for a grid whose sides the levels do not divide.
        """
        halvings = len(self.config.channels) - 1 + (self.head is not None)
        sides = tuple(parts[0].shape[2:])
        if any(side % 2**halvings for side in sides):
            raise InputError(
                f"The grid {sides} cannot be halved {halvings} times; use a grid whose sides are "
                f"multiples of {2**halvings}."
            )
        if self.kept is None:
            return _single(self._output(parts, t, labels))
        with torch.autocast(parts[0].device.type, enabled=False):
            return _single(self._output(parts, t, labels))

    def _output(self, parts: Sequence[Tensor], t: Tensor, labels: Any) -> Tensor:
        if self.head is not None and not torch.is_grad_enabled():
            return self._output_in_place(self.head, parts, t, labels)
        inputs = torch.cat(list(parts), dim=1)
        inputs = inputs.to(self.kept or inputs.dtype, memory_format=torch.channels_last_3d)
        if self.head is None:
            output: Tensor = self.unet(inputs, timesteps=t, class_labels=labels)
            return output
        coarse = self.unet(packed(inputs), timesteps=t, class_labels=labels)
        return self.head(torch.cat([unpacked(coarse), inputs], dim=1))  # type: ignore[no-any-return]

    def _output_in_place(self, head: nn.Module, parts: Sequence[Tensor], t: Tensor, labels: Any) -> Tensor:
        """The same where no gradient is asked for: each number is written once, to where the head reads it."""
        first = parts[0]
        shape = (len(first), _HEAD_CHANNELS + sum(part.shape[1] for part in parts), *first.shape[2:])
        features = torch.empty(
            shape, dtype=self.kept or first.dtype, device=first.device, memory_format=torch.channels_last_3d
        )
        fine, inputs = features[:, :_HEAD_CHANNELS], features[:, _HEAD_CHANNELS:]
        start = 0
        for part in parts:
            inputs[:, start : start + part.shape[1]] = part
            start += part.shape[1]
        coarse = self.unet(packed(inputs), timesteps=t, class_labels=labels)
        _unpack_into(fine, coarse)
        return head(features)  # type: ignore[no-any-return]


class Generator(UNet):
    """``forward(x_t, t, condition)``: the raw output, ``(B, K, X, Y, Z)``, in float32.

    Its channels follow from the data: ``x_t`` and, of the condition, the MRI and the prior where there is one. For one
    tracer at a time (K = 1, as published) the tracer is embedded; for all at once each has a channel of its own.
    With ``latent`` above 0 it takes a latent vector of that length, ``(B, latent)``, which joins the embedding of
    timestep and tracer that every residual block adds to its features.
    """

    def __init__(
        self,
        config: GeneratorConfig,
        facts: DataFacts,
        targets: Targets = "one",
        own: bool = False,
        latent: int = 0,
    ) -> None:
        """``own``: whether it is also shown what is a person's own, by `centre`, which is then to be set."""
        count = facts.tracers if targets == "all" else 1
        embedded = targets == "one"
        known = 2 + (count if facts.prior else 0)
        classes = facts.tracer_slots if embedded else (1 if latent else None)
        super().__init__(config, count + known * (2 if own else 1), count, classes, latent)
        self.embedded = embedded
        self.own = own
        self.centre: Centre | None = None
        """What is taken off, as found in training; not among the weights."""

    def forward(self, x_t: Tensor, t: Tensor, condition: Condition, latent: Tensor | None = None) -> Tensor:
        """See the class. Raises InputError for a grid whose sides the levels do not divide."""
        labels = self._labels(condition, latent)
        if self.own:
            if self.centre is None:
                raise ValueError("a generator that is shown what is a person's own must be told the centre")
            condition = self.centre.shown(condition)
        return self.run((x_t, condition.known()), t, labels)

    def _labels(self, condition: Condition, latent: Tensor | None) -> Any:
        """What the U-Net embeds beside the timestep."""
        if (latent is None) != (self.latent == 0):
            raise ValueError("a generator takes a latent vector where it was made for one, and only there")
        labels = condition.tracer[:, 0] if self.embedded else None
        if latent is None:
            return labels
        told = latent if self.kept is None else latent.to(self.kept)
        return torch.zeros_like(condition.tracer[:, 0]) if labels is None else labels, told


def keep_generators_in(networks: nn.Module, dtype: torch.dtype) -> None:
    """Keep the weights of every generator in half precision and compute in it, whatever autocast says: for synthesis.

    Autocast casts each weight anew at every call, and on a GPU takes every normalisation back to float32.
    """
    for module in networks.modules():
        if isinstance(module, Generator):
            module.to(dtype)
            module.kept = dtype


class Translator(UNet):
    """``forward(volumes, tracer)``: volumes of some channels from those of others, one call; the tracer is embedded.

    ``volumes`` is ``(B, channels, X, Y, Z)``, ``tracer`` ``(B, 1)``, the output ``(B, count, X, Y, Z)`` in float32.
    """

    def __init__(self, config: GeneratorConfig, facts: DataFacts, channels: int, count: int) -> None:
        super().__init__(config, channels, count, facts.tracer_slots)

    def forward(self, volumes: Tensor, tracer: Tensor) -> Tensor:
        """See the class. Raises InputError for a grid whose sides the levels do not divide."""
        return self.run((volumes,), at_start(volumes), tracer[:, 0])


class _LabelAndLatent(nn.Module):
    """The embedding of a class plus that of a latent vector, which a network of three layers maps."""

    def __init__(self, classes: nn.Embedding, latent: int) -> None:
        super().__init__()
        width = classes.embedding_dim
        self.classes = classes
        self.latent = nn.Sequential(
            *(
                nn.Linear(latent, width),
                nn.SiLU(),
                nn.Linear(width, width),
                nn.SiLU(),
                nn.Linear(width, width),
            )
        )

    def forward(self, told: tuple[Tensor, Tensor]) -> Tensor:
        labels, latent = told
        return self.classes(labels) + self.latent(latent)  # type: ignore[no-any-return]


def in_one_call(generator: nn.Module, condition: Condition, latent: Tensor | None = None) -> Tensor:
    """The output of a generator that is shown nothing but the condition, at t = 0: ``(B, K, X, Y, Z)``."""
    nothing = condition.volumes()
    output: Tensor = generator(nothing, at_start(nothing), condition, latent)
    return output


def at_start(volumes: Tensor) -> Tensor:
    """A timestep of 0 for each volume, ``(B,)``."""
    return torch.zeros(len(volumes), dtype=torch.int64, device=volumes.device)


class _Head(nn.Module):
    """Two convolutions at full resolution; they begin by giving 0, as MONAI's U-Net does."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(width, 2 * _HEAD_CHANNELS, 3, padding=1)
        self.last = nn.Conv3d(2 * _HEAD_CHANNELS, count, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        features = functional.silu(self.first(features), inplace=not torch.is_grad_enabled())
        return self.last(features)  # type: ignore[no-any-return]


def packed(volumes: Tensor) -> Tensor:
    """Every 2 x 2 x 2 voxels as eight channels: ``(B, C, X, Y, Z)`` to ``(B, 8 C, X/2, Y/2, Z/2)``."""
    coarse: Tensor = rearrange(volumes, "b c (x i) (y j) (z k) -> b (c i j k) x y z", i=2, j=2, k=2)
    return coarse.contiguous(memory_format=torch.channels_last_3d)


def unpacked(volumes: Tensor) -> Tensor:
    """The inverse of `packed`."""
    fine: Tensor = rearrange(volumes, "b (c i j k) x y z -> b c (x i) (y j) (z k)", i=2, j=2, k=2)
    return fine


def _unpack_into(fine: Tensor, coarse: Tensor) -> None:
    """Write what `unpacked` gives."""
    x, y, z = coarse.shape[2:]
    pairs = fine.view(*fine.shape[:2], x, 2, y, 2, z, 2)
    pairs.copy_(rearrange(coarse, "b (c i j k) x y z -> b c x i y j z k", i=2, j=2, k=2))


def _single(output: Tensor) -> Tensor:
    return output.float() if output.dtype in (torch.float16, torch.bfloat16) else output


def _recomputed(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``forward``, keeping only its inputs for the backward pass (Chen et al. 2016, arXiv:1604.06174)."""

    def wrapped(*args: Any, **kwargs: Any) -> Tensor:
        # The non-reentrant form is the one that torch.autograd.grad works with; the blocks draw no random numbers.
        result: Tensor = checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)
        return result

    return wrapped
