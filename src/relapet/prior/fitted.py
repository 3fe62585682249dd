"""The fitted prior: MRI to SUVr, and to and from plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from relapet.errors import InputError
from relapet.prior.contents import Arrays, Contents, TracerFit
from relapet.prior.features import (
    INPUT_SETS,
    MODALITIES,
    Inputs,
    base_images,
    base_names,
    local_features,
    present_inputs,
    whole_features,
)
from relapet.prior.stored import pack, unpack
from relapet.threads import side_by_side
from relapet.types import Volume

_SLAB = 8
"""Voxels along x that are predicted at a time."""


@dataclass(frozen=True)
class FittedPrior(Contents):
    """Predicts SUVr from T1w, FLAIR or both.

    SUVr(x) = mean + shift + coefficients . (f(x) - f of the mean images) + the global part, in the brain; the mean
    outside it. The local term is held within its reach: an edge that no training subject had there must not make a hot
    voxel. Coefficients live on the lattice and are interpolated; features and means are the grid's own.
    """

    def inputs_for(self, mri: Volume, tracer: str) -> Inputs:
        """The fitted set of inputs that `predict` uses of an MRI; empty where it gives the mean map."""
        present = set(present_inputs(mri))
        fitted = (names for names in INPUT_SETS if present >= set(names) and (names, tracer) in self.fits)
        return next(fitted, ())

    def predict(self, mri: Volume, tracer: str) -> Volume:
        """SUVr ``(X, Y, Z)`` from a scaled MRI ``(2, X, Y, Z)``, -1 everywhere in an absent channel.

        A tracer that too few participants had, or inputs for which there is no fit, gives the mean map. Raises
        InputError for an unknown tracer, another grid, or an MRI that is absent or not finite.
        """
        return self.predict_all(mri, (tracer,))[tracer]

    def predict_all(self, mri: Volume, tracers: tuple[str, ...] | None = None) -> dict[str, Volume]:
        """The same for several tracers (all by default), which share the features."""
        self._check(mri)
        features: dict[Inputs, tuple[Volume, npt.NDArray[np.float32] | None]] = {}
        result = {}
        for tracer in self.mean if tracers is None else tracers:
            if tracer not in self.mean:
                raise InputError(
                    f"The prior has no tracer {tracer!r}; choose one of {', '.join(self.mean)}, or train with it."
                )
            inputs = self.inputs_for(mri, tracer)
            if not inputs:
                result[tracer] = self.mean[tracer].copy()
                continue
            if inputs not in features:
                features[inputs] = self._features(mri, inputs)
            result[tracer] = self._predict(*features[inputs], self.fits[inputs, tracer], tracer)
        return result

    def _check(self, mri: Volume) -> None:
        wanted = (len(MODALITIES), *self.anatomy.brain.shape)
        if mri.shape != wanted:
            raise InputError(
                f"The prior takes an MRI of shape {wanted}, not {mri.shape}; use the grid of its training."
            )
        if not np.isfinite(mri).all():
            raise InputError("The MRI holds values that are not finite; mend the image.")
        if not present_inputs(mri):
            raise InputError("The MRI has neither T1w nor FLAIR; add one of them.")

    def _features(self, mri: Volume, inputs: Inputs) -> tuple[Volume, npt.NDArray[np.float32] | None]:
        """Local features less those of the mean images, and the whole MRI's scores ``(P,)``."""
        mean = np.stack([self.base_mean[name] for name in base_names(inputs)])
        local = local_features(base_images(mri, inputs) - mean, self.sizes)
        standard = self.standards.get(inputs)
        return local, None if standard is None else standard.scores(whole_features(mri, inputs, self.anatomy))

    def _predict(
        self, local: Volume, scores: npt.NDArray[np.float32] | None, fit: TracerFit, tracer: str
    ) -> Volume:
        constant = fit.shift
        if fit.across is not None and scores is not None:
            constant = constant + scores @ fit.across.loadings @ fit.across.components.astype(np.float32)
        lattice, brain, mean = self.lattice, self.anatomy.brain, self.mean[tracer]
        coefficients = [lattice.planes(values) for values in fit.coefficients]
        reach, wide = lattice.planes(fit.reach), lattice.planes(constant)
        result = np.empty_like(mean)

        def predict(start: int) -> None:
            rows = slice(start, start + _SLAB)
            deviation = np.zeros_like(mean[rows])
            for planes, feature in zip(coefficients, local, strict=True):
                deviation += lattice.slab(planes, rows) * feature[rows]
            most = lattice.slab(reach, rows)
            np.clip(deviation, -most, most, out=deviation)
            deviation += lattice.slab(wide, rows)
            result[rows] = mean[rows] + np.where(brain[rows], deviation, 0)

        side_by_side(predict, range(0, len(mean), _SLAB))
        return result

    def to_arrays(self) -> Arrays:
        """Everything as contiguous arrays by name, for one safetensors file."""
        return pack(self)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[np.generic]]) -> FittedPrior:
        """The prior that `to_arrays` gave; raises InputError where an array is missing, misshapen or not finite."""
        return cls(**vars(unpack(arrays)))
