"""What a run tells its model of each PET before it looks: the training mean, or the linear prior."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from relapet.errors import InputError
from relapet.prior.fitted import FittedPrior
from relapet.run_contents import Manifest, check_maps
from relapet.runs import RunFolder
from relapet.types import Volume

Prior = Callable[[Volume, Sequence[str]], dict[str, Volume]]
"""SUVr ``(X, Y, Z)`` expected of each named tracer, from the scaled MRI ``(2, X, Y, Z)``."""


def read_prior(run: RunFolder, manifest: Manifest) -> Prior | None:
    """The prior that a run was trained with, None for none; raises InputError where its file cannot be read."""
    if manifest.prior == "linear":
        try:
            prior = FittedPrior.from_arrays(run.read_prior())
        except InputError as error:
            text = str(error)
            raise error if str(run.prior) in text else InputError(f"{run.prior}: {text}") from error
        check_maps(run.prior, prior.mean, manifest)
        return lambda mri, tracers: prior.predict_all(mri, tuple(tracers))
    if manifest.prior == "mean":
        mean = run.read_training_mean(manifest)
        return lambda mri, tracers: {tracer: mean[tracer] for tracer in tracers}
    return None
