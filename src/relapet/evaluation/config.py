"""What an evaluation may be told."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from relapet.evaluation.statistics import Sampling
from relapet.settings import Settings


class EvaluationConfig(Settings):
    """What an evaluation may be told; the defaults are those of the published tables."""

    atlas: Path | None = Field(None, description="label NIfTI in template space instead of Desikan-Killiany")
    atlas_table: Path | None = Field(
        None, description="TSV (index, name) of that atlas; by default the file beside it with the same stem"
    )
    participants: tuple[str, ...] | None = Field(
        None, description="labels of the subjects to score, all by default"
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

    @property
    def sampling(self) -> Sampling:
        """How intervals are drawn."""
        return Sampling(self.bootstrap, self.seed)
