"""Scoring synthetic trees against a measured one: volumes streamed one at a time, then tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from relapet.cohort.grid import find_grid
from relapet.cohort.nifti import load_volume
from relapet.errors import InputError, LeakError, SubjectError, VolumeError
from relapet.evaluation import tables
from relapet.evaluation.image_metrics import Pair, score
from relapet.evaluation.matching import Plan, Scan, make_plan
from relapet.evaluation.summary import build_summary, leak_sentences, to_markdown
from relapet.evaluation.voi import (
    RegionAtlas,
    RegionSums,
    brain_mask,
    default_atlas,
    load_region_atlas,
    sum_regions,
)
from relapet.files import prepare_output_folder, write_json, write_text
from relapet.preprocessing.measured import is_model_ready, load_suvr
from relapet.tracers import TracerSpec
from relapet.types import Labels, Mask, Volume

Progress = Callable[[int, int], None]
"""Called with the number of scans done and of all."""


@dataclass(frozen=True)
class Options:
    """What an evaluation may be told; the defaults are those of the published tables."""

    atlas: Path | None = None
    """Label NIfTI in template space instead of Desikan-Killiany."""
    atlas_table: Path | None = None
    """TSV (index, name) of that atlas; by default the file beside it with the same stem."""
    participants: tuple[str, ...] | None = None
    """Labels of the subjects to score, all by default."""
    bootstrap: int = 2000
    """Bootstrap samples of subjects for every interval."""
    seed: int = 0
    on_progress: Progress | None = None


@dataclass(frozen=True)
class Problem:
    """One volume that could not be scored, and why; ``method`` is ``measured`` for the real map."""

    subject: str
    session: str
    tracer: str
    method: str
    reason: str


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation wrote to ``out``: the tables as data frames, the summary, and what failed."""

    out: Path
    image_metrics: pd.DataFrame
    voi: pd.DataFrame
    agreement: pd.DataFrame
    tests: pd.DataFrame
    positivity: pd.DataFrame
    centiloid: pd.DataFrame
    summary: dict[str, Any]
    problems: list[Problem]


