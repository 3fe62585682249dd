"""Mean PET and mean MRI over the training scans at the grid's own resolution, also without each fold."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from relapet.prior.features import base_images, base_names, present_inputs
from relapet.prior.samples import Samples
from relapet.types import Volume


class FoldSums:
    """Sums of one kind of volume over the scans of each fold, and their counts."""

    def __init__(self, folds: int, shape: tuple[int, ...]) -> None:
        self.sums = np.zeros((folds, *shape), dtype=np.float32)
        self.counts = np.zeros(folds, dtype=np.intp)

    def add(self, fold: int, volume: Volume) -> None:
        """Add one volume ``(X, Y, Z)``."""
        self.sums[fold] += volume
        self.counts[fold] += 1

    def mean(self, without: int | None) -> Volume:
        """Mean over the scans outside a fold; over all where none is outside it."""
        chosen = [fold for fold in range(len(self.counts)) if fold != without]
        if not self.counts[chosen].sum():
            chosen = list(range(len(self.counts)))
        total: Volume = self.sums[chosen].sum(axis=0, dtype=np.float64) / self.counts[chosen].sum()
        return total.astype(np.float32)


class Means:
    """Mean volumes by tracer, and by base image (scaled T1w, fluid fraction, scaled FLAIR)."""

    def __init__(self, samples: Samples, fold_of: npt.NDArray[np.intp]) -> None:
        self._samples = samples
        self._fold_of = fold_of
        self._pet: dict[str, FoldSums] = {}
        self._base: dict[str, FoldSums] = {}

    def add(self, i: int) -> None:
        """Add scan ``i``."""
        mri = self._samples.mri(i)
        inputs = present_inputs(mri)
        for name, image in zip(base_names(inputs), base_images(mri, inputs), strict=True):
            self._add(self._base, name, i, image)
        for name, volume in self._samples.pet(i).items():
            self._add(self._pet, name, i, volume)

    def _add(self, kind: dict[str, FoldSums], name: str, i: int, volume: Volume) -> None:
        if name not in kind:
            kind[name] = FoldSums(int(self._fold_of.max()) + 1, volume.shape)
        kind[name].add(int(self._fold_of[i]), volume)

    def pet(self, without: int | None) -> dict[str, Volume]:
        """Mean SUVr of each tracer."""
        return {name: sums.mean(without) for name, sums in sorted(self._pet.items())}

    def base(self, without: int | None) -> dict[str, Volume]:
        """Mean of each base image."""
        return {name: sums.mean(without) for name, sums in sorted(self._base.items())}
