"""Run folders of earlier versions, read as if this one had written them.

Format 1 had one method; the template (data.template) was a third channel of the condition, counted by hand in
method.generator.condition_channels, and the rows of the tracer embedding were a setting.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from relapet.errors import InputError


def present_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of any earlier format in the present shape; those of the present format as they are.

    Raises InputError for what this version can no longer do.
    """
    present = copy.deepcopy(dict(settings))
    data, method = present.get("data"), present.get("method")
    if isinstance(data, dict) and "template" in data:
        data["prior"] = "mean" if data.pop("template") else "none"
    if isinstance(method, dict):
        residual = method.pop("residual", None)  # follows from the prior now
        if residual is False and (data or {}).get("prior") == "mean" and method.get("prediction") == "x0":
            raise InputError(
                "The run folder predicts x0 beside a template without adding to it, which this relapet cannot; "
                "use relapet 0.1, or train again."
            )
        for network in ("generator", "discriminator"):
            part = method.get(network)
            if isinstance(part, dict):
                part.pop("condition_channels", None)
                part.pop("tracer_slots", None)
                if "told_timestep" in part:
                    part["timestep_conditioned"] = part.pop("told_timestep")
    return present


def present_manifest(manifest: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest of any earlier format in the present shape; ``settings`` as the run folder holds them."""
    present = dict(manifest)
    if present.get("run_format") == 1:
        generator = settings.get("method", {}).get("generator")
        generator = generator if isinstance(generator, dict) else {}
        present.setdefault("prior", "mean" if settings.get("data", {}).get("template") else "none")
        present.setdefault("tracer_slots", generator.get("tracer_slots"))
    return present
