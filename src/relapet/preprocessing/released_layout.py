"""The flat layout of the published release, ``ID/ID_T1.nii, _T2, _PBR, _PIB, _TAU``, brought to BIDS derivatives.

Layout and grid: public code release of Yu et al. 2026, arXiv:2602.21345 (``_T2`` is the T2-FLAIR). Its volumes
already lie in MNI space, brain-extracted, so they are resampled by their affines alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path

import nibabel as nib
import numpy as np

from relapet.errors import InputError, SubjectError
from relapet.files import prepare_output_folder, refuse_inside, require_empty_or_own
from relapet.imaging.bids import Visit, write_dataset_description, write_image
from relapet.imaging.descriptions import is_made_by_relapet
from relapet.imaging.frames import UNITS
from relapet.imaging.grid import GRIDS, Grid
from relapet.imaging.nifti import load_volume, printable, require_contrast
from relapet.imaging.reference_region import reference_mean, template_reference
from relapet.imaging.resample import resample_to_grid
from relapet.imaging.template import load_atlas
from relapet.imaging.template_space import bring_to_grid
from relapet.messages import Messages, Silent
from relapet.tracers import TracerSpec, get_tracer
from relapet.types import Json

_NAME = "relapet import-layout"
"""Of the derivative, by which its own output folder is known again."""
_MRI = {"T1": "t1w", "T2": "flair"}
_PET = {"PBR": "pbr28", "PIB": "pib", "TAU": "tau"}


@dataclass(frozen=True)
class ImportOutcome:
    """Which folders were imported, under which label, and why the others were not."""

    done: dict[str, str]
    """Folder to participant label."""
    failed: dict[str, str]
    """Folder to reason."""


def import_layout(
    source: Path, out: Path, units: str, grid: Grid = GRIDS["1mm"], messages: Messages | None = None
) -> ImportOutcome:
    """Write a model-ready derivative from the release's flat layout.

    ``units`` is the unit of the PET files, for the layout has no sidecars: SUVR is taken as it is, any other
    (Bq/mL, kBq/mL, SUV) is divided by its mean in the tracer's reference region. Raises InputError where
    ``source`` holds no such folder or ``units`` is unknown.
    """
    unit = UNITS.get(units.lower().replace(" ", ""))
    if unit is None:
        raise InputError(f"--units {units!r} is unknown; give one of SUVR, SUV, Bq/mL or kBq/mL.")
    folders, failed = _folders(Path(source))
    labels = _labels(folders)
    refuse_inside(out, source)
    require_empty_or_own(out, lambda folder: is_made_by_relapet(folder, _NAME), _NAME)
    out = prepare_output_folder(Path(out))
    write_dataset_description(out, _NAME, {"release": Path(source)})
    done: dict[str, str] = {}
    with (messages or Silent()).track("import", len(folders)) as advance:
        for folder in folders:
            try:
                _import_one(folder, Visit(labels[folder.name]), out, unit, grid)
                done[folder.name] = labels[folder.name]
            except SubjectError as error:
                failed[folder.name] = str(error)
            advance(len(done) + len(failed), folder.name)
    return ImportOutcome(done, failed)


def _folders(source: Path) -> tuple[list[Path], dict[str, str]]:
    """The folders of the layout, and why others that hold images are none."""
    if not source.is_dir():
        raise InputError(f"The folder {source} does not exist; check the path.")
    there = sorted(folder for folder in source.iterdir() if folder.is_dir() and any(folder.glob("*.nii*")))
    folders = [folder for folder in there if any(folder.glob(f"{escape(folder.name)}_*.nii*"))]
    others = {
        folder.name: f"{printable(folder)} holds images, but none named {printable(Path(folder.name))}_T1.nii, _T2.nii "
        "...; rename them."
        for folder in there
        if folder not in folders
    }
    if not folders:
        raise InputError(
            f"{source} holds no folder ID with files ID_T1.nii, ID_T2.nii ...; give the folder above the IDs."
        )
    return folders, others


def _labels(folders: Sequence[Path]) -> dict[str, str]:
    """BIDS label of each folder: its name without what BIDS does not allow; raises InputError where two clash."""
    labels: dict[str, str] = {}
    for folder in folders:
        label = re.sub(r"[^A-Za-z0-9]", "", folder.name)
        if not label or label in labels.values():
            raise InputError(
                f"{folder}: the name gives the BIDS label {label!r}, which is empty or taken; rename it."
            )
        labels[folder.name] = label
    return labels


def _find(folder: Path, suffix: str) -> Path | None:
    found = [folder / f"{folder.name}_{suffix}{end}" for end in (".nii", ".nii.gz")]
    found = [path for path in found if path.is_file()]
    if len(found) > 1:
        raise SubjectError(f"{folder} holds {found[0].name} and {found[1].name}; leave one.")
    return found[0] if found else None


def _import_one(folder: Path, visit: Visit, out: Path, unit: str, grid: Grid) -> None:
    paths = {suffix: _find(folder, suffix) for suffix in (*_MRI, *_PET)}
    images = {suffix: load_volume(path) for suffix, path in paths.items() if path is not None}
    for suffix in set(_PET) & set(images):
        require_contrast(np.asarray(images[suffix].dataobj), Path(str(paths[suffix])))
    ready = bring_to_grid(images.get("T1"), images.get("T2"), None, grid, str(folder))
    # No Sources: the original folders' names are often the IDs that BIDS labels are to replace.
    record: Json = {"SkullStripped": True, "Units": "arbitrary"}
    for data, target in ((ready.t1w, visit.t1w(out)), (ready.flair, visit.flair(out))):
        if data is not None:
            write_image(target, np.where(ready.mask, data, 0), grid.affine, record)
    write_image(visit.mask(out), ready.mask, grid.affine, {"Type": "Brain"})
    for suffix, name in _PET.items():
        if suffix in images:
            _write_pet(images[suffix], get_tracer(name), visit, out, (unit, grid, str(paths[suffix])))


def _write_pet(
    image: nib.Nifti1Image, tracer: TracerSpec, visit: Visit, out: Path, how: tuple[str, Grid, str]
) -> None:
    unit, grid, name = how
    mean = 1.0
    if unit != "SUVR":
        fine = GRIDS["1mm"]
        region = template_reference(tracer, load_atlas(fine), fine)
        mean = reference_mean(resample_to_grid(image, fine), region, tracer, name)
    sidecar = {
        "Measure": "SUVR",
        "TracerName": tracer.ligand,
        "Units": "unitless",
        "SourceUnits": unit,
        "ReferenceMean": mean,
    }
    suvr = resample_to_grid(image, grid) / np.float32(mean)
    write_image(visit.pet(out, tracer), suvr, grid.affine, sidecar)
