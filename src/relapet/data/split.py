"""Subject-level splits: every session and tracer of one subject stays on one side."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np

from relapet.errors import InputError

Part = Literal["train", "validation", "test"]
Split = dict[Part, list[str]]
"""Subject labels of each part, sorted."""


def split_subjects(
    subjects: Iterable[str], validation_fraction: float, test_fraction: float, seed: int
) -> Split:
    """Split subjects at random; each part that is asked for holds at least one.

    Raises InputError where there are too few subjects.
    """
    names = sorted(set(subjects))
    sizes = {
        "validation": max(1, round(validation_fraction * len(names))) if validation_fraction > 0 else 0,
        "test": max(1, round(test_fraction * len(names))) if test_fraction > 0 else 0,
    }
    if len(names) <= sum(sizes.values()):
        raise InputError(
            f"{len(names)} subjects are too few for a split into training, validation and test; "
            "add subjects or set data.validation_fraction and data.test_fraction to 0."
        )
    order = np.random.default_rng(seed).permutation(len(names))
    shuffled = [names[i] for i in order]
    n_test, n_validation = sizes["test"], sizes["validation"]
    return {
        "train": sorted(shuffled[n_test + n_validation :]),
        "validation": sorted(shuffled[n_test : n_test + n_validation]),
        "test": sorted(shuffled[:n_test]),
    }


def check_split(split: Split) -> None:
    """Raise InputError where a subject stands in two parts."""
    seen: dict[str, str] = {}
    for part, names in split.items():
        for name in names:
            if name in seen:
                raise InputError(f"Subject {name} is both in {seen[name]} and in {part}; correct the split.")
            seen[name] = part
