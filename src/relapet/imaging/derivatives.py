"""Finding a visit's images under the names of relapet and of other pipelines (fMRIPrep, sMRIPrep, PETPrep).

Names: BIDS-Derivatives 1.10, and the outputs that sMRIPrep, fMRIPrep and PETPrep document: T1w and brain mask in
each MNI space, both on the T1w's own grid without ``space-``, transforms ``from-T1w_to-<space>``, and PET as frames,
``space-<space>_desc-preproc_pet``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from relapet.errors import InputError, SubjectError
from relapet.files import read_json
from relapet.imaging.bids import NATIVE_SPACE, Visit, VisitFiles, index_derivative, sidecar_path
from relapet.imaging.grid import SPACE
from relapet.tracers import TracerSpec, get_tracer

_CLOSEST = (SPACE, "MNI152NLin2009", "MNI152NLin6", "MNI152", "MNI")
"""Beginnings of the labels of MNI spaces, those closest to relapet's own first."""


@dataclass(frozen=True)
class MniImages:
    """The MRI of one visit in an MNI space; what is missing is None."""

    visit: Visit
    space: str
    t1w: Path | None
    flair: Path | None
    mask: Path | None


@dataclass(frozen=True)
class WayBack:
    """What leads from an MNI space to a visit's own T1w."""

    t1w: Path
    """The T1w on its own grid."""
    mask: Path
    """Brain mask on that grid."""
    transform: Path
    """Brings images in the MNI space onto the T1w."""


def entities(path: Path) -> dict[str, str]:
    """The entities of a BIDS file name, and its suffix under ``suffix``."""
    *pairs, suffix = path.name.split(".")[0].split("_")
    return {**dict(pair.split("-", 1) for pair in pairs if "-" in pair), "suffix": suffix}


def find_mni_images(root: Path, visit: Visit) -> MniImages:
    """Find a visit's T1w, FLAIR and brain mask in an MNI space, relapet's own space first.

    Takes any desc-, and the subject's own anat folder where a session has none (fMRIPrep writes one T1w of all
    sessions there). Where there are several resolutions (res-), the images of the first that has any belong
    together. Raises SubjectError where there is none.
    """
    by_space: dict[tuple[str, str], dict[str, Path]] = {}
    for path in _anat_images(root, visit):
        name = entities(path)
        space, suffix = name.get("space", ""), name["suffix"]
        if not space.startswith("MNI") or suffix not in ("T1w", "FLAIR", "mask"):
            continue
        if suffix == "mask" and name.get("desc") != "brain":
            continue
        found = by_space.setdefault((space, name.get("res", "")), {})
        # relapet's own names win over another desc- in the same space
        if suffix not in found or path in (visit.t1w(root), visit.flair(root)):
            found[suffix] = path
    spaces = sorted((key for key, found in by_space.items() if {"T1w", "FLAIR"} & set(found)), key=_distance)
    if not spaces:
        raise SubjectError(
            f"{visit.folder(root, 'anat')} holds no T1w or FLAIR in an MNI space (space-MNI...); run relapet "
            "preprocess first."
        )
    found = by_space[spaces[0]]
    return MniImages(visit, spaces[0][0], found.get("T1w"), found.get("FLAIR"), found.get("mask"))


def index_measured(root: Path) -> list[VisitFiles]:
    """`index_derivative`, and for what a visit lacks under relapet's names the images of other pipelines.

    Raises InputError for two PET images of one tracer and visit.
    """
    return [_completed(root, files) for files in index_derivative(root)]


def _completed(root: Path, files: VisitFiles) -> VisitFiles:
    files = replace(files, pet={**find_foreign_pet(root, files.visit), **files.pet})
    if files.t1w is not None or files.flair is not None:
        return files
    try:
        found = find_mni_images(root, files.visit)
    except SubjectError:
        return files
    return replace(files, t1w=found.t1w, flair=found.flair, mask=found.mask, space=found.space, foreign=True)


