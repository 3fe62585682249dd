"""The BIDS side: names of model-ready files, indexing a derivative tree, dataset descriptions.

A scan is a value: `Scan(subject, session)` names a visit, and the functions below turn it into the paths
that every stage reads and writes, so that no other module spells a file name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import relapet
from relapet.errors import InputError
from relapet.files import write_json, write_text
from relapet.imaging.grid import SPACE
from relapet.tracers import TracerSpec, load_tracers

BIDS_VERSION = "1.10.0"
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

    def t1w(self, root: Path) -> Path:
        """Model-ready T1w."""
        return self.folder(root, "anat") / f"{self.stem}_space-{SPACE}_desc-preproc_T1w.nii.gz"

    def flair(self, root: Path) -> Path:
        """Model-ready T2-FLAIR."""
        return self.folder(root, "anat") / f"{self.stem}_space-{SPACE}_desc-preproc_FLAIR.nii.gz"

    def mask(self, root: Path, space: str = SPACE) -> Path:
        """Brain mask."""
        return self.folder(root, "anat") / f"{self.stem}_space-{space}_desc-brain_mask.nii.gz"

    def pet(self, root: Path, tracer: TracerSpec, desc: str | None = None, space: str = SPACE) -> Path:
        """SUVr map of a tracer; ``desc`` is None for a measured one, ``synth`` for a synthetic mean."""
        described = f"_desc-{desc}" if desc else ""
        name = f"{self.stem}_trc-{tracer.label}_space-{space}_meas-SUVR{described}_mimap.nii.gz"
        return self.folder(root, "pet") / name

    def voi_table(self, root: Path, tracer: TracerSpec, desc: str, space: str = SPACE) -> Path:
        """Table of mean SUVr per Desikan-Killiany VOI of a synthetic map."""
        name = f"{self.stem}_trc-{tracer.label}_space-{space}_meas-SUVR_seg-DK_desc-{desc}_suvr.tsv"
        return self.folder(root, "pet") / name


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


_VISIT_FOLDERS = re.compile(r"^sub-([A-Za-z0-9]+)(?:/ses-([A-Za-z0-9]+))?$")


def find_visits(root: Path) -> list[Visit]:
    """Every subject and session of a BIDS tree, sorted; raises InputError where there is none."""
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"The folder {root} does not exist; check the path.")
    visits = []
    for subject in sorted(path for path in root.glob("sub-*") if path.is_dir()):
        sessions = sorted(path for path in subject.glob("ses-*") if path.is_dir())
        for folder in sessions or [subject]:
            match = _VISIT_FOLDERS.match(folder.relative_to(root).as_posix())
            if match:
                visits.append(Visit(match[1], match[2]))
    if not visits:
        raise InputError(f"{root} holds no sub-* folder; give the root of a BIDS data set or derivative.")
    return visits


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
    return Path(root) / stem / "pet" / f"{stem}_trc-{tracer.label}_meas-SUVR_desc-trainingmean_mimap.nii.gz"


def write_dataset_description(root: Path, name: str, sources: list[str], **extra: Any) -> None:
    """Write dataset_description.json and .bidsignore of a derivative that relapet made."""
    write_text(Path(root) / ".bidsignore", "\n".join(_BEYOND_BIDS) + "\n")
    write_json(
        Path(root) / "dataset_description.json",
        {
            "Name": name,
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "relapet", "Version": relapet.__version__}],
            "SourceDatasets": [{"URL": source} for source in sources],
            **extra,
        },
    )
