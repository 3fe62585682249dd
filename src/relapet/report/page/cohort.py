"""Pages of a cohort: one with everything where that is small, else one that links a page for each visit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relapet.errors import InputError
from relapet.imaging.bids import NATIVE_SPACE, Visit
from relapet.imaging.grid import SPACE
from relapet.report.page.document import is_known, write_document
from relapet.report.page.pictures import Picture
from relapet.report.page.regions import Regions, read_regions
from relapet.report.page.visits import Viewer, VisitView, tracer_title, view_visit
from relapet.report.style import voi_label
from relapet.tracers import TracerSpec, load_tracers

MOST_VISITS = 20
"""Of one page; with more each visit has a page of its own."""
MOST_BYTES = 12_000_000
"""Of pictures and volumes on one page."""

OnVisit = Callable[[int, int, str], None]
"""Called with the number of visits done, of all, and the visit's name."""


@dataclass(frozen=True)
class Cohort:
    """What a page is of."""

    title: str
    visits: Sequence[Visit]
    images: Path | None
    """Derivative with the MRI and, where there is one, measured PET; None where it is gone."""
    trees: Mapping[str, Path]
    """Synthetic derivative by method; the method is empty where there is one tree alone."""
    cautions: Sequence[str] = ()
    provenance: Sequence[tuple[str, str]] = ()
    summary: str = ""
    """HTML of our own."""
    drawings: Sequence[Picture] = ()


@dataclass(frozen=True)
class Row:
    """One scan in the overview."""

    visit: Visit
    method: str
    regions: Regions
    link: str


@dataclass(frozen=True)
class Overview:
    """The overview of one tracer: what its composites are called and a row a scan and method."""

    title: str
    rule: str
    names: tuple[str, ...]
    centiloid: bool
    probability: bool
    methods: bool
    rows: tuple[Row, ...]


def write_cohort(path: Path, cohort: Cohort, new: Collection[str] | None, on_visit: OnVisit) -> None:
    """Write the page of a cohort to ``path`` and, for a large one, a page a visit into a folder of its stem.

    ``new``: the visits, by their stems, whose pages are to be made anew; all where None; others keep theirs.
    """
    if len(cohort.visits) <= MOST_VISITS:
        views = []
        for number, visit in enumerate(cohort.visits, 1):
            views.append(view_visit(visit, cohort.images, cohort.trees))
            on_visit(number, len(cohort.visits), visit.stem)
        if sum(map(weight, views)) <= MOST_BYTES:
            _write_whole(path, cohort, views)
            return
        rows = {view.visit: _write_one(path, cohort, view) for view in views}
    else:
        rows = {}
        for number, visit in enumerate(cohort.visits, 1):
            if new is None or visit.stem in new or not _page(path, visit).is_file():
                rows[visit] = _write_one(path, cohort, view_visit(visit, cohort.images, cohort.trees))
            else:
                rows[visit] = _rows_of_tables(path, cohort, visit)
            on_visit(number, len(cohort.visits), visit.stem)
    content = {"overviews": _overviews(cohort, [row for part in rows.values() for row in part]), "visits": []}
    write_document(path, "cohort.html", Viewer(), {**_head(cohort), **content})


def weight(view: VisitView) -> int:
    """Characters that a visit's pictures and volumes take in a page."""
    columns = [*view.mri]
    for scan in view.scans:
        columns += [
            *([scan.measured] if scan.measured else []),
            *(c for made in scan.maps for c in made.columns),
        ]
    return sum(len(column.picture.source) for column in columns) + sum(map(len, view.viewer.volumes.values()))


def _head(cohort: Cohort) -> dict[str, Any]:
    return {
        "title": cohort.title,
        "cautions": cohort.cautions,
        "provenance": cohort.provenance,
        "summary": cohort.summary,
        "drawings": cohort.drawings,
    }


def _write_whole(path: Path, cohort: Cohort, views: Sequence[VisitView]) -> None:
    viewer = Viewer()
    for view in views:
        viewer.merge(view.viewer)
    rows = [row for view in views for row in _rows_of_view(view, f"#{view.anchor}")]
    content = {"overviews": _overviews(cohort, rows), "visits": views}
    write_document(path, "cohort.html", viewer, {**_head(cohort), **content})


def _page(path: Path, visit: Visit) -> Path:
    return path.with_suffix("") / f"{visit.stem}.html"


def _write_one(path: Path, cohort: Cohort, view: VisitView) -> list[tuple[TracerSpec, Row]]:
    """Write a visit's own page; returns its rows of the overview."""
    page = _page(path, view.visit)
    rows = _rows_of_view(view, f"#{view.anchor}")
    content = {
        "title": f"{view.visit.stem}: {cohort.title}",
        "cautions": cohort.cautions,
        "provenance": cohort.provenance,
        "up": f"../{path.name}",
        "overviews": _overviews(cohort, rows),
        "shown": view,
    }
    write_document(page, "visit.html", view.viewer, content)
    return _rows_of_view(view, f"{page.parent.name}/{page.name}")


def _rows_of_view(view: VisitView, link: str) -> list[tuple[TracerSpec, Row]]:
    return [
        (scan.tracer, Row(view.visit, made.method, made.regions, link))
        for scan in view.scans
        for made in scan.maps
        if made.regions is not None
    ]


def _rows_of_tables(path: Path, cohort: Cohort, visit: Visit) -> list[tuple[TracerSpec, Row]]:
    """The rows of a visit whose page stays as it is, from its tables."""
    page, rows = _page(path, visit), []
    for tracer in load_tracers().values():
        for method, tree in cohort.trees.items():
            try:
                found = read_regions(tree, visit, tracer, None, SPACE)
                found = found or read_regions(tree, visit, tracer, None, NATIVE_SPACE)
            except InputError:
                continue  # its own page told so when it was made
            if found is not None:
                rows.append((tracer, Row(visit, method, found, f"{page.parent.name}/{page.name}")))
    return rows


def _overviews(cohort: Cohort, rows: Sequence[tuple[TracerSpec, Row]]) -> list[Overview]:
    overviews = []
    for tracer in load_tracers().values():
        own = tuple(row for spec, row in rows if spec.name == tracer.name)
        if not own:
            continue
        rule = tracer.positivity
        overviews.append(
            Overview(
                tracer_title(tracer),
                "" if rule is None else f"{voi_label(rule.composite)} > {rule.threshold:g}",
                tuple(voi_label(name) for name in tracer.composites),
                any(row.regions.centiloid is not None for row in own),
                any(is_known(row.regions.probability) for row in own),
                len(cohort.trees) > 1,
                own,
            )
        )
    return overviews
