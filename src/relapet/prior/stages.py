"""The two stages of the fit for one set of inputs, with and without each fold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from relapet.prior.across import Standard, Weights, choose_strength, fit_standard, principal, weigh
from relapet.prior.config import PriorConfig
from relapet.prior.contents import GlobalFit
from relapet.prior.features import Inputs, base_names
from relapet.prior.ridge import LocalFit, Moments, choose_penalty, fit_ridge
from relapet.prior.samples import Sample, Samples, batches

_BATCH = 16
"""Scans handled together."""
_JUDGED = 2000
"""About how many voxels decide on a strength."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SetData:
    """The scans that a set of inputs can be fitted to: those that have them all."""

    inputs: Inputs
    members: tuple[int, ...]
    has: dict[str, frozenset[int]]
    """Tracer to those of the members that have it; tracers that too few participants have are left out."""
    fold_of: npt.NDArray[np.intp]
    """Fold of each scan, members or not."""


@dataclass
class TracerStage:
    """One tracer without one fold (None: with all): its local fits, and the kernel that is being summed up."""

    local: LocalFit
    inner: dict[int, LocalFit]
    """Fold to the local fit without it as well: what gives its scans their remainders."""
    rows: list[int]
    """The scans that the ridge over subjects is fitted to."""
    weights: Weights | None = None
    """That ridge, a column a row of `rows`; None where it is left out."""
    across: GlobalFit | None = None


@dataclass
class SetFit:
    """What one set of inputs gives without one fold."""

    standard: Standard | None
    tracers: dict[str, TracerStage] = field(default_factory=dict)