def find_foreign_pet(root: Path, visit: Visit) -> dict[str, Path]:
    """Tracer name to another pipeline's PET: an SUVR map before frames, MNI space before that of the T1w.

    The tracer is that of the entity trc-, or TracerName of the sidecar. Raises InputError for two of one kind.
    """
    ranked: dict[str, dict[tuple[int, tuple[int, str, str]], list[Path]]] = {}
    for path in sorted(visit.folder(root, "pet").glob(f"{visit.stem}_*.nii*")):
        name = entities(path)
        space, suvr = name.get("space", ""), name["suffix"] == "mimap" and name.get("meas") == "SUVR"
        if not (suvr or name["suffix"] == "pet") or name.get("desc", "preproc") != "preproc":
            continue
        tracer = _tracer_of(path) if space.startswith("MNI") or space == NATIVE_SPACE else None
        if tracer is not None:
            rank = (0 if suvr else 1, _distance((space, name.get("res", ""))))
            ranked.setdefault(tracer.name, {}).setdefault(rank, []).append(path)
    chosen = {}
    for tracer_name, kinds in ranked.items():
        paths = kinds[min(kinds)]
        if len(paths) > 1:
            names = ", ".join(path.name for path in paths)
            raise InputError(f"{paths[0].parent} holds several {tracer_name} images ({names}); leave one.")
        chosen[tracer_name] = paths[0]
    return chosen


def _tracer_of(path: Path) -> TracerSpec | None:
    stated = entities(path).get("trc")
    sidecar = sidecar_path(path)
    if stated is None and sidecar.is_file():
        stated = str(read_json(sidecar).get("TracerName", ""))
    try:
        return get_tracer(stated or "")
    except InputError:
        return None  # a tracer that relapet does not know is none of the measured ones


def find_transform_to_mni(root: Path, visit: Visit) -> Path:
    """The transform of the visit's T1w into the MNI space closest to relapet's; SubjectError where there is none."""
    found = {
        (entities(path)["to"], ""): path
        for path in _anat_images(root, visit, "_xfm.h5")
        if entities(path).get("from") == "T1w" and entities(path).get("to", "").startswith("MNI")
    }
    if not found:
        lacking = visit.transform(root, "T1w", "MNI...", ".h5")
        raise SubjectError(
            f"{lacking.parent} has no transform {lacking.name}, which PET in the T1w's space "
            "needs; add it, or write the PET in an MNI space."
        )
    return found[min(found, key=_distance)]


def find_way_back(root: Path, visit: Visit, space: str = SPACE) -> WayBack:
    """Find what leads from an MNI space back to the visit's own T1w; raises SubjectError where a part is missing."""
    transform = _only(root, visit, ".h5", suffix="xfm", to="T1w", **{"from": space})
    t1w = _only(root, visit, ".nii.gz", suffix="T1w", desc="preproc", space=None)
    mask = _only(root, visit, ".nii.gz", suffix="mask", desc="brain", space=None)
    wanted = {
        visit.transform(root, space, "T1w", ".h5").name: transform,
        visit.t1w(root, None).name: t1w,
        visit.mask(root, None).name: mask,
    }
    missing = [name for name, path in wanted.items() if path is None]
    if transform is None or t1w is None or mask is None:
        raise SubjectError(
            f"{visit.folder(root, 'anat')} has no {missing[0]}, so {visit.stem} has no way back to its own T1w; run "
            "relapet preprocess on its raw scans, or leave native out of --output-space."
        )
    return WayBack(t1w, mask, transform)


def _anat_images(root: Path, visit: Visit, ending: str = "") -> Iterator[Path]:
    """Files of the visit's anat folder, or of the subject's where the session has no file at all."""
    whole = Visit(visit.subject)
    for place in dict.fromkeys((visit, whole)):
        paths = sorted(place.folder(root, "anat").glob(f"{place.stem}_*{ending or '.nii*'}"))
        if paths:
            yield from paths
            return


def _only(root: Path, visit: Visit, ending: str, **wanted: str | None) -> Path | None:
    """The one file with these entities; None where there is none, SubjectError for several."""
    found = [
        path
        for path in _anat_images(root, visit, ending)
        if all(entities(path).get(key) == value for key, value in wanted.items())
    ]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise SubjectError(f"{found[0].parent} holds {names}; leave one of them and move the others out.")
    return found[0] if found else None


def _distance(key: tuple[str, str]) -> tuple[int, str, str]:
    space, resolution = key
    near = (i for i, start in enumerate(_CLOSEST) if space.startswith(start))
    return next(near, len(_CLOSEST)), space, resolution
