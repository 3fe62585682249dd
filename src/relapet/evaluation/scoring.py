"""Scoring scans one at a time: metrics, regional means and spectra, never more than two volumes in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from relapet.errors import SubjectError, VolumeError
from relapet.evaluation import tables
from relapet.evaluation.image_metrics import Pair, score
from relapet.evaluation.matching import Scan
from relapet.evaluation.spectra import MEASURED, SpectrumRows
from relapet.evaluation.voi import RegionAtlas, RegionSums, brain_mask, default_atlas, sum_regions
from relapet.imaging.grid import find_grid
from relapet.imaging.measured import is_model_ready, load_model_ready, load_suvr
from relapet.imaging.nifti import load_volume
from relapet.tracers import TracerSpec
from relapet.types import Labels, Mask, Volume

Progress = Callable[[int, int], None]
"""Called with the number of scans done and of all."""


@dataclass(frozen=True)
class Problem:
    """One volume that could not be scored, and why; ``method`` is ``measured`` for the real map."""

    subject: str
    session: str
    tracer: str
    method: str
    reason: str


@dataclass
class Scores:
    """What scoring collects: rows of numbers, a few kilobytes a scan."""

    image: list[dict[str, Any]] = field(default_factory=list)
    """Image metrics, a row a scan and method."""
    regions: list[dict[str, Any]] = field(default_factory=list)
    """Measured and synthetic regional values, a row a scan, method and region."""
    measured: list[dict[str, Any]] = field(default_factory=list)
    """Measured mean SUVr of every Desikan-Killiany VOI, whatever atlas was chosen (see `uncertainty.KEYS`)."""
    spectra: SpectrumRows = field(default_factory=SpectrumRows)
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class _Space:
    """Brain mask and labels on the grid of a measured map."""

    brain: Mask
    labels: Labels
    names: dict[int, str]
    own_labels: Labels
    """Labels of the Desikan-Killiany atlas, which the tables that synthesis writes go by."""
    own_names: dict[int, str]

    def target(self, tracer: TracerSpec) -> Mask | None:
        """The tracer's target cortex, None where tracer or atlas has none."""
        if tracer.target_composite is None:
            return None
        index_of = {name: index for index, name in self.names.items()}
        labels = tracer.composites[tracer.target_composite]
        if not all(label in index_of for label in labels):
            return None
        return np.isin(self.labels, [index_of[label] for label in labels]) & self.brain


def score_scans(scans: Sequence[Scan], atlas: RegionAtlas, on_progress: Progress | None) -> Scores:
    """Score every method on every scan; a volume that cannot be used is listed, the others go on."""
    scores = Scores()
    own = default_atlas()

    @lru_cache(maxsize=2)
    def space_of(shape: tuple[int, ...], affine: tuple[float, ...]) -> _Space:
        matrix = np.array(affine).reshape(4, 4)
        return _Space(
            brain_mask(shape, matrix),
            atlas.labels(shape, matrix),
            atlas.names,
            own.labels(shape, matrix),
            own.names,
        )

    for done, scan in enumerate(scans, start=1):
        try:
            image = _load_measured(scan)
            space = space_of(image.shape, tuple(image.affine.ravel()))
            if not space.brain.any():
                raise VolumeError(f"{scan.real} covers no part of the template's brain; resample it to MNI.")
        except SubjectError as error:
            scores.problems.append(_problem(scan, MEASURED, error))
        else:
            _score_scan(scan, image, space, scores)
        if on_progress:
            on_progress(done, len(scans))
    return scores


def _load_measured(scan: Scan) -> nib.Nifti1Image:
    """The measured SUVr map: as it is, or of another pipeline and brought to the grid of the synthetic ones."""
    if is_model_ready(scan.real):
        return load_model_ready(scan.real)  # on whatever grid it lies
    first = next(iter(scan.synthetic.values()))
    synthetic = load_volume(first)
    grid = find_grid(synthetic.shape, synthetic.affine)
    if grid is None:
        raise VolumeError(f"{first} lies on none of relapet's grids, to which {scan.real} could be brought.")
    return nib.Nifti1Image(load_suvr(scan.real, scan.tracer, grid), grid.affine)


def _problem(scan: Scan, method: str, error: Exception) -> Problem:
    return Problem(*tables.visit_labels(scan.visit), scan.tracer.name, method, str(error))


def _score_scan(scan: Scan, image: nib.Nifti1Image, space: _Space, scores: Scores) -> None:
    tracer, visit = scan.tracer, scan.visit
    measured = np.asarray(image.dataobj, dtype=np.float32)
    target = space.target(tracer)
    real_regions = sum_regions(measured, space.labels, space.names)
    own_regions = sum_regions(measured, space.own_labels, space.own_names)
    named = {"subject": visit.subject, "session": visit.session or "", "tracer": tracer.name}
    scores.measured += [named | {"voi": voi, "real_suvr": value} for voi, value in own_regions.vois().items()]
    keep_spectra = scores.spectra.fits(image)
    if keep_spectra:
        scores.spectra.add(tracer.name, MEASURED, visit.subject, measured, space.brain)
    for method, path in scan.synthetic.items():
        try:
            synthetic = _load_on_grid(path, image, scan.real)
        except VolumeError as error:
            scores.problems.append(_problem(scan, method, error))
            continue
        key = tables.row_key(visit, tracer.name, method)
        pair = Pair(measured, synthetic, space.brain, tracer.suvr_window, target)
        scores.image.append(key | score(pair))
        synthetic_regions = sum_regions(synthetic, space.labels, space.names)
        scores.regions.extend(_region_rows(key, tracer, real_regions, synthetic_regions))
        if keep_spectra:
            scores.spectra.add(tracer.name, method, visit.subject, synthetic, space.brain)


def _load_on_grid(path: Path, image: nib.Nifti1Image, real: Path) -> Volume:
    synthetic = load_volume(path)
    if synthetic.shape != image.shape or not np.allclose(synthetic.affine, image.affine, atol=1e-2):
        raise VolumeError(
            f"{path} {tuple(synthetic.shape)} lies on another grid than {real} {tuple(image.shape)}; "
            "resample it to that grid."
        )
    return np.asarray(synthetic.dataobj, dtype=np.float32)


def _region_rows(
    key: dict[str, Any], tracer: TracerSpec, real: RegionSums, synthetic: RegionSums
) -> Iterator[dict[str, Any]]:
    values = {
        "voi": (real.vois(), synthetic.vois()),
        "composite": (real.composites(tracer), synthetic.composites(tracer)),
    }
    if tracer.centiloid is not None:
        values["centiloid"] = (
            {"centiloid": real.centiloid(tracer)},
            {"centiloid": synthetic.centiloid(tracer)},
        )
    for kind, (measured, predicted) in values.items():
        for name, value in measured.items():
            yield key | {"voi": name, "kind": kind, "real_suvr": value, "synth_suvr": predicted[name]}
