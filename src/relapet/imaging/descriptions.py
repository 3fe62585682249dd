"""What a data set says of itself in its dataset_description.json: who made it, and whether people were simulated."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from relapet.errors import InputError
from relapet.files import read_json
from relapet.imaging.bids import DESCRIPTION, sidecar_path
from relapet.types import Json


def read_description(root: Path) -> Json:
    """The data set's dataset_description.json; nothing where it has none that can be read."""
    path = Path(root) / DESCRIPTION
    try:
        return read_json(path) if path.is_file() else {}
    except InputError:
        return {}


def is_made_by_relapet(root: Path, name: str | None = None) -> bool:
    """Whether a data set's description says that relapet made it, and under this name where one is given."""
    description = read_description(root)
    made_by = description.get("GeneratedBy")
    first = made_by[0] if isinstance(made_by, list) and made_by else None
    ours = isinstance(first, dict) and first.get("Name") == "relapet"
    return ours and name in (None, description.get("Name"))


def is_simulated(root: Path, images: Iterable[Path] = ()) -> bool:
    """Whether a data set's description, or the sidecar of any of the images, says Simulated."""
    if read_description(root).get("Simulated") is True:
        return True
    for path in map(sidecar_path, images):
        try:
            if path.is_file() and read_json(path).get("Simulated") is True:
                return True
        except InputError:
            continue  # who reads the image itself complains of its sidecar
    return False
