"""One visit from raw to model-ready: the MRI, then each tracer's PET, pictures, sidecars and provenance."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from relapet.errors import SubjectError
from relapet.imaging.bids import sidecar_path, write_image
from relapet.imaging.checks import open_scan
from relapet.imaging.frames import Frames, choose_frames, load_frames, read_sidecar, unit_of
from relapet.imaging.grid import SPACE
from relapet.imaging.nifti import load_volume
from relapet.imaging.reference_region import reference_mean
from relapet.imaging.template import load_template
from relapet.imaging.transforms import Step
from relapet.preprocessing.image_settings import ImageSettings
from relapet.preprocessing.mri import Mri, process_mri
from relapet.preprocessing.names import Names
from relapet.preprocessing.pet import (
    MovingPet,
    correct_motion,
    reference_region,
    register_to_t1w,
    smooth_to,
)
from relapet.preprocessing.provenance import write_provenance
from relapet.preprocessing.qc import draw_outlines, draw_overlay
from relapet.preprocessing.raw import RawVisit
from relapet.preprocessing.steps import VisitLog
from relapet.tracers import TracerSpec, get_tracer, load_tracers
from relapet.types import Json, Volume

_FLUID = 0.6
"""Below this multiple of white matter's median a T1w shows fluid."""


@dataclass(frozen=True)
class VisitResult:
    """What came of one visit; ``problems`` are sentences, empty where all is written."""

    visit: str
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    unchanged: bool = False


def process_visit(raw: RawVisit, names: Names, settings: ImageSettings, log: VisitLog) -> VisitResult:
    """Make one visit model-ready; a PET that fails is told and the others go on.

    Raises SubjectError where the MRI itself cannot be used.
    """
    started = time.monotonic()
    # A record of an earlier run must not vouch for files that are being replaced.
    names.provenance.unlink(missing_ok=True)
    mri = process_mri(raw, names, settings.grid, settings.syn_iterations, log)
    _draw_mri(mri, names, settings)
    problems = list(raw.problems)
    details: Json = {"Measures": mri.measures, "Pet": {}}
    for tracer, path in raw.pet:
        try:
            details["Pet"][tracer.name] = _pet(tracer, path, raw, names, mri, (settings, log))
        except SubjectError as error:
            problems.append(str(error))
    removed = _remove_stale(raw, names, set(details["Pet"]))
    if not problems:
        details["Seconds"] = round(time.monotonic() - started, 1)
        write_provenance(names, raw, settings, _outputs(raw, names), details)
    log.say("done" if not problems else "done, with failures")
    return VisitResult(raw.visit.stem, tuple(problems), (*mri.warnings, *removed))


def _outputs(raw: RawVisit, names: Names) -> list[Path]:
    visit, root = raw.visit, names.root
    paths = [
        names.native_t1w,
        names.native_mask,
        names.warp.forward,
        names.warp.inverse,
        visit.t1w(root),
        visit.mask(root),
    ]
    if raw.flair is not None:
        paths += [visit.flair(root), names.flair_to_t1w]
    for tracer, _ in raw.pet:
        paths += [visit.pet(root, tracer)]
    return paths


def _remove_stale(raw: RawVisit, names: Names, made: Collection[str]) -> list[str]:
    """Delete what an earlier run made of raw images that are gone or cannot be used now; a sentence for each.

    ``made``: names of the tracers that this run made maps of.
    """
    visit, root = raw.visit, names.root
    stale = {
        t.name: [visit.pet(root, t), names.pet_to_t1w(t), names.picture(f"4pet{t.label}")]
        for t in load_tracers().values()
        if t.name not in made
    }
    if raw.flair is None:
        stale["FLAIR"] = [visit.flair(root), names.flair_to_t1w, names.picture("3flair")]
    told = []
    for what, paths in stale.items():
        if paths[0].is_file():
            told.append(
                f"{visit.stem}: {paths[0]} of an earlier run was removed, for the raw data give no {what}."
            )
        for path in (*paths, sidecar_path(paths[0])):
            path.unlink(missing_ok=True)
        if what != "FLAIR":
            shutil.rmtree(names.motion(get_tracer(what)), ignore_errors=True)
    return told


