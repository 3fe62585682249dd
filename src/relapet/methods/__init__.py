"""Synthesis methods, one file each; a new one is added to the table below."""

from __future__ import annotations

from typing import Any

from relapet.errors import InputError
from relapet.methods.rela import Rela, RelaConfig

METHODS = {"rela": Rela}
MethodConfig = RelaConfig
"""Union of the Config classes of every method (discriminated by ``name``)."""


def build_method(config: dict[str, Any]) -> Rela:
    """Build a method from its settings as a run folder's config.yaml holds them."""
    name = config.get("name")
    if name not in METHODS:
        raise InputError(f"Unknown method {name!r}; there are: {', '.join(METHODS)}.")
    method = METHODS[name]
    return method(method.Config.model_validate(config))


__all__ = ["METHODS", "MethodConfig", "build_method"]
