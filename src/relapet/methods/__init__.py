"""Synthesis methods, one file each; a new one is added to the table below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relapet.errors import InputError
from relapet.methods.bridge import Bridge
from relapet.methods.crps import Crps
from relapet.methods.cyclegan import Cyclegan
from relapet.methods.ddgan import Ddgan
from relapet.methods.ddpm import Ddpm
from relapet.methods.ficd import Ficd
from relapet.methods.latent import Latent
from relapet.methods.linear import Linear
from relapet.methods.pix2pix import Pix2pix
from relapet.methods.rectified_flow import RectifiedFlow
from relapet.methods.regression import Regression
from relapet.methods.rela import Rela
from relapet.methods.tracer_mean import TracerMean
from relapet.model.interface import DataFacts, Method

METHODS: dict[str, Any] = {
    "tracer_mean": TracerMean,
    "linear": Linear,
    "regression": Regression,
    "crps": Crps,
    "pix2pix": Pix2pix,
    "cyclegan": Cyclegan,
    "ddpm": Ddpm,
    "ficd": Ficd,
    "ddgan": Ddgan,
    "rectified_flow": RectifiedFlow,
    "bridge": Bridge,
    "latent": Latent,
    "rela": Rela,
}
"""By the name that settings use; each is a class made as ``Class(Class.Config(...), facts)``."""


def find_method(name: object) -> Any:
    """The class of a method; raises InputError listing those there are."""
    if not isinstance(name, str) or name not in METHODS:
        raise InputError(f"Unknown method {name!r}; there are: {', '.join(METHODS)}.")
    return METHODS[name]


def build_method(config: Mapping[str, Any], facts: DataFacts) -> Method:
    """Build a method from its settings as a run folder's config.yaml holds them, and what is known of the data."""
    method = find_method(config.get("name"))
    built: Method = method(method.Config.model_validate(config), facts)
    return built


__all__ = ["METHODS", "build_method", "find_method"]
