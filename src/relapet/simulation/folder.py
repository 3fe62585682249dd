"""The folder of a simulated data set: written by one process, and again after a kill by the same call alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from relapet.errors import InputError
from relapet.files import prepare_output_folder, remove_unfinished, require_empty_or_own
from relapet.imaging.descriptions import read_description
from relapet.locks import locked
from relapet.types import Json

SETTINGS = "SimulationConfig"
"""Key of the description, written first, by which a simulation that was killed is known again."""


@contextmanager
def simulation_folder(root: Path, settings: Json, last: Path) -> Iterator[Path]:
    """Hold the folder of a simulation; ``last`` is the file that is written when all else is there.

    Raises InputError where the folder cannot be written, where another process writes to it, and where it holds
    anything but what the same call left unfinished.
    """
    _require_unused(root, settings, last)
    prepare_output_folder(root)
    with locked(root):
        _require_unused(root, settings, last)  # by now another process may have written it
        remove_unfinished(root, alone=True)
        try:
            yield root
        finally:  # processes that were ended with this one leave what they were writing
            remove_unfinished(root, alone=True)


def _require_unused(root: Path, settings: Json, last: Path) -> None:
    def is_own(folder: Path) -> bool:
        same = read_description(folder).get(SETTINGS) == json.loads(json.dumps(settings))
        return same and not last.exists()

    if any(root.glob("sub-*")) and not is_own(root):
        raise InputError(f"{root} already holds subjects; choose an empty folder or delete them first.")
    require_empty_or_own(root, is_own, "relapet simulate with the same settings")
