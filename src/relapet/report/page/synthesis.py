"""The page of a synthetic derivative: every scan that it holds, and what made it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import unquote

from relapet.errors import InputError
from relapet.files import read_json
from relapet.imaging.bids import NATIVE_SPACE, Visit, find_visits, sidecar_path
from relapet.imaging.descriptions import read_description
from relapet.imaging.grid import SPACE
from relapet.report.page.cohort import Cohort, OnVisit, write_cohort
from relapet.report.page.provenance import cautions, facts, model_facts
from relapet.tracers import load_tracers
from relapet.types import Json


def write_synthesis_page(
    tree: Path,
    path: Path,
    new: Collection[str] | None = None,
    command: str | None = None,
    on_visit: OnVisit = lambda done, of, name: None,
) -> Path:
    """Write the page of a synthetic derivative, with what earlier calls wrote there too; returns its path.

    ``new``: visits, by their stems, whose pages are made anew, all where None. ``command``: the call that made it,
    as typed. MRI and measured PET are looked for where the data set's description says that they were.
    """
    description = read_description(tree)
    model = description.get("RelapetModel")
    model = model if isinstance(model, dict) else {}
    maps = {visit: list(_maps(tree, visit)) for visit in find_visits(tree)}
    first = next((sidecar for paths in maps.values() for path in paths if (sidecar := _read(path))), {})
    cohort = Cohort(
        f"Synthetic PET by {'the model ' + str(model['Name']) if 'Name' in model else 'an unknown model'}",
        [visit for visit, paths in maps.items() if paths],
        _source(tree, description),
        {"": tree},
        cautions({"": model.get("TrainedOn")}),
        facts(model_facts(model) | _made_with(first), command),
    )
    write_cohort(path, cohort, new, on_visit)
    return path


def _maps(tree: Path, visit: Visit) -> Iterator[Path]:
    for tracer in load_tracers().values():
        for space in (SPACE, NATIVE_SPACE):
            path = visit.pet(tree, tracer, "synth", space)
            if path.is_file():
                yield path


def _read(path: Path) -> Json:
    try:
        return read_json(sidecar_path(path))
    except InputError:
        return {}  # another map of the same model says the same


def _source(tree: Path, description: Json) -> Path | None:
    links = description.get("DatasetLinks")
    link = links.get("source") if isinstance(links, dict) else None
    folder = tree / unquote(link) if isinstance(link, str) else tree
    return folder if isinstance(link, str) and folder.is_dir() else None


def _made_with(sidecar: Json) -> dict[str, object]:
    keys = {
        "Origin of the weights": "WeightsOrigin",
        "Sampler": "Sampler",
        "Steps a sample": "Steps",
        "Samples": "Samples",
        "Seeds": "Seeds",
        "The map is": "MeanBy",
        "Resolution of the model": "ModelResolution",
        "Made": "Generated",
        "Versions": "SoftwareVersions",
    }
    return {name: sidecar.get(key) for name, key in keys.items()}
