"""The BIDS side: spells the file names of images, tables and sidecars, chooses visits, and writes images and tables.

A visit is a value: ``Visit(subject, session)`` gives the path of each of its files under a root, `find_visits` and
`index_derivative` tell what a tree holds, and `write_image`, `write_table` and `write_dataset_description` write what
belongs together: an image or a table with its JSON sidecar, a data set with its description.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import pandas as pd

from relapet.errors import InputError
from relapet.files import atomic_path, require_folder, write_json, write_text
from relapet.imaging.grid import SPACE
from relapet.imaging.nifti import printable, save_frames, save_volume
from relapet.settings import meant
from relapet.tracers import TracerSpec, load_tracers
from relapet.types import Affine, Json
from relapet.version import VERSION

BIDS_VERSION = "1.10.0"
DESCRIPTION = "dataset_description.json"
_BEYOND_BIDS = (
    "*_mimap.*",
    "*_suvr.*",
    "*_xfm*",
    "tpl-*",
    "truth",
    "latents.*",
    "*_desc-templatemm_map.nii.gz",
    "*_desc-positions.json",
    "figures",
    "logs",
    "*.html",
)
"""What relapet's derivatives hold beyond the published standard, as patterns for .bidsignore.

Names of PET maps and of transforms follow the proposals for PET derivatives (BEP 23) and for transforms (BEP 14),
which the validator does not know yet.
"""
NATIVE_SPACE = "T1w"
"""Label of a visit's own space: that of its T1w, as fMRIPrep and PETPrep call it."""
_ENTITIES = ("trc", "from", "to", "mode", "space", "label", "meas", "seg", "desc")
"""Entities after sub- and ses-, in the order in which a file name holds them."""
_NAMED = 5
"""How many of those that are there a message names."""


def _name(stem: str, suffix: str, ending: str, entities: dict[str, str | None]) -> str:
    pairs = [f"{key}-{entities[key]}" for key in _ENTITIES if entities.get(key) is not None]
    return "_".join([stem, *pairs, *([suffix] if suffix else [])]) + ending


@dataclass(frozen=True, order=True)
class Visit:
    """One subject at one session; labels without the sub- and ses- prefixes."""

    subject: str
    session: str | None = None

    @property
    def stem(self) -> str:
        """Leading entities of every file name, ``sub-01`` or ``sub-01_ses-x``."""
        return f"sub-{self.subject}" + (f"_ses-{self.session}" if self.session else "")

    def folder(self, root: Path, datatype: str) -> Path:
        """Folder of a datatype (anat, pet) under ``root``."""
        subject = Path(root) / f"sub-{self.subject}"
        return (subject / f"ses-{self.session}" if self.session else subject) / datatype

    def path(
        self, root: Path, datatype: str, suffix: str, ending: str = ".nii.gz", **entities: str | None
    ) -> Path:
        """Any file of the visit: its entities (None is left out) in BIDS order, its suffix and its ending."""
        return self.folder(root, datatype) / _name(self.stem, suffix, ending, entities)

    def t1w(self, root: Path, space: str | None = SPACE) -> Path:
        """Preprocessed T1w: model-ready, or on its own grid where ``space`` is None."""
        return self.path(root, "anat", "T1w", space=space, desc="preproc")

    def flair(self, root: Path) -> Path:
        """Model-ready T2-FLAIR."""
        return self.path(root, "anat", "FLAIR", space=SPACE, desc="preproc")

    def mask(self, root: Path, space: str | None = SPACE) -> Path:
        """Brain mask; on the T1w's own grid, without space-, where ``space`` is None."""
        return self.path(root, "anat", "mask", space=space, desc="brain")

    def pet(self, root: Path, tracer: TracerSpec, desc: str | None = None, space: str | None = SPACE) -> Path:
        """SUVr map of a tracer; ``desc`` is None for a measured one, ``synth`` for a synthetic mean."""
        return self.path(root, "pet", "mimap", trc=tracer.label, space=space, meas="SUVR", desc=desc)

    def voi_table(self, root: Path, tracer: TracerSpec, desc: str, space: str = SPACE) -> Path:
        """Table of mean SUVr per Desikan-Killiany VOI of a synthetic map."""
        named = {"trc": tracer.label, "space": space, "meas": "SUVR", "seg": "DK", "desc": desc}
        return self.path(root, "pet", "suvr", ".tsv", **named)

    def made_of(self, root: Path, tracer: TracerSpec, desc: str) -> list[Path]:
        """Every file that is there of a tracer's synthetic map or table ``desc``, in any space."""
        return sorted(self.folder(root, "pet").glob(f"{self.stem}_trc-{tracer.label}_*_desc-{desc}_*"))

    def transform(
        self, root: Path, source: str, target: str, ending: str, tracer: TracerSpec | None = None
    ) -> Path:
        """Transform of images in ``source`` to ``target``; in the pet folder where it is of a tracer's scan."""
        named = {"trc": tracer.label if tracer else None, "from": source, "to": target, "mode": "image"}
        return self.path(root, "pet" if tracer else "anat", "xfm", ending, **named)


