"""The page of a folder, whatever it is: a training, an evaluation or a synthetic derivative."""

from __future__ import annotations

from pathlib import Path

from relapet.errors import InputError
from relapet.files import require_folder
from relapet.imaging.descriptions import read_description
from relapet.report.page.evaluation import write_evaluation_page
from relapet.report.page.run import write_run_page
from relapet.report.page.synthesis import write_synthesis_page


def write_page_of(folder: Path, path: Path, command: str | None = None) -> Path:
    """Write the page of a folder to ``path`` and return that; raises InputError for a folder that has none."""
    require_folder(folder)
    if path.suffix != ".html":
        raise InputError(f"{path} is no .html name; give one for the report.")
    if (folder / "manifest.json").is_file():
        return write_run_page(folder, path, command)
    if (folder / "summary.json").is_file():
        return write_evaluation_page(folder, path, command)
    if isinstance(read_description(folder).get("RelapetModel"), dict):
        return write_synthesis_page(folder, path, None, command)
    raise InputError(
        f"{folder} is no run folder, no evaluation and no derivative of relapet synthesize; give one of these."
    )
