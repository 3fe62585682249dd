"""Synthetic maps on the visit's own T1w: each sample brought back by one inverse transform and one interpolation."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np

from relapet.imaging.bids import NATIVE_SPACE
from relapet.imaging.derivatives import WayBack
from relapet.imaging.grid import GRIDS
from relapet.imaging.template import Atlas, load_atlas
from relapet.imaging.transforms import bring_back
from relapet.synthesis.outputs import Place
from relapet.synthesis.synthesizer import Synthesis
from relapet.types import Affine


def native_place(back: WayBack, fit: Affine, source_uri: str) -> Place:
    """The T1w's own grid, with the atlas's 1 mm labels brought onto it by nearest neighbour.

    ``fit``: template mm in the images' header to template mm, (4, 4). ``source_uri`` names the T1w.
    """
    grid, atlas = GRIDS["1mm"], load_atlas(GRIDS["1mm"])
    labels = bring_back(_as_in_source(atlas.labels.astype(np.float32), grid.affine, fit), back, order=0)
    spacing = np.sqrt((labels.affine[:3, :3] ** 2).sum(axis=0))
    return Place(
        space=NATIVE_SPACE,
        affine=labels.affine,
        atlas=Atlas(np.rint(np.asarray(labels.dataobj)).astype(np.int32), atlas.names),
        code=1,
        reference=source_uri,
        resolution=f"that of the T1w, {' x '.join(f'{mm:.3g}' for mm in spacing)} mm",
    )


def bring_native(synthesis: Synthesis, back: WayBack, fit: Affine) -> Synthesis:
    """The same samples on the T1w's own grid, each interpolated once (linearly)."""
    moved = [bring_back(_as_in_source(s, synthesis.affine, fit), back) for s in synthesis.samples]
    samples = tuple(np.asarray(image.dataobj, dtype=np.float32) for image in moved)
    return replace(synthesis, samples=samples, affine=moved[0].affine)


def _as_in_source(data: np.ndarray, affine: Affine, fit: Affine) -> nib.Nifti1Image:
    """An image in template mm with the header that the source's own images would give it."""
    return nib.Nifti1Image(data, np.linalg.inv(fit) @ affine)
