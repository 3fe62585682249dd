"""Fitting the prior: local ridge, then a ridge over subjects on its cross-fitted remainder, all of it cross-fitted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from relapet.errors import InputError
from relapet.prior.anatomy import Anatomy, Lattice
from relapet.prior.config import PriorConfig
from relapet.prior.contents import TracerFit
from relapet.prior.features import (
    ABSENT,
    INPUT_SETS,
    MODALITIES,
    Inputs,
    base_names,
    cube_sizes,
    local_features,
)
from relapet.prior.fitted import FittedPrior
from relapet.prior.means import Means
from relapet.prior.samples import Geometry, Samples, TrainingScans, deal_folds
from relapet.prior.stages import SetData, SetFit, fit_set
from relapet.types import Volume

OnProgress = Callable[[int, int], None]
"""Called with the number of scans read so far, and of all readings."""


@dataclass(frozen=True)
class PriorFit:
    """The prior, and for each scan what a prior predicts of it that never saw its participant."""

    prior: FittedPrior
    scans: TrainingScans
    fold_of: npt.NDArray[np.intp]
    """Fold of each scan."""
    without: tuple[FittedPrior, ...]
    """The whole fit made again without each fold."""

    def crossfitted(self, i: int, tracer: str, inputs: Inputs = MODALITIES) -> Volume:
        """SUVr ``(X, Y, Z)`` of scan ``i`` from those of its MRI that ``inputs`` names, by the fit without its fold."""
        mri = np.array(self.scans.mri(i), dtype=np.float32)
        for channel, name in zip(mri, MODALITIES, strict=True):
            if name not in inputs:
                channel[:] = ABSENT
        return self.without[int(self.fold_of[i])].predict(mri, tracer)


def fit_prior(
    scans: TrainingScans,
    anatomy: Anatomy,
    config: PriorConfig | None = None,
    inputs: Sequence[Inputs] = INPUT_SETS,
    on_progress: OnProgress | None = None,
) -> PriorFit:
    """Fit the prior for each of some sets of ``inputs``; each tracer from the scans that have it.

    A tracer that fewer than ``config.min_participants`` participants have together with a set of inputs has no fit
    for that set: it is predicted by its mean map. A fit without a fold that leaves no scan of a tracer (it has one
    participant) keeps the mean over all. `Anatomy.of_grid` gives the template's anatomy. Raises InputError where there
    are no scans, or one is broken.
    """
    config = config or PriorConfig()
    lattice = Lattice.of(anatomy, config.spacing_mm)
    sizes = cube_sizes(config.cubes_mm, config.spacing_mm, anatomy.voxel_mm)
    samples = Samples(scans, Geometry(anatomy, lattice, sizes), config.cache_mb)
    wanted = tuple(names for names in INPUT_SETS if names in {tuple(given) for given in inputs})
    if not len(scans):
        raise InputError("There are no scans to fit the prior to; check the derivative folder.")
    if not wanted:
        raise InputError("inputs names no set of MRI; choose from (T1w, FLAIR), (T1w,) and (FLAIR,).")
    readings = iter(range(1, len(scans) * (2 + 2 * len(wanted)) + 1))
    everything = len(scans) * (2 + 2 * len(wanted))

    def tick() -> None:
        if on_progress is not None:
            on_progress(next(readings), everything)

    found = [_survey(samples, i, tick) for i in range(len(scans))]
    participants = [scans.subject(i) for i in range(len(scans))]
    folds = min(config.folds, len(set(participants)))
    fold_of = deal_folds(participants, [tracers for _, tracers in found], folds, config.seed)
    means = Means(samples, fold_of)
    for i in range(len(scans)):
        means.add(i)
        tick()
    without = (None, *range(folds))
    priors = [
        FittedPrior(anatomy, lattice, sizes, means.pet(fold), means.base(fold), {}, {}) for fold in without
    ]
    for names in wanted:
        data = _data_of(names, found, participants, fold_of, config.min_participants)
        if data.has:
            for prior, fit in zip(priors, fit_set(samples, data, config, tick), strict=True):
                _add_set(prior, names, fit)
    return PriorFit(priors[0], scans, fold_of, tuple(priors[1:]))


def _survey(samples: Samples, i: int, tick: Callable[[], None]) -> tuple[Inputs, frozenset[str]]:
    """Inputs and tracers of a scan."""
    sample = samples.get(i)
    tick()
    return sample.inputs, frozenset(sample.pet)


def _data_of(
    inputs: Inputs,
    found: Sequence[tuple[Inputs, frozenset[str]]],
    participants: Sequence[str],
    fold_of: npt.NDArray[np.intp],
    least: int,
) -> SetData:
    """The scans that have all ``inputs``, and the tracers that at least ``least`` participants have with them."""
    members = tuple(i for i, (there, _) in enumerate(found) if set(there) >= set(inputs))
    has = {}
    for tracer in sorted({name for _, tracers in found for name in tracers}):
        scans = frozenset(i for i in members if tracer in found[i][1])
        if len({participants[i] for i in scans}) >= least:
            has[tracer] = scans
    return SetData(inputs, members, has, fold_of)


def _add_set(prior: FittedPrior, inputs: Inputs, fit: SetFit) -> None:
    """Put the fits of one set of inputs into a prior, as deviations from its mean maps."""
    if fit.standard is not None and any(stage.across for stage in fit.tracers.values()):
        prior.standards[inputs] = fit.standard
    base = np.stack([prior.base_mean[name] for name in base_names(inputs)])
    centre = local_features(base, prior.sizes, prior.lattice)
    for tracer, stage in fit.tracers.items():
        local = stage.local
        coefficients = local.coefficients.astype(np.float16)
        shift = local.mean - prior.lattice.sample(prior.mean[tracer])
        shift = shift - np.einsum("fv,fv->v", coefficients.astype(np.float32), local.feature_mean - centre)
        prior.fits[inputs, tracer] = TracerFit(
            shift, coefficients, local.reach.astype(np.float16), stage.across
        )
