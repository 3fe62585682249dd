"""The two stages of the fit for one set of inputs, with and without each fold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from relapet.prior.config import PriorConfig
from relapet.prior.contents import GlobalFit
from relapet.prior.features import Inputs, base_names, part_lengths
from relapet.prior.kernel import (
    Projection,
    SubjectKernel,
    choose_strength,
    fit_kernel,
    fit_projection,
    leading,
)
from relapet.prior.ridge import LocalFit, Moments, choose_penalty, fit_ridge
from relapet.prior.samples import Samples, batches

_BATCH = 16
"""Scans handled together."""
_KERNEL_RANK = 48
"""Most eigenvectors of the kernel that remainders are summed along."""
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
    """The scans that the kernel is fitted to, in the order of its support."""
    kernel: tuple[SubjectKernel, Floats, Floats] | None
    sums: npt.NDArray[np.float32] | None = None
    """Eigenvectors' products with the remainders, ``(J, voxels)``."""
    judged: npt.NDArray[np.float32] | None = None
    """Remainders ``(n, some voxels)`` by which the strength is chosen."""
    across: GlobalFit | None = None


@dataclass
class SetFit:
    """What one set of inputs gives without one fold."""

    projection: Projection | None
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
        chosen = np.isin(data.members, fitted)
        projection = None
        if len(fitted) > 2:
            lengths = part_lengths(data.inputs, samples.geometry.anatomy)
            projection = fit_projection(whole[chosen], lengths, config.projections)
        one = SetFit(projection)
        for tracer, sums in moments.items():
            stage = _local_stage(sums, without, config, every)
            if stage is None:
                continue
            stage.rows = [i for i in fitted if i in data.has[tracer]]
            if projection is not None and config.kernel and len(stage.inner) > 1:
                scores = projection.scores(whole[np.isin(data.members, stage.rows)])
                stage.kernel = fit_kernel(scores, _KERNEL_RANK)
            one.tracers[tracer] = stage
        result.append(one)
    _sum_remainders(samples, data, result, every, tick)
    for one in result:
        for stage in one.tracers.values():
            stage.across = _global_fit(stage, data.fold_of, config)
            stage.sums = stage.judged = None
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
    return TracerStage(fit_ridge(total, [penalty])[0], inner, [], None)


def sum_of(parts: Sequence[Moments]) -> Moments:
    """The sums over several folds."""
    total = parts[0].minus([])
    for part in parts[1:]:
        total.sums += part.sums
    return total


def _sum_remainders(
    samples: Samples, data: SetData, fits: Sequence[SetFit], every: int, tick: Callable[[], None]
) -> None:
    """Add every scan's remainders to each stage's sums."""
    voxels = samples.geometry.lattice.voxels
    stages = [(tracer, stage) for fit in fits for tracer, stage in fit.tracers.items() if stage.kernel]
    places = []
    for _, stage in stages:
        assert stage.kernel is not None
        stage.sums = np.zeros((len(stage.kernel[1]), voxels), dtype=np.float32)
        stage.judged = np.zeros((len(stage.rows), len(range(0, voxels, every))), dtype=np.float32)
        places.append({i: row for row, i in enumerate(stage.rows)})
    for batch in batches(data.members, _BATCH):
        read = {i: samples.get(i) for i in batch}
        for (tracer, stage), place in zip(stages, places, strict=True):
            there = [i for i in batch if i in place]
            if not there or stage.kernel is None or stage.sums is None or stage.judged is None:
                continue
            remainders = np.stack(
                [
                    read[i].pet[tracer]
                    - stage.inner[int(data.fold_of[i])].predict(read[i].local(data.inputs))
                    for i in there
                ]
            )
            rows = [place[i] for i in there]
            stage.sums += stage.kernel[2][rows].T.astype(np.float32) @ remainders
            stage.judged[rows] = remainders[:, ::every]
        for _ in batch:
            tick()


def _global_fit(stage: TracerStage, fold_of: npt.NDArray[np.intp], config: PriorConfig) -> GlobalFit | None:
    if stage.kernel is None or stage.sums is None or stage.judged is None:
        return None
    kernel, values, vectors = stage.kernel
    strength = choose_strength(values, vectors, stage.judged, fold_of[stage.rows], config.kernel)
    if strength is None:
        return None
    # Written as few products as matter: with S = diag(sqrt L) C = U D V' over the training subjects' coordinates,
    # phi C = (phi diag(1 / sqrt L) U) (U' S).
    spread = np.sqrt(values).astype(np.float32)
    scaled = (values / (values + strength)).astype(np.float32)[:, None] * stage.sums
    _, turn = leading(scaled.astype(np.float64) @ scaled.T.astype(np.float64), config.components)
    loadings = (kernel.loadings / spread) @ turn.astype(np.float32)
    short = replace(kernel, loadings=loadings)
    return GlobalFit(short, (turn.T.astype(np.float32) @ scaled).astype(np.float16))
