"""The authors' released checkpoint as a run folder that synthesis takes."""

from __future__ import annotations

from pathlib import Path

from relapet.config import RunConfig, load_config
from relapet.environment import environment, git_revision, now
from relapet.errors import InputError
from relapet.files import prepare_output_folder, read_json, require_empty_or_own, sha256
from relapet.imaging.grid import SPACE
from relapet.locks import locked
from relapet.methods import build_method
from relapet.model.released_weights import check_fit, read_released_checkpoint, to_present_names
from relapet.run_contents import RUN_FORMAT, Manifest, TracerRecord, tracer_slots
from relapet.runs import RunFolder
from relapet.tracers import get_tracer

RELATIVE_RANGE = (0.0, 1.0)
"""What -1 and 1 of the output stand for: the range of the volumes it was trained on is not in the file."""


def import_weights(checkpoint: Path, folder: Path) -> RunFolder:
    """Write the released checkpoint as a run folder: preset ``released``, 1 mm grid, 1000 ancestral steps.

    The output of such a run is relative uptake from 0 to 1, no SUVr. Raises InputError, before anything is
    written, for a file that is no such checkpoint and for a folder that is in use.
    """
    run = RunFolder(Path(folder))
    if run.path.exists() and not run.path.is_dir():
        raise InputError(f"{run.path} is a file; give a new folder.")
    if run.config.is_file():  # which is written last
        raise InputError(f"The run folder {run.path} is not empty; choose another.")
    config = load_config("released")
    released, epoch = read_released_checkpoint(checkpoint)
    weights = {name: tensor.float() for name, tensor in to_present_names(released).items()}
    origin = f"published release, {Path(checkpoint).name} (SHA-256 {sha256(checkpoint)}), epoch {epoch}"
    manifest = _manifest(config, origin)
    require_empty_or_own(run.path, lambda _: _is_of(run, origin), "relapet import-weights of this checkpoint")
    method = build_method(config.method.model_dump(mode="json"), manifest.facts())
    check_fit(weights, method.networks["generator"].state_dict(), checkpoint)
    prepare_output_folder(run.path)
    with locked(run.path):
        # The manifest first: by it a call that was killed is known again.
        run.write_manifest(manifest)
        run.write_weights({"generator": weights}, {"generator": weights})
        run.write_config(config.model_dump(mode="json"))
    return run


def _is_of(run: RunFolder, origin: str) -> bool:
    try:
        return read_json(run.manifest).get("origin") == origin
    except InputError:
        return False


def _manifest(config: RunConfig, origin: str) -> Manifest:
    specs = sorted((get_tracer(name) for name in config.data.tracers), key=lambda tracer: tracer.index)
    return Manifest(
        run_format=RUN_FORMAT,
        created=now(),
        versions=environment(),
        git_revision=git_revision(),
        method=config.method.name,
        space=SPACE,
        grid="1mm",
        tracers={
            t.name: TracerRecord(label=t.label, index=t.index, suvr_window=RELATIVE_RANGE) for t in specs
        },
        inputs=config.data.inputs,
        required_inputs=config.data.required_inputs,
        mri_scaling=config.data.mri_scaling,
        pet_scaling=config.data.pet_scaling,
        prior=config.data.prior,
        tracer_slots=tracer_slots(specs),
        split={},
        seeds={},
        checksums={},
        origin=origin,
    )
