"""The authors' network, from MONAI core with the release's options (Yu et al. 2026)."""

from __future__ import annotations

from monai.networks.nets import DiffusionModelUNet


def release_network(flash: bool = False) -> DiffusionModelUNet:
    """The release's generator; ``flash``: attention without the matrix of tokens by tokens, the same numbers."""
    return DiffusionModelUNet(
        spatial_dims=3,
        in_channels=3,
        out_channels=1,
        channels=(16, 32, 64),
        attention_levels=(False, False, True),
        num_res_blocks=2,
        num_head_channels=64,
        norm_num_groups=8,
        num_class_embeds=4,
        with_conditioning=True,
        cross_attention_dim=64,
        use_flash_attention=flash,
    )