def _draw_mri(mri: Mri, names: Names, settings: ImageSettings) -> None:
    native, mask = load_volume(names.native_t1w), load_volume(names.native_mask)
    draw_outlines(native, [np.asarray(mask.dataobj) > 0.5], names.picture("1mask"), "Brain mask on the T1w")
    template = load_template(settings.grid)
    edges = [mri.brain & (template.white > 0.5), template.brain]
    affine = settings.grid.affine
    draw_outlines(
        nib.Nifti1Image(mri.t1w_ready, affine), edges, names.picture("2template"),
        "T1w in template space; template's white matter (red) and brain (blue)",
    )  # fmt: skip
    if mri.flair_ready is not None:
        fluid = np.asarray((mri.t1w_ready < _FLUID) & mri.brain)
        draw_outlines(
            nib.Nifti1Image(mri.flair_ready, affine), [mri.brain, fluid], names.picture("3flair"),
            "FLAIR in template space; the T1w's brain (red) and fluid (blue)",
        )  # fmt: skip


def _frames(tracer: TracerSpec, path: Path) -> tuple[str, Frames | None, Json]:
    """Unit, chosen frames (None: one SUVr image without times) and sidecar of a raw PET."""
    sidecar = read_sidecar(path)
    unit = unit_of(sidecar, path)
    shape = open_scan(path).shape
    count = shape[3] if len(shape) == 4 else 1
    if unit == "SUVR" and count == 1 and "FrameTimesStart" not in sidecar:
        return unit, None, sidecar
    return unit, choose_frames(sidecar, path, count, tracer), sidecar


def _pet(
    tracer: TracerSpec, path: Path, raw: RawVisit, names: Names, mri: Mri, how: tuple[ImageSettings, VisitLog]
) -> Json:
    """Make one tracer's SUVr map in template space; returns what was done."""
    settings, log = how
    log.begin(f"registering the {tracer.name} PET (trc-{tracer.label})")
    unit, chosen, _ = _frames(tracer, path)
    index = (0,) if chosen is None else chosen.index
    weights = (1.0,) if chosen is None else chosen.weight
    frames = load_frames(path, index)
    if settings.fwhm_mm is not None and settings.scanner_fwhm_mm is not None:
        frames = smooth_to(frames, settings.scanner_fwhm_mm, settings.fwhm_mm)
    names.pet_to_t1w(tracer).parent.mkdir(parents=True, exist_ok=True)
    pet = correct_motion(frames, weights, names.motion(tracer))
    log.say(f"{tracer.name}: {len(frames)} frames, unit {unit}")
    transform = register_to_t1w(pet, mri.t1w, mri.region, names.pet_to_t1w(tracer))
    in_t1w = pet.onto(mri.t1w.shape, mri.t1w.affine, [Step(transform)])
    mean = 1.0
    if unit != "SUVR":
        region = reference_region(tracer, mri.t1w.shape, mri.t1w.affine, names.warp.inverse)
        mean = reference_mean(in_t1w, region, tracer, str(path))
    log.say(f"{tracer.name}: reference mean {mean:.4g} {unit}")
    record: Json = {
        "SourceUnits": unit,
        "ReferenceRegion": tracer.reference_region.name if unit != "SUVR" else "as in the input",
        "ReferenceMean": mean,
        "Frames": list(index),
        "FwhmMm": settings.fwhm_mm,
    }
    if chosen is not None:
        record |= {
            "StartMinutes": chosen.start_minutes,
            "EndMinutes": chosen.end_minutes,
            "WindowCovered": round(chosen.covered, 4),
        }
    suvr = _in_template(pet, transform, names, settings) / np.float32(mean)
    head = {"Measure": "SUVR", "Units": "unitless", "TracerName": tracer.ligand, "Space": SPACE}
    sidecar = {**head, **record, "Sources": [raw.uri(path)]}
    write_image(names.visit.pet(names.root, tracer), suvr, settings.grid.affine, sidecar)
    draw_overlay(
        mri.t1w, in_t1w / mean, tracer.display_window, mri.own_brain, names.picture(f"4pet{tracer.label}"),
        f"{tracer.name}, SUVr, over the T1w",
    )  # fmt: skip
    return record


def _in_template(pet: MovingPet, transform: Path, names: Names, settings: ImageSettings) -> Volume:
    grid = settings.grid
    return pet.onto(grid.shape, grid.affine, [Step(transform), Step(names.warp.forward)])