def fit_set(samples: Samples, data: SetData, config: PriorConfig, tick: Callable[[], None]) -> list[SetFit]:
    """The fit for one set of inputs: first with all scans, then without fold 0, 1, ..."""
    folds = range(int(data.fold_of.max()) + 1)
    moments = _moments(samples, data, len(folds))
    whole = np.stack([samples.whole(i)[data.inputs] for i in data.members])
    every = max(1, samples.geometry.lattice.voxels // _JUDGED)
    result = []
    for without in (None, *folds):
        fitted = [i for i in data.members if data.fold_of[i] != without]
        enough = len(fitted) > 2 and config.across
        one = SetFit(fit_standard(whole[np.isin(data.members, fitted)]) if enough else None)
        for tracer, sums in moments.items():
            stage = _local_stage(sums, without, config, every)
            if stage is None:
                continue
            if len(stage.inner) > 1:
                stage.rows = [i for i in fitted if i in data.has[tracer]]
            one.tracers[tracer] = stage
        result.append(one)
    _weigh(samples, data, result, whole, config, every, tick)
    _sum_remainders(samples, data, result, tick)
    return result


def _moments(samples: Samples, data: SetData, folds: int) -> dict[str, list[Moments]]:
    """Sums of products of each tracer and fold."""
    voxels = samples.geometry.lattice.voxels
    size = len(base_names(data.inputs)) * len(samples.geometry.sizes)
    result = {tracer: [Moments(size, voxels) for _ in range(folds)] for tracer in data.has}
    for fold in range(folds):
        for batch in batches([i for i in data.members if data.fold_of[i] == fold], _BATCH):
            read = [samples.get(i) for i in batch]
            features = np.stack([sample.local(data.inputs) for sample in read])
            for tracer, sums in result.items():
                there = [k for k, i in enumerate(batch) if i in data.has[tracer]]
                if there:
                    sums[fold].add(features[there], np.stack([read[k].pet[tracer] for k in there]))
    return result


def _local_stage(
    moments: Sequence[Moments], without: int | None, config: PriorConfig, every: int
) -> TracerStage | None:
    """The local fits without a fold; None where no scan is left. The penalty is chosen on the folds that are left."""
    left = {fold: sums for fold, sums in enumerate(moments) if fold != without and sums.count}
    if not left:
        return None
    penalty = choose_penalty(list(left.values()), config.ridge, every)
    total = sum_of(list(left.values()))
    inner = {}
    if len(left) > 1:
        inner = {fold: fit_ridge(total.minus([sums]), [penalty])[0] for fold, sums in left.items()}
    return TracerStage(fit_ridge(total, [penalty])[0], inner, [])


def sum_of(parts: Sequence[Moments]) -> Moments:
    """The sums over several folds."""
    total = parts[0].minus([])
    for part in parts[1:]:
        total.sums += part.sums
    return total


def _weigh(
    samples: Samples,
    data: SetData,
    fits: Sequence[SetFit],
    whole: npt.NDArray[np.float32],
    config: PriorConfig,
    every: int,
    tick: Callable[[], None],
) -> None:
    """Choose each stage's ridge over subjects by its remainders at every ``every``-th voxel."""
    stages = [(fit.standard, tracer, stage) for fit in fits for tracer, stage in fit.tracers.items()]
    judged = len(range(0, samples.geometry.lattice.voxels, every))
    some = [np.zeros((len(stage.rows), judged), dtype=np.float32) for _, _, stage in stages]
    place = [{i: row for row, i in enumerate(stage.rows)} for _, _, stage in stages]
    for i in data.members:
        sample, fold = samples.get(i), int(data.fold_of[i])
        for k, (standard, tracer, stage) in enumerate(stages):
            if standard is not None and i in place[k]:
                some[k][place[k][i]] = _remainder(sample, stage.inner[fold], data.inputs, tracer)[::every]
        tick()
    known: dict[tuple[int, ...], tuple[npt.NDArray[np.float32], Floats, Floats]] = {}
    for (standard, _, stage), seen in zip(stages, some, strict=True):
        if standard is None or not stage.rows:
            continue
        # tracers that the same people have share their eigenvectors, which cost the most
        key = (id(standard), *stage.rows)
        if key not in known:
            scores = standard.scores(whole[np.isin(data.members, stage.rows)])
            known = {key: (scores, *principal(scores))}
        scores, values, vectors = known[key]
        penalty = choose_strength(values, vectors, seen, data.fold_of[stage.rows], config.across)
        if penalty is not None:
            stage.weights = weigh(scores, values, vectors, seen, penalty, config.components)


def _remainder(sample: Sample, local: LocalFit, inputs: Inputs, tracer: str) -> npt.NDArray[np.float32]:
    """What a local fit without a scan's fold leaves of its PET, ``(voxels,)``."""
    return sample.pet[tracer] - local.predict(sample.local(inputs))


def _sum_remainders(
    samples: Samples, data: SetData, fits: Sequence[SetFit], tick: Callable[[], None]
) -> None:
    """Make each stage's maps, sums of its scans' remainders."""
    stages = [
        (tracer, stage, stage.weights)
        for fit in fits
        for tracer, stage in fit.tracers.items()
        if stage.weights is not None
    ]
    sums = [np.zeros((len(w.sums), samples.geometry.lattice.voxels), dtype=np.float32) for _, _, w in stages]
    place = [{i: row for row, i in enumerate(stage.rows)} for _, stage, _ in stages]
    for batch in batches(data.members, _BATCH):
        read = {i: samples.get(i) for i in batch}
        for k, (tracer, stage, weights) in enumerate(stages):
            there = [i for i in batch if i in place[k]]
            if there:
                fits_of = {i: stage.inner[int(data.fold_of[i])] for i in there}
                left = [_remainder(read[i], fit, data.inputs, tracer) for i, fit in fits_of.items()]
                sums[k] += weights.sums[:, [place[k][i] for i in there]] @ np.stack(left)
        for _ in batch:
            tick()
    for (_, stage, weights), maps in zip(stages, sums, strict=True):
        stage.across = GlobalFit(weights.loadings, maps.astype(np.float16))
