"""From a user's tables to what a downstream prediction needs: one row a subject, blocks of features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from relapet.errors import InputError
from relapet.evaluation.downstream.mri_features import mri_feature_table
from relapet.evaluation.downstream.prediction import Task
from relapet.evaluation.tables import as_numbers, read_table
from relapet.tracers import TracerSpec

Floats = npt.NDArray[np.float64]

MIN_SUBJECTS = 20
"""Fewer complete subjects than this cannot carry a nested cross-validation."""
MIN_CLASS = 10
"""Fewest subjects of the rarer class, so that every inner fold has both."""
POSITIVITY = "_positivity"
"""The outcome ``<tracer>_positivity`` is whether the measured composite is above the tracer's threshold."""
FEATURE_SETS = ("mri", "mri+synthetic", "mri+real")
"""(a) MRI VOIs and demographics, (b) the same and synthetic PET VOIs, (c) the same and measured PET VOIs."""


@dataclass(frozen=True)
class Outcome:
    """What is predicted: one value a subject."""

    name: str
    values: pd.Series
    """Index subject; 0 and 1 in a classification."""
    task: Task
    classes: tuple[str, str] | None
    """What 0 and 1 stand for in a classification."""
    source: str
    """Where it is from, for messages."""


@dataclass(frozen=True)
class Background:
    """What is known of the subjects without PET."""

    mri: pd.DataFrame
    """Features of `mri_feature_table`, sessions averaged; index subject."""
    participants: pd.DataFrame
    """participants.tsv; index subject."""
    demographics: tuple[str, ...] = ("age", "sex", "education")
    """Columns of participants.tsv; those that it lacks are left out and named in the result."""


@dataclass(frozen=True)
class Design:
    """Subjects, their outcome and the blocks of features, all in one order."""

    subjects: list[str]
    outcome: Floats
    task: Task
    blocks: dict[str, pd.DataFrame]
    """mri, demographics, synthetic:<tracer>, real:<tracer>; index subject."""
    excluded: dict[str, int]
    """How many subjects with an outcome lack each thing that is needed."""

    def features(self, name: str) -> list[Floats]:
        """The blocks ``(n, p)`` of one of `FEATURE_SETS`."""
        added = f"{name.removeprefix('mri+')}:"
        return [
            frame.to_numpy(np.float64)
            for key, frame in self.blocks.items()
            if key in ("mri", "demographics") or key.startswith(added)
        ]


def read_background(derivative: Path) -> Background:
    """MRI features and demographics of a derivative.

    Raises InputError where participants.tsv or all MRI is missing, VolumeError for MRI that cannot be used.
    """
    participants = read_subject_table(Path(derivative) / "participants.tsv")
    mri = mri_feature_table(derivative).drop(columns="session").groupby("subject").mean()
    return Background(mri, participants)


def make_design(outcome: Outcome, background: Background, voi: pd.DataFrame, method: str) -> Design:
    """Join outcome, MRI features, demographics and PET VOIs (voi.tsv) of a method on complete subjects.

    Raises InputError for fewer than 20 complete subjects and for an outcome that does not vary enough.
    """
    demographics = encode_demographics(background.participants, background.demographics)
    pet = pet_blocks(voi, method)
    needed = {"MRI": background.mri, "row in participants.tsv": demographics, **pet}
    scored = pd.Index(sorted({subject for frame in pet.values() for subject in frame.index}))
    complete = outcome.values.index.intersection(scored)
    excluded = {}
    if len(outcome.values) > len(complete):
        excluded["scores of this evaluation"] = len(outcome.values) - len(complete)
    for what, frame in needed.items():
        lacking = outcome.values.index.intersection(scored).difference(frame.index)
        if len(lacking):
            excluded[what] = len(lacking)
        complete = complete.difference(lacking)
    subjects = sorted(complete)
    if len(subjects) < MIN_SUBJECTS:
        reasons = "; ".join(f"{count} lack {what}" for what, count in excluded.items()) or "none lacks a scan"
        raise InputError(
            f"Only {len(subjects)} subjects have {outcome.name} of {outcome.source}, MRI and PET VOIs of each "
            f"tracer ({len(outcome.values)} have {outcome.name}; {reasons}); at least {MIN_SUBJECTS} are needed."
        )
    values = outcome.values.loc[subjects].to_numpy(np.float64)
    _check_values(values, outcome)
    blocks = {"mri": background.mri, "demographics": demographics, **pet}
    return Design(
        subjects=subjects,
        outcome=values,
        task=outcome.task,
        # A VOI that some subject lacks (another grid) is left out for all.
        blocks={
            key: frame.loc[subjects] if key == "demographics" else frame.loc[subjects].dropna(axis=1)
            for key, frame in blocks.items()
            if frame.shape[1]
        },
        excluded=excluded,
    )


