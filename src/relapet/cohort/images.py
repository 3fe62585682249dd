"""Finding a visit's MRI under the names of relapet and of other pipelines (fMRIPrep, sMRIPrep, PETPrep).

Names: BIDS-Derivatives 1.10, and the outputs that sMRIPrep, fMRIPrep and PETPrep document: T1w and brain mask in
each MNI space, both on the T1w's own grid without ``space-``, and transforms ``from-T1w_to-<space>``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from relapet.cohort.bids import Visit
from relapet.cohort.grid import SPACE
from relapet.errors import SubjectError

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


def find_way_back(root: Path, visit: Visit, space: str = SPACE) -> WayBack:
    """Find what leads from an MNI space back to the visit's own T1w; raises SubjectError where a part is missing."""
    transform = _only(root, visit, ".h5", suffix="xfm", to="T1w", **{"from": space})
    t1w = _only(root, visit, ".nii.gz", suffix="T1w", desc="preproc", space=None)
    mask = _only(root, visit, ".nii.gz", suffix="mask", desc="brain", space=None)
    wanted = {
        f"{visit.stem}_from-{space}_to-T1w_mode-image_xfm.h5": transform,
        f"{visit.stem}_desc-preproc_T1w.nii.gz": t1w,
        f"{visit.stem}_desc-brain_mask.nii.gz": mask,
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
    return next(i for i, start in enumerate(_CLOSEST) if space.startswith(start)), space, resolution