@dataclass(frozen=True)
class VisitFiles:
    """What a derivative tree holds of one visit; a modality that is missing is None or absent."""

    visit: Visit
    t1w: Path | None = None
    flair: Path | None = None
    mask: Path | None = None
    pet: dict[str, Path] = field(default_factory=dict)
    """Tracer name to measured or synthetic SUVr map."""
    space: str = SPACE
    """Space of the MRI."""
    foreign: bool = False
    """Whether the MRI is another pipeline's, to be masked and resampled first."""


_VISIT_FOLDERS = re.compile(r"^sub-([A-Za-z0-9]+)(?:/ses-([A-Za-z0-9]+))?\Z")


def find_visits(root: Path) -> list[Visit]:
    """Every subject and session of a BIDS tree, sorted.

    Raises InputError where there is none, and for a folder sub-* or ses-* that could not be read as one: left out
    without a word, its images would be missed by nobody.
    """
    root = require_folder(Path(root))
    visits = []
    for subject in _folders(root, "sub-*"):
        sessions = _folders(subject, "ses-*")
        for folder in sessions or [subject]:
            match = _VISIT_FOLDERS.match(folder.relative_to(root).as_posix())
            if match is None:
                raise InputError(
                    f"{printable(folder)} has a name that BIDS does not know (sub-LABEL, ses-LABEL with letters and "
                    "digits alone); rename it or move it out."
                )
            visits.append(Visit(match[1], match[2]))
    if not visits:
        raise InputError(f"{root} holds no sub-* folder; give the root of a BIDS data set or derivative.")
    return visits


def _folders(above: Path, pattern: str) -> list[Path]:
    found = sorted(above.glob(pattern))
    if lost := [path for path in found if path.is_symlink() and not path.exists()]:
        raise InputError(f"{printable(lost[0])} is a link to what is not there; mend the link or remove it.")
    return [path for path in found if path.is_dir()]


def choose_visits(
    visits: Sequence[Visit],
    participants: Iterable[str] | None,
    source: Path,
    sessions: Iterable[str] | None = None,
) -> list[Visit]:
    """The visits of the named participants and sessions (None is all), labels with or without ``sub-``, ``ses-``.

    Raises InputError, naming those that ``source`` has, for a label that is not there, and where none is left.
    """
    chosen = list(visits)
    if participants is not None:
        subjects = _chosen_labels(
            participants, "sub-", {v.subject for v in visits}, f"{source} has no participant"
        )
        chosen = [visit for visit in chosen if visit.subject in subjects]
    if sessions is not None:
        there = {visit.session for visit in chosen if visit.session is not None}
        of = " of these participants" if participants is not None else ""
        labels = _chosen_labels(sessions, "ses-", there, f"{source} has no session", of)
        chosen = [visit for visit in chosen if visit.session in labels]
    return chosen


def _chosen_labels(labels: Iterable[str], prefix: str, there: set[str], lack: str, of: str = "") -> set[str]:
    wanted = {label.removeprefix(prefix) for label in labels}
    absent = sorted(wanted - there)
    if absent or not wanted:
        named = ", ".join(sorted(there)[:_NAMED]) or "none"
        more = f" and {len(there) - _NAMED} more" if len(there) > _NAMED else ""
        what = ", ".join(absent) or "among an empty list"
        near = meant(absent[0], there) if absent else ""
        raise InputError(f"{lack} {what}{of}; it has {named}{more}{near}.")
    return wanted


