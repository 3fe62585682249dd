"""Regional SUVr of synthetic trees as tables, and the measured value beside each.

A table of pairs has one row a subject, session, tracer and VOI: the measured value ``real_suvr`` and what was
predicted, as ``mean`` or as samples ``sample-0`` ... ``sample-(N-1)``, all mean SUVr of the VOI.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from relapet.errors import InputError, SubjectError
from relapet.evaluation.scores.voi import default_atlas, sum_regions
from relapet.evaluation.tables import read_table
from relapet.imaging.bids import VisitFiles, find_visits
from relapet.imaging.grid import Grid
from relapet.imaging.measured import load_measured
from relapet.tracers import load_tracers

KEYS = ["subject", "session", "tracer", "voi"]
PROBABILITY = "probability_positive"
"""Column of a VOI table: in the row of a composite with a threshold, the probability of lying above it."""
_NUMBERS = ("mean", "sd", "low", "high", "volume", PROBABILITY, "sample-*")
"""Columns of numbers."""


def read_voi_tables(root: Path, desc: str) -> dict[Path, pd.DataFrame]:
    """The VOI tables of a synthetic tree (desc- synth or synthsamples) by path, with the columns of `KEYS`.

    Raises InputError for a table that cannot be read or has no column name.
    """
    tables: dict[Path, pd.DataFrame] = {}
    for visit in find_visits(root):
        for tracer in load_tracers().values():
            path = visit.voi_table(root, tracer, desc)
            if path.is_file():
                keys = {"subject": visit.subject, "session": visit.session or "", "tracer": tracer.name}
                tables[path] = read_voi_table(path).assign(**keys)
    return tables


def read_voi_table(path: Path) -> pd.DataFrame:
    """One VOI table, its names in the column ``voi``; raises InputError for one that cannot be used."""
    frame = read_table(path, _NUMBERS, "synthesize it anew")
    if "name" not in frame:
        raise InputError(f"{path} lacks the column name; synthesize it anew.")
    if frame["name"].isna().any():
        raise InputError(f"{path} has a row without a name; synthesize it anew.")
    twice = frame["name"][frame["name"].duplicated()]
    if len(twice):
        raise InputError(f"{path} has several rows of the VOI {twice.iloc[0]}; synthesize it anew.")
    return frame.rename(columns={"name": "voi"})


def sample_columns(frame: pd.DataFrame) -> list[str]:
    """The columns sample-0, sample-1 ... in the order of their number."""
    names = [str(name) for name in frame.columns if re.fullmatch(r"sample-\d+", str(name))]
    return sorted(names, key=lambda name: int(name.removeprefix("sample-")))


def measure_vois(index: Iterable[VisitFiles], grid: Grid, on_problem: Callable[[str], None]) -> pd.DataFrame:
    """Mean SUVr of every VOI of the measured maps of some visits: subject, session, tracer, voi, real_suvr.

    So is that of the composite that the tracer's threshold is for.

    A map of another pipeline is brought to ``grid`` first; one that cannot be read is told to ``on_problem`` and
    left out. Raises InputError where none is left.
    """
    atlas, tracers = default_atlas(), load_tracers()
    rows = []
    for files in index:
        for tracer, path in files.pet.items():
            try:
                image = load_measured(path, tracers[tracer], grid)
            except SubjectError as error:
                on_problem(str(error))
                continue
            labels = atlas.labels(image.shape, image.affine)
            regions = sum_regions(np.asarray(image.dataobj), labels, atlas.names)
            means, rule = regions.vois(), tracers[tracer].positivity
            if rule is not None:
                means |= {n: v for n, v in regions.composites(tracers[tracer]).items() if n == rule.composite}
            key = (files.visit.subject, files.visit.session or "", tracer)
            rows += [(*key, voi, mean) for voi, mean in means.items()]
    if not rows:
        raise InputError("No measured *_meas-SUVR_mimap.nii.gz can be read; give a model-ready derivative.")
    return pd.DataFrame(rows, columns=[*KEYS, "real_suvr"])


def pair_with_real(predicted: pd.DataFrame, real: pd.DataFrame) -> pd.DataFrame:
    """Add ``real_suvr`` of `measure_vois` to predicted VOI values; rows without a measured one are left out.

    Raises InputError where nothing is left and where a prediction is not finite.
    """
    pairs = real[[*KEYS, "real_suvr"]].merge(predicted, on=KEYS, validate="one_to_one")
    if pairs.empty:
        raise InputError(
            "No subject, tracer and VOI has both a synthetic and a measured value; check the labels."
        )
    for column in [*sample_columns(pairs), *pairs.columns.intersection(["mean"])]:
        bad = pairs[~np.isfinite(pairs[column])]
        if len(bad):
            row = bad.iloc[0]
            raise InputError(
                f"The synthetic {row['tracer']} VOI {row['voi']} of subject {row['subject']} has no finite "
                f"value in {column}; synthesize it anew."
            )
    return pairs
