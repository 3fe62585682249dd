"""What a model adds to its prior, and how far its samples lie apart, made true on its validation participants.

Two numbers a tracer. A network trained on few participants claims more than it can keep: of what it adds to the prior,
the share is kept that least squares finds, 0 to 1, so that the map is no worse than the prior on people it was not
trained on. And samples lie about that map by the factor that makes the variance of regional means over samples their
squared error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from relapet.errors import SubjectError
from relapet.imaging.bids import VisitFiles
from relapet.imaging.derivatives import index_measured
from relapet.imaging.template import load_atlas, load_template
from relapet.imaging.template_space import ReadyImages
from relapet.locks import locked
from relapet.messages import Messages
from relapet.run_contents import Adjustment
from relapet.runs import RunFolder
from relapet.settings import changed
from relapet.synthesis.beside import synthesize_beside
from relapet.synthesis.synthesizer import Synthesis, Synthesizer
from relapet.types import Volume

SAMPLES = 8
"""Samples a volume that the spread is fitted from, at least."""
_RANGE = (0.5, 2.0)
"""Of the spread: farther off the model itself is wrong."""
_PRIOR_SCANS = 10
"""Scans that it is worth to believe that the prior knows best and that the spread is right: a few must not decide."""
Floats = npt.NDArray[np.float64]


@dataclass
class _Seen:
    """What one tracer's validation scans say; a row a scan, a column a region."""

    gained: float = 0.0
    """Sum over the template's brain of what the model adds times what the prior leaves."""
    added: float = 0.0
    """Sum over the template's brain of the square of what the model adds."""
    left: list[Floats] = field(default_factory=list)
    """Regional means of measured minus prior, SUVr."""
    told: list[Floats] = field(default_factory=list)
    """Regional means of what the model adds, SUVr."""
    variance: list[Floats] = field(default_factory=list)
    """Of regional means over samples, SUVr squared."""

    def adjustment(self) -> Adjustment:
        n = len(self.left)
        found = min(1.0, max(0.0, self.gained / self.added)) if self.added > 0 else 0.0
        trust = found * n / (n + _PRIOR_SCANS)
        errors = np.square(np.array(self.left) - trust * np.array(self.told)).mean(axis=0)
        variance = np.array(self.variance).mean(axis=0)
        low, high = _RANGE
        ratio = float(np.mean(errors[variance > 0] / variance[variance > 0])) if variance.any() else 1.0
        shrunk = (n * ratio + _PRIOR_SCANS) / (n + _PRIOR_SCANS)
        return Adjustment(trust=trust, spread=min(high, max(low, math.sqrt(shrunk))))


def fit_adjustment(run: RunFolder, derivatives: Path, messages: Messages) -> dict[str, Adjustment]:
    """Fit the two numbers, write them into the run folder and return them by tracer.

    Nothing is written for a method that gives no mean map or has no prior, for a run without validation participants,
    and for one whose output is no SUVr. A scan that cannot be used is left out with a warning. Raises InputError where
    another process writes to the run folder.
    """
    with locked(run.path):
        return _fit(run, derivatives, messages)


def _fit(run: RunFolder, derivatives: Path, messages: Messages) -> dict[str, Adjustment]:
    run.adjustment.unlink(missing_ok=True)
    synthesizer = Synthesizer.from_run(run.path)
    people = synthesizer.manifest.split.get("validation", [])
    if not people or not synthesizer.gives_mean or synthesizer.prior is None or synthesizer.caution:
        return {}
    visits = [files for files in index_measured(derivatives) if files.visit.subject in people]
    seen: dict[str, _Seen] = {}
    with messages.track("adjust", len(visits)) as advance:
        for number, files in enumerate(visits, 1):
            try:
                _look(files, synthesizer, seen)
            except SubjectError as error:
                messages.warn(str(error))
            advance(number, files.visit.stem)
    found = {tracer: facts.adjustment() for tracer, facts in seen.items()}
    if found:
        run.write_adjustment(found)
    return found


def _look(files: VisitFiles, synthesizer: Synthesizer, seen: dict[str, _Seen]) -> None:
    """Add what one visit says of every tracer that it has."""
    sample = changed(synthesizer.sample, {"count": max(SAMPLES, synthesizer.sample.count)})
    both = synthesize_beside(files, synthesizer, sample)
    mri = synthesizer.mri(both.ready, files.visit.stem)
    assert synthesizer.prior is not None
    for name, prior in synthesizer.prior(mri, list(both.made)).items():
        known = np.clip(prior, *synthesizer.tracer(name).suvr_window)
        facts = seen.setdefault(name, _Seen())
        _add(facts, both.ready, both.made[name], known, both.measured[name])


def _add(facts: _Seen, ready: ReadyImages, made: Synthesis, prior: Volume, measured: Volume) -> None:
    atlas = load_atlas(ready.grid)

    def regional(volume: Volume) -> Floats:
        return np.array(list(atlas.means(volume).values()))

    assert made.expected is not None
    added, left = made.expected - prior, measured - prior
    # where maps are judged: beyond the template's brain a network has more to add, and that must not decide
    brain = load_template(ready.grid).brain
    facts.gained += float((added * left)[brain].sum(dtype=np.float64))
    facts.added += float(np.square(added)[brain].sum(dtype=np.float64))
    facts.left.append(regional(left))
    facts.told.append(regional(added))
    facts.variance.append(np.var([regional(volume) for volume in made.samples], axis=0, ddof=1))