def read_subject_table(path: Path) -> pd.DataFrame:
    """A BIDS table with one row a participant, indexed by label without sub-; raises InputError otherwise."""
    frame = read_table(path, dtype={"participant_id": str})
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


def read_outcome(path: Path, column: str) -> Outcome:
    """A column of a phenotype table, missing values left out; one with two values is a classification.

    Raises InputError for a missing column (naming those there are) and for words with other than two values.
    """
    table = read_subject_table(path)
    if column not in table:
        raise InputError(f"{path} lacks the column {column}; it has: {', '.join(table.columns)}.")
    values = table[column].dropna()
    kinds = sorted(values.unique(), key=str)
    if len(kinds) == 2:
        coded = values.map({kinds[0]: 0.0, kinds[1]: 1.0})
        return Outcome(column, coded, "classification", (str(kinds[0]), str(kinds[1])), str(path))
    if not pd.api.types.is_numeric_dtype(values):
        raise InputError(
            f"The column {column} of {path} holds words with {len(kinds)} values; "
            "give numbers, or two values for a classification."
        )
    return Outcome(column, as_numbers(path, values, "correct it"), "regression", None, str(path))


def positivity_outcome(voi: pd.DataFrame, tracer: TracerSpec) -> Outcome:
    """Whether the measured composite of each subject is above the tracer's threshold; ``voi`` is voi.tsv.

    Raises InputError for a tracer without threshold and for an atlas without its composite.
    """
    rule = tracer.positivity
    rows = voi[(voi["tracer"] == tracer.name) & (voi["kind"] == "composite")]
    rows = rows[rows["voi"] == (rule.composite if rule else "")].drop_duplicates("subject")
    if rule is None or rows.empty:
        raise InputError(f"Positivity of {tracer.name} is unknown: no threshold or no measured composite.")
    values = rows.set_index(rows["subject"].str.removeprefix("sub-"))["real_suvr"] > rule.threshold
    values.index.name = "subject"
    name = f"{tracer.name}{POSITIVITY}"
    source = f"measured {rule.composite} above {rule.threshold:g} SUVr"
    return Outcome(name, values.astype(np.float64), "classification", ("negative", "positive"), source)


def _check_values(values: Floats, outcome: Outcome) -> None:
    named = f"{outcome.name} ({outcome.source})"
    if outcome.task == "regression" and values.std() == 0:
        raise InputError(f"{named} is {values[0]:g} in every complete subject; choose another outcome.")
    if outcome.task == "classification":
        rarer = int(min(values.sum(), values.size - values.sum()))
        if rarer < MIN_CLASS:
            raise InputError(
                f"The rarer value of {named} is seen in {rarer} complete subjects; "
                f"at least {MIN_CLASS} are needed."
            )


def encode_demographics(participants: pd.DataFrame, columns: tuple[str, ...]) -> pd.DataFrame:
    """Numbers as they are (missing ones are imputed in the folds), words as 0/1 columns ``name=value``."""
    chosen = participants[[name for name in columns if name in participants]]
    words = [name for name in chosen if not pd.api.types.is_numeric_dtype(chosen[name])]
    coded = pd.get_dummies(chosen, columns=words, prefix_sep="=", dtype=np.float64)
    return coded.astype(np.float64)


def pet_blocks(voi: pd.DataFrame, method: str) -> dict[str, pd.DataFrame]:
    """The target VOIs of voi.tsv by tracer, subjects x VOIs: ``synthetic:<tracer>`` and ``real:<tracer>``.

    Raises InputError where the table has none of the method.
    """
    table = voi[(voi["method"] == method) & voi["target"].astype(bool)]
    if table.empty:
        raise InputError(
            f"There is no grey-matter VOI of {method}; name the atlas' labels as FreeSurfer does."
        )
    table = table.assign(subject=table["subject"].str.removeprefix("sub-"))
    sides = {"synthetic": "synth_suvr", "real": "real_suvr"}
    return {
        f"{side}:{tracer}": table[table["tracer"] == tracer].pivot(
            index="subject", columns="voi", values=column
        )
        for side, column in sides.items()
        for tracer in dict.fromkeys(table["tracer"])
    }