def index_derivative(root: Path, desc: str | None = None) -> list[VisitFiles]:
    """The model-ready files of every visit under ``root``; ``desc`` as in `Visit.pet`."""

    def existing(path: Path) -> Path | None:
        return path if path.is_file() else None

    tracers = load_tracers().values()
    return [
        VisitFiles(
            visit,
            existing(visit.t1w(root)),
            existing(visit.flair(root)),
            existing(visit.mask(root)),
            {t.name: path for t in tracers if (path := visit.pet(root, t, desc)).is_file()},
        )
        for visit in find_visits(root)
    ]


def training_mean_path(root: Path, tracer: TracerSpec) -> Path:
    """Where a synthetic tree keeps the mean SUVr map of the model's training subjects."""
    stem = f"tpl-{SPACE}"
    named: dict[str, str | None] = {"trc": tracer.label, "meas": "SUVR", "desc": "trainingmean"}
    return Path(root) / stem / "pet" / _name(stem, "mimap", ".nii.gz", named)


def sidecar_path(path: Path) -> Path:
    """The JSON file beside an image or a table."""
    stem = path.name
    for ending in (".gz", ".nii", ".tsv"):
        stem = stem.removesuffix(ending)
    return path.with_name(stem + ".json")


def write_image(
    path: Path,
    data: npt.NDArray[Any],
    affine: Affine,
    sidecar: Json | None,
    description: str = "",
    code: int = 4,
) -> None:
    """Write a volume and its sidecar (None: none): real numbers as float32, masks as uint8, labels as they are.

    ``description`` goes into the header; ``code`` as in `save_volume`.
    """
    kinds: dict[str, Any] = {"f": np.float32, "b": np.uint8}
    save_volume(path, data, affine, kinds.get(data.dtype.kind, data.dtype), description, code)
    if sidecar is not None:
        write_json(sidecar_path(path), sidecar)


def write_frames(path: Path, data: npt.NDArray[Any], affine: Affine, seconds: float, sidecar: Json) -> None:
    """Write frames ``(X, Y, Z, N)`` of ``seconds`` each, in scanner mm, and their sidecar."""
    save_frames(path, data, affine, seconds)
    write_json(sidecar_path(path), sidecar)


def write_table(
    path: Path, table: pd.DataFrame, columns: Json | None = None, float_format: str | None = None
) -> None:
    """Write a table of tabs, ``n/a`` where a value is missing, and the description of its columns beside it."""
    with atomic_path(path) as temporary:
        table.to_csv(
            temporary, sep="\t", index=False, na_rep="n/a", float_format=float_format, lineterminator="\n"
        )
    if columns:
        write_json(sidecar_path(path), columns)


def write_dataset_description(root: Path, name: str, links: Mapping[str, Path], **extra: Any) -> None:
    """Write dataset_description.json and .bidsignore of a derivative that relapet made.

    ``links``: the data sets that it was made from, by their names in BIDS URIs (``bids:NAME:sub-01/...``). They are
    told relative to ``root``, for the path of a user's data is nobody else's business.
    """
    write_text(Path(root) / ".bidsignore", "\n".join(_BEYOND_BIDS) + "\n")
    made_by = {"Name": "relapet", "Version": VERSION}
    more: Json = {"GeneratedBy": [made_by], "SourceDatasets": [{"URL": f"bids:{link}:"} for link in links]}
    if links:
        more["DatasetLinks"] = {link: _relative(Path(folder), root) for link, folder in dict(links).items()}
    _describe(root, name, "derivative", {**more, **extra})


def write_raw_description(root: Path, name: str, note: str, **extra: Any) -> None:
    """Write dataset_description.json of a raw data set that relapet simulated; ``note`` says so."""
    made_by = {"Name": "relapet", "Version": VERSION, "Description": note}
    more = {"License": "CC0", "Authors": ["relapet"], "GeneratedBy": [made_by], **extra}
    _describe(root, name, "raw", more)


def _relative(folder: Path, root: Path) -> str:
    return quote(Path(os.path.relpath(folder.resolve(), Path(root).resolve())).as_posix())


def _describe(root: Path, name: str, kind: str, more: Json) -> None:
    head = {"Name": name, "BIDSVersion": BIDS_VERSION, "DatasetType": kind}
    write_json(Path(root) / DESCRIPTION, {**head, **more})
