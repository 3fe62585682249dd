"""Models that come with the package, by name: each a run folder in ``models/``, made small."""

from __future__ import annotations

from pathlib import Path

_MODELS = Path(__file__).parent / "models"


def shipped_models() -> dict[str, Path]:
    """The run folders by name."""
    return {path.parent.name: path.parent for path in sorted(_MODELS.glob("*/config.yaml"))}


def find_model(model: str | Path) -> Path:
    """The run folder of a path or, where there is none, of a shipped model's name."""
    path = Path(model)
    return path if path.exists() else shipped_models().get(str(model), path)