@dataclass
class _Scores:
    image: list[dict[str, Any]] = field(default_factory=list)
    regions: list[dict[str, Any]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class _Space:
    """Brain mask and labels on the grid of a measured map."""

    brain: Mask
    labels: Labels
    names: dict[int, str]

    def target(self, tracer: TracerSpec) -> Mask | None:
        """The tracer's target cortex, None where tracer or atlas has none."""
        if tracer.target_composite is None:
            return None
        index_of = {name: index for index, name in self.names.items()}
        labels = tracer.composites[tracer.target_composite]
        if not all(label in index_of for label in labels):
            return None
        return np.isin(self.labels, [index_of[label] for label in labels]) & self.brain


def evaluate(real: Path, synthetic: Sequence[Path], out: Path, options: Options | None = None) -> Evaluation:
    """Score every synthetic tree against the measured maps of ``real`` and write the tables to ``out``.

    Volumes that cannot be read or do not fit are listed in the result's ``problems``; the others go on.
    Raises InputError where nothing can be compared or a method was trained on the subjects, and LeakError,
    after the tables are written, where a method scores above what MRI can show.
    """
    options = options or Options()
    if options.bootstrap < 1:
        raise InputError(f"bootstrap is {options.bootstrap}; give a number of samples of at least 1.")
    atlas = load_region_atlas(options.atlas, options.atlas_table) if options.atlas else default_atlas()
    plan = make_plan(Path(real), [Path(path) for path in synthetic], options.participants)
    prepare_output_folder(out)
    scores = _score_all(plan.scans, atlas, options.on_progress)
    if not scores.image:
        raise InputError(f"No scan could be scored; the first fault: {scores.problems[0].reason}")
    result = _tabulate(plan, scores, Path(real), Path(out), atlas, options)
    _write(result)
    leaks = leak_sentences(result.summary)
    if leaks:
        raise LeakError(
            "Scores above what MRI can show, so test data leaked into training: " + "; ".join(leaks)
            + f". See {result.out / 'summary.md'} and check the split."
        )  # fmt: skip
    return result


def _score_all(scans: Sequence[Scan], atlas: RegionAtlas, on_progress: Progress | None) -> _Scores:
    scores = _Scores()

    @lru_cache(maxsize=2)
    def space_of(shape: tuple[int, ...], affine: tuple[float, ...]) -> _Space:
        matrix = np.array(affine).reshape(4, 4)
        return _Space(brain_mask(shape, matrix), atlas.labels(shape, matrix), atlas.names)

    for done, scan in enumerate(scans, start=1):
        try:
            image = _load_measured(scan)
            space = space_of(image.shape, tuple(image.affine.ravel()))
            if not space.brain.any():
                raise VolumeError(f"{scan.real} covers no part of the template's brain; resample it to MNI.")
        except SubjectError as error:
            scores.problems.append(_problem(scan, "measured", error))
        else:
            _score_scan(scan, image, space, scores)
        if on_progress:
            on_progress(done, len(scans))
    return scores


def _load_measured(scan: Scan) -> nib.Nifti1Image:
    """The measured SUVr map: as it is, or of another pipeline and brought to the grid of the synthetic ones."""
    if is_model_ready(scan.real):
        return load_volume(scan.real)
    first = next(iter(scan.synthetic.values()))
    synthetic = load_volume(first)
    grid = find_grid(synthetic.shape, synthetic.affine)
    if grid is None:
        raise VolumeError(f"{first} lies on none of relapet's grids, to which {scan.real} could be brought.")
    return nib.Nifti1Image(load_suvr(scan.real, scan.tracer, grid), grid.affine)


def _problem(scan: Scan, method: str, error: Exception) -> Problem:
    return Problem(*tables.visit_labels(scan.visit), scan.tracer.name, method, str(error))


def _score_scan(scan: Scan, image: nib.Nifti1Image, space: _Space, scores: _Scores) -> None:
    tracer = scan.tracer
    measured = np.asarray(image.dataobj, dtype=np.float32)
    target = space.target(tracer)
    real_regions = sum_regions(measured, space.labels, space.names)
    for method, path in scan.synthetic.items():
        try:
            synthetic = _load_on_grid(path, image, scan.real)
        except VolumeError as error:
            scores.problems.append(_problem(scan, method, error))
            continue
        key = tables.row_key(scan.visit, tracer.name, method)
        pair = Pair(measured, synthetic, space.brain, tracer.suvr_window, target)
        scores.image.append(key | score(pair))
        synthetic_regions = sum_regions(synthetic, space.labels, space.names)
        scores.regions.extend(_region_rows(key, tracer, real_regions, synthetic_regions))


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


def _tabulate(
    plan: Plan, scores: _Scores, real: Path, out: Path, atlas: RegionAtlas, options: Options
) -> Evaluation:
    image = pd.DataFrame(scores.image)
    regions = tables.average_sessions(pd.DataFrame(scores.regions))
    voi = tables.voi_table(regions)
    centiloid = tables.centiloid_table(regions)
    metrics = tables.subject_metrics(image, voi)
    sampling = tables.Sampling(options.bootstrap, options.seed)
    results = tables.Results(metrics, voi, centiloid, plan.methods, sampling)
    tests = tables.tests_table(results)
    positivity = tables.positivity_table(results)
    summary = build_summary(results, tests, positivity)
    summary["inputs"] = {
        "real": str(real),
        "synthetic": {tree.method: str(tree.root) for tree in plan.trees},
        "atlas": atlas.name,
        "bootstrap_samples": options.bootstrap,
        "seed": options.seed,
    }
    summary["skipped_tracers"] = plan.skipped_tracers
    summary["notes"] = plan.notes
    summary["problems"] = [vars(problem) for problem in scores.problems]
    agreement = tables.agreement_table(results)
    return Evaluation(out, image, voi, agreement, tests, positivity, centiloid, summary, scores.problems)


def _write(result: Evaluation) -> None:
    for name in ("image_metrics", "voi", "agreement", "tests", "positivity", "centiloid"):
        tables.write_table(result.out / f"{name}.tsv", getattr(result, name))
    write_json(result.out / "summary.json", tables.plain(result.summary))
    write_text(result.out / "summary.md", to_markdown(result.summary))
