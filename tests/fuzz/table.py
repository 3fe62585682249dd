"""The table of cases: by its number alone, which kind of case one is, and how it is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cases
import numpy as np
import rare
from cases import Material
from promise import Call

Kind = Callable[[Path, Material, np.random.Generator], tuple[Call, str]]

ORDER: tuple[Kind, ...] = (
    *(
        cases.synthesize_images,
        cases.synthesize_run,
        cases.train_images,
        cases.train_settings,
        cases.evaluate,
    ),
    *(
        cases.evaluate_beside,
        cases.command_lines,
        cases.resume,
        cases.synthesize_images,
        cases.synthesize_run,
    ),
    *(
        cases.train_settings,
        cases.command_lines,
        cases.import_layout,
        cases.import_weights,
        cases.train_settings,
    ),
    cases.evaluate_beside,
)
"""Kinds of cases of the table, in turn by their number."""
MORE: tuple[Kind, ...] = (
    *(rare.folders, rare.affines, rare.two_faults, rare.parts_of_run, rare.trees, rare.earlier_output),
    *(rare.raw_scans, rare.resumed_settings, rare.folders),
)
"""Kinds that numbers from `BEYOND` on have besides."""
BEYOND = 1000


def make_case(seed: int, root: Path, given: Material) -> tuple[Call, str]:
    """The call of a case, its workspace made below ``root``, and in words what is damaged."""
    order = ORDER if seed < BEYOND else (*ORDER, *MORE)
    kind = order[seed % len(order)]
    call, said = kind(root, given, np.random.default_rng(seed))
    return call, f"{kind.__name__}: {said}"
