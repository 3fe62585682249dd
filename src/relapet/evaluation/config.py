"""What an evaluation may be told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from relapet.evaluation.statistics import Sampling
from relapet.settings import Settings, shortened

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{,59}")
"""What a tree may be called: its name stands in tables, on figures and in the names of files."""


class EvaluationConfig(Settings):
    """What an evaluation may be told; the defaults are those of the published tables."""

    atlas: Path | None = Field(None, description="label NIfTI in template space instead of Desikan-Killiany")
    atlas_table: Path | None = Field(
        None, description="TSV (index, name) of that atlas; by default the file beside it with the same stem"
    )
    participants: tuple[str, ...] | None = Field(
        None, description="labels of the subjects to score, all by default"
    )
    sessions: tuple[str, ...] | None = Field(
        None, description="labels of the sessions to score, all by default"
    )
    split: Literal["test"] | None = Field(
        None, description="test: score those whom the training of every model held out"
    )
    names: tuple[str, ...] = Field(
        (), description="what the synthetic trees are called, one each; their methods by default"
    )
    phenotype: Path | None = Field(
        None, description="TSV (participant_id and any columns) with outcomes to predict"
    )
    outcomes: tuple[str, ...] = Field(
        (),
        description="columns of it, or <tracer>_positivity, which are predicted from MRI, with synthetic, with "
        "measured PET",
    )
    internal: Path | None = Field(
        None,
        description="evaluation of the same methods on another cohort, whose scores these are compared with",
    )
    bootstrap: int = Field(2000, ge=1, description="bootstrap samples of subjects for every interval")
    permutations: int = Field(
        5000, ge=1, description="permutations of the test whether PET adds to a prediction"
    )
    seed: int = Field(0, ge=0, description="seed of bootstrap, folds and permutations")

    @field_validator("names")
    @classmethod
    def _can_be_written(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not _NAME.fullmatch(name):
                raise ValueError(
                    f"{shortened(name)} is no name; give 1 to 60 letters, digits, spaces, dots, _, + or -, beginning "
                    "with a letter or digit"
                )
        return names

    @model_validator(mode="after")
    def _choose_once(self) -> Self:
        if self.participants is not None and self.split is not None:
            raise ValueError("`split` and `participants` both say who is scored; give one of them")
        return self

    @property
    def sampling(self) -> Sampling:
        """How intervals are drawn."""
        return Sampling(self.bootstrap, self.seed)
