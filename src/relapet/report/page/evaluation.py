"""The page of an evaluation: its summary, its figures, and every scan that was scored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relapet.evaluation.folder import FIGURES
from relapet.evaluation.tables import read_table, require_columns
from relapet.files import read_json
from relapet.imaging.bids import Visit
from relapet.imaging.descriptions import read_description
from relapet.report.page.cohort import Cohort, OnVisit, write_cohort
from relapet.report.page.document import from_markdown
from relapet.report.page.pictures import Picture, file_picture
from relapet.report.page.provenance import cautions, facts, model_facts

_MEND = "evaluate again"


def write_evaluation_page(
    folder: Path,
    path: Path,
    command: str | None = None,
    on_visit: OnVisit = lambda done, of, name: None,
) -> Path:
    """Write the page of an evaluation's folder to ``path``, and return that.

    Images are read where the trees lay when they were evaluated; without them the page has no pictures of scans.
    ``command``: the call, as typed. Raises InputError where a table or the summary is missing or broken.
    """
    summary = read_json(folder / "summary.json")
    inputs = summary.get("inputs", {})
    trees = {method: Path(root) for method, root in inputs.get("synthetic", {}).items()}
    models = {method: _model(tree) for method, tree in trees.items()}
    there = {method: tree for method, tree in trees.items() if tree.is_dir()}
    real = Path(str(inputs.get("real", "")))
    cohort = Cohort(
        "Evaluation of synthetic PET",
        _visits(folder) if there else [],
        real if real.is_dir() else None,
        there if len(there) > 1 else dict(zip([""], there.values(), strict=False)),
        cautions({method: model.get("TrainedOn") for method, model in models.items()}),
        facts(_told(inputs, models), command),
        from_markdown(_body(folder)),
        _drawings(folder / FIGURES),
    )
    write_cohort(path, cohort, None, on_visit)
    return path


def _model(tree: Path) -> dict[str, Any]:
    model = read_description(tree).get("RelapetModel")
    return model if isinstance(model, dict) else {}


def _visits(folder: Path) -> list[Visit]:
    """The visits that were scored, in their order."""
    path = folder / "image_metrics.tsv"
    table = read_table(path, mend=_MEND, dtype=str)
    require_columns(path, table, ["subject", "session"])
    pairs = dict.fromkeys(zip(table["subject"], table["session"], strict=True))
    return [
        Visit(
            str(subject).removeprefix("sub-"),
            session.removeprefix("ses-") if isinstance(session, str) else None,
        )
        for subject, session in pairs
    ]


def _body(folder: Path) -> str:
    """The summary without its title, which is the page's; headings one level down."""
    lines = (folder / "summary.md").read_text(encoding="utf-8").splitlines()
    return "\n".join(
        f"#{line}" if line.startswith("#") else line for line in lines if not line.startswith("# ")
    )


def _drawings(folder: Path) -> list[Picture]:
    """The figures, but for those of single subjects: their scans are shown themselves."""
    listing = folder / f"{FIGURES}.tsv"
    if not listing.is_file():
        return []
    table = read_table(listing, mend=_MEND, dtype=str)
    require_columns(listing, table, ["figure", "title"])
    return [
        file_picture(folder / Path(str(row["figure"])).name, str(row["title"]))
        for row in table.to_dict("records")
        if not str(row["figure"]).startswith("subject-")
    ]


def _told(inputs: Mapping[str, Any], models: Mapping[str, dict[str, Any]]) -> dict[str, object]:
    told: dict[str, object] = {"Measured": inputs.get("real")}
    for method, root in inputs.get("synthetic", {}).items():
        told[f"Method {method}"] = root
        own = {key: value for key, value in model_facts(models[method]).items() if value is not None}
        told |= {f"{method}: {key}": value for key, value in own.items()}
    told["Atlas"] = inputs.get("atlas")
    told["Bootstrap samples, seed"] = [inputs.get("bootstrap_samples"), inputs.get("seed")]
    return told
