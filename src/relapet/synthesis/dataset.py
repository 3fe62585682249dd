"""The data set that synthetic maps are written to: whose it is, and what it says of their model.

`evaluate` refuses to score subjects that a model was trained on by what this description says: so it stands before
any map, and a folder is of one model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from relapet.errors import InputError, SubjectError
from relapet.files import require_empty_or_own, sha256, visible
from relapet.imaging.bids import Visit, training_mean_path, write_dataset_description
from relapet.imaging.derivatives import find_mni_images
from relapet.imaging.descriptions import is_made_by_relapet, read_description
from relapet.imaging.nifti import save_volume
from relapet.messages import Messages, counted
from relapet.synthesis.synthesizer import Synthesizer
from relapet.tracers import TracerSpec
from relapet.types import Json

NOTICE = "Synthetic PET predicted from MRI by a model. Not an acquisition. Not for clinical use."
SIMULATED_NOTICE = "The model learned from simulated people, not from patients."
_MODEL = "RelapetModel"
_SAME = ("WeightsSHA256", "TrainingChecksums")
"""What tells two models apart, whatever their folders are called."""


def require_folder_of_model(out: Path, synthesizer: Synthesizer) -> None:
    """Raise InputError where a folder holds another model's maps, or anything that no model wrote."""
    held = read_description(out).get(_MODEL) if is_made_by_relapet(out) else None
    if visible(out) and isinstance(held, dict):
        own = _model(synthesizer)
        if any(held.get(key) != own[key] for key in _SAME):
            raise InputError(
                f"The output folder {out} holds maps of another model ({held.get('Name', 'without a name')}); choose "
                "another folder."
            )
    require_empty_or_own(out, lambda _: isinstance(held, dict), "relapet synthesize")


def warn_of_trained_on(
    source: Path, visits: Sequence[Visit], synthesizer: Synthesizer, messages: Messages
) -> None:
    """Say how many participants are those that the model was trained or validated on, as their MRI's bytes show."""
    checksums = set(synthesizer.manifest.checksums.values())
    if not checksums:  # imported weights: nothing is known to compare with
        return
    everyone, seen = {visit.subject for visit in visits}, set()
    for visit in visits:
        try:
            found = find_mni_images(source, visit)
            digests = {sha256(path) for path in (found.t1w, found.flair) if path is not None}
        except (SubjectError, OSError):
            continue  # synthesis itself names what it cannot read
        if digests & checksums:
            seen.add(visit.subject)
    if seen:
        messages.warn(
            f"The model was trained or validated on {len(seen)} of the {counted(len(everyone), 'participant')}, so "
            "their maps flatter it and cannot be evaluated; `split` test takes those that were held out."
        )


def write_dataset_files(
    source: Path, out: Path, synthesizer: Synthesizer, tracers: Sequence[TracerSpec]
) -> None:
    """Write the data set's description, and the mean SUVr map of the training subjects for each tracer."""
    manifest, run = synthesizer.manifest, synthesizer.run
    # Imported weights come without training subjects, so there is no mean of them to write.
    mean = run.read_training_mean(manifest) if manifest.split.get("train") else {}
    write_dataset_description(
        out,
        "Synthetic PET by relapet",
        {"source": source},
        Description=" ".join([NOTICE, *([SIMULATED_NOTICE] if manifest.trained_on else [])]),
        **{_MODEL: _model(synthesizer)},
    )
    for tracer in tracers:
        if tracer.name in mean:
            path = training_mean_path(out, tracer)
            save_volume(
                path, mean[tracer.name], synthesizer.grid.affine, description="mean SUVr of training subjects"
            )


def _model(synthesizer: Synthesizer) -> Json:
    manifest = synthesizer.manifest
    return {
        "Name": synthesizer.run.path.resolve().name,
        "Method": manifest.method,
        "WeightsSHA256": synthesizer.weights_sha256,
        **({"TrainedOn": manifest.trained_on} if manifest.trained_on else {}),
        "TrainingParticipants": [*manifest.split.get("train", []), *manifest.split.get("validation", [])],
        "TestParticipants": manifest.split.get("test", []),
        "TrainingChecksums": sorted(set(manifest.checksums.values())),
    }
