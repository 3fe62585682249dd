"""Which visits can be trained on, and in which order their items are taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from relapet.data.cache import Cache
from relapet.data.data_config import DataConfig
from relapet.errors import InputError, SubjectError
from relapet.imaging.bids import VisitFiles
from relapet.tracers import TracerSpec, get_tracer


def usable_visits(
    visits: Sequence[VisitFiles], config: DataConfig, on_skip: Callable[[str], None]
) -> list[VisitFiles]:
    """Visits that can be trained on, less the MRI that the model is not to see.

    Each visit left out is reported to ``on_skip`` with its reason. Raises InputError where none is left.
    """
    tracers = [get_tracer(name) for name in config.tracers]
    usable = []
    for found in visits:
        files = replace(
            found,
            t1w=found.t1w if "T1w" in config.inputs else None,
            flair=found.flair if "FLAIR" in config.inputs else None,
        )
        there = {"T1w": files.t1w, "FLAIR": files.flair}
        missing: list[str] = [m for m in config.required_inputs if there[m] is None]
        if not any(there.values()):
            missing = list(config.inputs)
        if files.mask is None:
            missing.append("brain mask")
        if not any(tracer.name in files.pet for tracer in tracers):
            missing.append("PET of " + ", ".join(tracer.name for tracer in tracers))
        if missing:
            on_skip(f"{files.visit.stem} is left out of training: it has no {' and no '.join(missing)}.")
        else:
            usable.append(files)
    if not usable:
        raise InputError(
            "No visit has the T1w, FLAIR, brain mask and PET that training needs; "
            "check the derivative folder and data.tracers."
        )
    return usable


def fill_cache(
    visits: Sequence[VisitFiles],
    tracers: Sequence[TracerSpec],
    cache: Cache,
    on_done: Callable[[str, str | None], None],
) -> list[VisitFiles]:
    """Fill the cache; returns the visits in it. ``on_done`` gets each name, and why it could not be read."""
    good = []
    for files in visits:
        try:
            cache.add(files, tracers)
        except SubjectError as error:
            on_done(files.visit.stem, str(error))
        else:
            good.append(files)
            on_done(files.visit.stem, None)
    if not good:
        raise InputError("No visit could be read for training; mend the files named above.")
    return good


def pick(step: int, slot: int, slots: int, length: int, seed: int) -> int:
    """Index of the pair that fills ``slot`` of ``slots`` at a training step.

    Pairs are shuffled anew each epoch by (seed, epoch), so that the order depends on nothing but the step: a
    resumed run and any number of processes see the same order, and no process ever runs dry.
    """
    epoch, position = divmod(step * slots + slot, length)
    return int(np.random.default_rng((seed, epoch)).permutation(length)[position])
