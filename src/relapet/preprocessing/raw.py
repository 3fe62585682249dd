"""What a raw BIDS data set holds of one visit: one T1w, one FLAIR, and a PET of each tracer."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from relapet.errors import InputError, SubjectError
from relapet.imaging.bids import Visit, sidecar_path
from relapet.imaging.nifti import printable
from relapet.tracers import TracerSpec, get_tracer


@dataclass(frozen=True)
class RawVisit:
    """The raw files of one visit, and what is wrong with those that cannot be used."""

    visit: Visit
    root: Path
    """The raw data set."""
    t1w: Path
    flair: Path | None = None
    pet: tuple[tuple[TracerSpec, Path], ...] = ()
    problems: tuple[str, ...] = field(default=())
    """A sentence for each PET that cannot be used."""

    def files(self) -> list[Path]:
        """Every file that the result depends on: images, and the sidecars of PET."""
        images = [self.t1w, *([self.flair] if self.flair else []), *(path for _, path in self.pet)]
        sidecars = [sidecar_path(path) for _, path in self.pet]
        return images + [path for path in sidecars if path.is_file()]

    def uri(self, path: Path) -> str:
        """BIDS URI of a raw file; dataset_description.json says where "raw" lies."""
        return f"bids:raw:{path.relative_to(self.root).as_posix()}"


def find_raw(root: Path, visit: Visit) -> RawVisit:
    """Find a visit's raw images; raises SubjectError for no T1w and for two of a kind."""
    anat = visit.folder(root, "anat")
    t1w = _only(anat, "T1w")
    if t1w is None:
        raise SubjectError(f"{anat} holds no {visit.stem}_..._T1w.nii.gz; add it or exclude the subject.")
    chosen: dict[str, tuple[TracerSpec, Path]] = {}
    problems: list[str] = []
    for path in _images(visit.folder(root, "pet"), "pet"):
        match = re.search(r"_trc-([A-Za-z0-9]+)", path.name)
        if match is None:
            problems.append(f"{path} names no tracer; add the entity trc- to its name (for example trc-PIB).")
            continue
        try:
            tracer = get_tracer(match[1])
        except InputError as error:
            problems.append(f"{path}: {error}")
            continue
        if tracer.name in chosen:
            problems.append(f"{path} is a second {tracer.name} scan of the session; move one of the two out.")
            continue
        chosen[tracer.name] = (tracer, path)
    return RawVisit(visit, root, t1w, _only(anat, "FLAIR"), tuple(chosen.values()), tuple(problems))


def _images(folder: Path, suffix: str) -> list[Path]:
    found = sorted(
        path for path in folder.glob(f"*_{suffix}.nii*") if path.name.endswith((".nii", ".nii.gz"))
    )
    for path in found:
        if printable(Path(path.name)) != path.name:  # no sidecar, log or page could name it
            raise SubjectError(f"{printable(path)} has a name that is not UTF-8; rename it.")
    return found


def _only(folder: Path, suffix: str) -> Path | None:
    found = _images(folder, suffix)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise SubjectError(
            f"{folder} holds {len(found)} {suffix} images ({names}); leave one and move the others out."
        )
    return found[0] if found else None
