"""Models that come with the package, by name: each a run folder in ``models/``, made small."""

from __future__ import annotations

from pathlib import Path

from relapet.errors import InputError

_MODELS = Path(__file__).parent / "models"


def shipped_models() -> dict[str, Path]:
    """The run folders by name."""
    return {path.parent.name: path.parent for path in sorted(_MODELS.glob("*/config.yaml"))}


def find_model(model: str | Path) -> Path:
    """The run folder of a path or, where there is none, of a shipped model's name; raises InputError for neither."""
    path, known = Path(model), shipped_models()
    if path.is_dir():
        return path
    if str(model) in known:
        return known[str(model)]
    names = f", or name a shipped model: {', '.join(known)}" if known else ""
    raise InputError(f"The run folder {model} does not exist; check the path{names}.")
