"""From a user's tables to what a downstream prediction needs: one row a subject, blocks of features."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from relapet.errors import InputError
from relapet.evaluation.mri_features import mri_feature_table
from relapet.evaluation.prediction import PredictionConfig, Task

Floats = npt.NDArray[np.float64]

MIN_SUBJECTS = 20
"""Fewer complete subjects than this cannot carry a nested cross-validation."""
MIN_CLASS = 10
"""Fewest subjects of the rarer class, so that every inner fold has both."""
FEATURE_SETS = ("mri", "mri+synthetic", "mri+real")
"""(a) MRI VOIs and demographics, (b) the same and synthetic PET VOIs, (c) the same and measured PET VOIs."""


@dataclass(frozen=True)
class DownstreamConfig:
    """What is predicted from what."""

    column: str
    """Column of the phenotype table."""
    method: str
    """Method of voi.tsv whose synthetic VOIs are used."""
    tracers: tuple[str, ...] = ()
    """Tracers whose VOIs are used; none means all that voi.tsv has of the method."""
    demographics: tuple[str, ...] = ("age", "sex", "education")
    """Columns of participants.tsv; those that it lacks are left out and named in the result."""
    prediction: PredictionConfig = field(default_factory=PredictionConfig)


@dataclass(frozen=True)
class Design:
    """Subjects, their outcome and the blocks of features, all in one order."""

    subjects: list[str]
    outcome: Floats
    task: Task
    classes: tuple[str, str] | None
    """What 0 and 1 stand for in a classification."""
    blocks: dict[str, pd.DataFrame]
    """mri, demographics, synthetic:<tracer>, real:<tracer>; index subject."""
    excluded: dict[str, int]
    """How many subjects with an outcome lack each thing that is needed."""
    missing_demographics: list[str]

    def features(self, name: str) -> list[Floats]:
        """The blocks ``(n, p)`` of one of `FEATURE_SETS`."""
        added = f"{name.removeprefix('mri+')}:"
        return [
            frame.to_numpy(np.float64)
            for key, frame in self.blocks.items()
            if key in ("mri", "demographics") or key.startswith(added)
        ]


def make_design(derivative: Path, voi: Path, phenotype: Path, config: DownstreamConfig) -> Design:
    """Join MRI features, demographics, VOI table and phenotype on complete subjects; sessions are averaged.

    Raises InputError, naming file and column, for what is missing, and for fewer than 20 complete subjects.
    """
    outcome, classes = read_outcome(phenotype, config.column)
    mri = mri_feature_table(derivative).drop(columns="session").groupby("subject").mean()
    participants = read_subject_table(Path(derivative) / "participants.tsv")
    demographics = encode_demographics(participants, config.demographics)
    pet = read_pet_blocks(voi, config)
    needed = {"MRI": mri, "row in participants.tsv": demographics, **pet}
    complete = outcome.index
    excluded = {}
    for what, frame in needed.items():
        lacking = outcome.index.difference(frame.index)
        if len(lacking):
            excluded[what] = len(lacking)
        complete = complete.difference(lacking)
    subjects = sorted(complete)
    if len(subjects) < MIN_SUBJECTS:
        reasons = "; ".join(f"{count} lack {what}" for what, count in excluded.items()) or "none lacks a scan"
        raise InputError(
            f"Only {len(subjects)} subjects have {config.column} of {phenotype}, MRI and PET VOIs of each "
            f"tracer ({len(outcome)} have {config.column}; {reasons}); at least {MIN_SUBJECTS} are needed."
        )
    values = outcome.loc[subjects].to_numpy(np.float64)
    task: Task = "regression" if classes is None else "classification"
    _check_outcome(values, task, config.column, phenotype)
    blocks = {"mri": mri, "demographics": demographics, **pet}
    return Design(
        subjects=subjects,
        outcome=values,
        task=task,
        classes=classes,
        # A VOI that some subject lacks (another grid) is left out for all.
        blocks={
            key: frame.loc[subjects] if key == "demographics" else frame.loc[subjects].dropna(axis=1)
            for key, frame in blocks.items()
            if frame.shape[1]
        },
        excluded=excluded,
        missing_demographics=[name for name in config.demographics if name not in participants],
    )


def read_subject_table(path: Path) -> pd.DataFrame:
    """A BIDS table with one row a participant, indexed by label without sub-; raises InputError otherwise."""
    try:
        frame = pd.read_csv(path, sep="\t", dtype={"participant_id": str}, na_values=["n/a"])
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a readable tab-separated table ({error}); correct it.") from error
    if "participant_id" not in frame:
        raise InputError(
            f"{path} lacks the column participant_id (it has: {', '.join(frame.columns)}); "
            "add it, tab-separated."
        )
    frame.index = pd.Index(frame.pop("participant_id").str.removeprefix("sub-"), name="subject")
    twice = frame.index[frame.index.duplicated()]
    if len(twice):
        raise InputError(f"{path} has several rows for sub-{twice[0]}; keep one a participant.")
    return frame


def read_outcome(path: Path, column: str) -> tuple[pd.Series, tuple[str, str] | None]:
    """The outcome by subject, missing ones left out, and the names of 0 and 1 where it has two values.

    Raises InputError for a missing column (naming those there are) and for words with other than two values.
    """
    table = read_subject_table(path)
    if column not in table:
        raise InputError(f"{path} lacks the column {column}; it has: {', '.join(table.columns)}.")
    values = table[column].dropna()
    kinds = sorted(values.unique(), key=str)
    if len(kinds) == 2:
        return values.map({kinds[0]: 0.0, kinds[1]: 1.0}), (str(kinds[0]), str(kinds[1]))
    if not pd.api.types.is_numeric_dtype(values):
        raise InputError(
            f"The column {column} of {path} holds words with {len(kinds)} values; "
            "give numbers, or two values for a classification."
        )
    return values.astype(np.float64), None


def _check_outcome(values: Floats, task: Task, column: str, path: Path) -> None:
    if task == "regression" and values.std() == 0:
        raise InputError(
            f"The column {column} of {path} is {values[0]:g} in every complete subject; choose another."
        )
    if task == "classification":
        rarer = int(min(values.sum(), values.size - values.sum()))
        if rarer < MIN_CLASS:
            raise InputError(
                f"The rarer value of {column} in {path} is seen in {rarer} complete subjects; "
                f"at least {MIN_CLASS} are needed."
            )


def encode_demographics(participants: pd.DataFrame, columns: tuple[str, ...]) -> pd.DataFrame:
    """Numbers as they are (missing ones are imputed in the folds), words as 0/1 columns ``name=value``."""
    chosen = participants[[name for name in columns if name in participants]]
    words = [name for name in chosen if not pd.api.types.is_numeric_dtype(chosen[name])]
    coded = pd.get_dummies(chosen, columns=words, prefix_sep="=", dtype=np.float64)
    return coded.astype(np.float64)


def read_pet_blocks(path: Path, config: DownstreamConfig) -> dict[str, pd.DataFrame]:
    """The target VOIs of voi.tsv by tracer, subjects x VOIs: ``synthetic:<tracer>`` and ``real:<tracer>``."""
    try:
        table = pd.read_csv(path, sep="\t", dtype={"subject": str}, na_values=["n/a"])
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a readable table ({error}); evaluate anew.") from error
    for name in ("subject", "tracer", "method", "voi", "real_suvr", "synth_suvr", "target"):
        if name not in table:
            raise InputError(f"{path} lacks the column {name}; give voi.tsv of an evaluation.")
    methods = sorted(table["method"].unique())
    if config.method not in methods:
        raise InputError(f"{path} has no method {config.method}; it has: {', '.join(methods)}.")
    table = table[(table["method"] == config.method) & table["target"].astype(bool)]
    table["subject"] = table["subject"].str.removeprefix("sub-")
    there = list(dict.fromkeys(table["tracer"]))
    for tracer in config.tracers:
        if tracer not in there:
            raise InputError(f"{path} has no tracer {tracer} of {config.method}; it has: {', '.join(there)}.")
    sides = {"synthetic": "synth_suvr", "real": "real_suvr"}
    return {
        f"{side}:{tracer}": table[table["tracer"] == tracer].pivot(
            index="subject", columns="voi", values=column
        )
        for side, column in sides.items()
        for tracer in config.tracers or there
    }
