"""What a run tells its model of each PET before it looks: the training mean, or the linear prior."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from relapet.prior.fitted import FittedPrior
from relapet.runs import Manifest, RunFolder
from relapet.types import Volume

Prior = Callable[[Volume, Sequence[str]], dict[str, Volume]]
"""SUVr ``(X, Y, Z)`` expected of each named tracer, from the scaled MRI ``(2, X, Y, Z)``."""


def read_prior(run: RunFolder, manifest: Manifest) -> Prior | None:
    """The prior that a run was trained with, None for none; raises InputError where its file cannot be read."""
    if manifest.prior == "linear":
        prior = FittedPrior.from_arrays(run.read_prior())
        return lambda mri, tracers: prior.predict_all(mri, tuple(tracers))
    if manifest.prior == "mean":
        mean = run.read_training_mean()
        return lambda mri, tracers: {tracer: mean[tracer] for tracer in tracers}
    return None
