"""The page of a training: its curves, its validation pictures, its settings and what it learned from."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median

from relapet.evaluation.uncertainty.conformal import Calibration, load_calibration
from relapet.files import read_json
from relapet.report.page.curves import read_log, training_curves
from relapet.report.page.document import write_document
from relapet.report.page.pictures import Picture, figure_picture, file_picture
from relapet.report.page.provenance import cautions, counted, facts, plainly
from relapet.report.page.visits import Viewer
from relapet.setting_files import read_settings_file
from relapet.types import Json

_PICTURE = re.compile(r"tracer-([a-z0-9]+)_step-(\d+)\.png")
_FOUND = ("Trust", "Spread", "Interval (SUVr)", "Validated on")


def write_run_page(run: Path, path: Path, command: str | None = None) -> Path:
    """Write the page of a run folder to ``path``, and return that.

    ``command``: the call, as typed. Raises InputError where the manifest, the settings or the log are broken.
    """
    manifest, settings = read_json(run / "manifest.json"), read_settings_file(run / "config.yaml")
    log = run / "log.tsv"
    curves = [figure_picture(f) for f in training_curves(read_log(log))] if log.is_file() else []
    content = {
        "title": f"Training of {run.resolve().name}",
        "cautions": cautions({"": manifest.get("trained_on")}),
        "told": _told(manifest),
        "curves": curves,
        "pictures": list(_pictures(run / "figures")),
        "found": list(_found(run, manifest)),
        "found_columns": _FOUND,
        "settings": list(_flat(settings)),
        "provenance": facts(_facts(manifest), command),
    }
    write_document(path, "run.html", Viewer(), content)
    return path


def _told(manifest: Json) -> str:
    split = manifest.get("split", {})
    counts = ", ".join(f"{counted(people) or 0} {name}" for name, people in split.items())
    return (
        f"Method {manifest.get('method')}, prior {manifest.get('prior')}, grid {manifest.get('grid')}; tracers: "
        f"{', '.join(manifest.get('tracers', {}))}. Participants: {counts}."
    )


def _pictures(folder: Path) -> Iterator[Picture]:
    """Of each tracer the picture of the first and of the last validation."""
    by_tracer: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("tracer-*_step-*.png")):
        if match := _PICTURE.fullmatch(path.name):
            by_tracer.setdefault(match[1], []).append(path)
    for tracer, paths in by_tracer.items():
        for path in dict.fromkeys((paths[0], paths[-1])):
            step = int(path.stem.rpartition("-")[2])
            yield file_picture(path, f"Validation of {tracer} after step {step}")


def _found(run: Path, manifest: Json) -> Iterator[tuple[str, list[float]]]:
    """Adjustment and calibration of each tracer, as far as the run has them."""
    adjustment, calibration = run / "adjustment.json", run / "calibration.json"
    adjusted = read_json(adjustment) if adjustment.is_file() else {}
    calibrated = load_calibration(calibration) if calibration.is_file() else None
    for tracer in manifest.get("tracers", {}):
        numbers = _mapping(adjusted.get(tracer))
        width, count = _intervals(calibrated, tracer)
        if numbers or count:
            yield tracer, [_number(numbers.get("trust")), _number(numbers.get("spread")), width, count]


def _intervals(calibrated: Calibration | None, tracer: str) -> tuple[float, float]:
    """Median half-width of the VOIs' intervals at the highest level that has ends, SUVr, and participants."""
    vois = {} if calibrated is None else calibrated.vois.get(tracer, {})
    level = None if calibrated is None else calibrated.best_level()
    if not vois or level is None:
        return math.nan, max((float(voi.n) for voi in vois.values()), default=0.0)
    widths = [width for voi in vois.values() if (width := voi.half_width[f"{level:g}"]) is not None]
    return median(widths), float(max(voi.n for voi in vois.values()))


def _mapping(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _facts(manifest: Json) -> dict[str, object]:
    checksums = manifest.get("checksums")
    return {
        "Begun": manifest.get("created"),
        "Versions": manifest.get("versions"),
        "Revision of the source": manifest.get("git_revision"),
        "Seeds": manifest.get("seeds"),
        "Origin of the weights": manifest.get("origin"),
        "Files trained or validated on": counted(checksums),
        "SHA-256 of these files' SHA-256": _digest(checksums),
        "Left out": manifest.get("left_out") or None,
        "Settings changed on going on": [
            f"{change.get('setting')}: {plainly(change.get('before'))} to {plainly(change.get('after'))}"
            for change in manifest.get("changes", [])
        ]
        or None,
    }


def _digest(checksums: object) -> str | None:
    """One checksum of all that was learned from: of the files' own, sorted, one after another."""
    if not isinstance(checksums, dict) or not checksums:
        return None
    return hashlib.sha256("".join(sorted(map(str, checksums.values()))).encode()).hexdigest()


def _flat(settings: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", plainly(value)
