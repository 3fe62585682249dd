"""From a data set and a trained run to a BIDS derivative of synthetic SUVr maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from relapet.environment import environment, now
from relapet.errors import InputError, SubjectError
from relapet.files import prepare_output_folder, refuse_inside
from relapet.imaging.bids import (
    NATIVE_SPACE,
    Visit,
    choose_visits,
    find_visits,
    sidecar_path,
    write_image,
)
from relapet.imaging.derivatives import MniImages, WayBack, find_mni_images, find_way_back
from relapet.imaging.descriptions import read_description
from relapet.imaging.grid import SPACE
from relapet.imaging.nifti import load_volume, open_image, read_voxels
from relapet.imaging.template_space import bring_to_grid
from relapet.imaging.transforms import load_ants
from relapet.messages import Messages, Silent
from relapet.model.samplers import SAMPLERS
from relapet.settings import meant
from relapet.synthesis.dataset import (
    NOTICE,
    SIMULATED_NOTICE,
    require_folder_of_model,
    warn_of_trained_on,
    write_dataset_files,
)
from relapet.synthesis.finished import REQUEST_KEY, is_done, request_sha256
from relapet.synthesis.native import bring_native, native_place
from relapet.synthesis.outputs import AddIntervals, remove_stale, template_place, write_synthesis
from relapet.synthesis.sample_config import SampleConfig
from relapet.synthesis.synthesizer import Synthesis, Synthesizer
from relapet.tracers import TracerSpec
from relapet.types import Affine, Json

OUTPUT_SPACES = ("MNI", "native")
"""Where maps can be written: the model's template grid, and the T1w's own grid."""
SPLITS = ("test", "validation", "train")
"""Participants of a run by what its training did with them: held out, validated on, trained on."""
MEAN_OVER_SAMPLES = "mean over samples"
"""How a sidecar calls a map that depends on how many samples are drawn, and from which noise."""
MEAN_IN_ONE_CALL = "the model's own conditional mean, in one call"
"""How a sidecar calls a map that does not depend on the samples."""
RELATIVE_NOTICE = "Relative uptake, no SUVr: the model was trained on volumes scaled by their own range."


@dataclass(frozen=True)
class Outcome:
    """Which visits were written, and why the others were not."""

    done: tuple[str, ...]
    failed: dict[str, str]
    """Visit to reason."""
    unchanged: tuple[str, ...] = ()
    """Those that an earlier call had written, from the same images with the same model and settings."""


@dataclass(frozen=True)
class Request:
    """What is to be synthesised."""

    tracers: tuple[TracerSpec, ...]
    sample: SampleConfig
    participants: tuple[str, ...] | None = None
    """Labels, with or without sub-; all where None."""
    sessions: tuple[str, ...] | None = None
    """Labels, with or without ses-; all where None."""
    split: str | None = None
    """Of `SPLITS`: those participants of the run's training, in place of ``participants``."""
    spaces: tuple[str, ...] = ("MNI",)
    """Of `OUTPUT_SPACES`."""
    intervals: AddIntervals | None = None
    """Intervals of the VOI tables, of a calibration made with the same sampler settings."""
    force: bool = False
    """Whether to make again what is done and unchanged."""

    def __post_init__(self) -> None:
        if self.split is not None and self.split not in SPLITS:
            near = meant(self.split, SPLITS)
            raise InputError(f"`split` is {self.split!r}; give one of {', '.join(SPLITS)}{near}.")
        if self.split is not None and self.participants is not None:
            raise InputError("`split` and `participants` both say who is synthesized; give one of them.")
        unknown = [space for space in self.spaces if space not in OUTPUT_SPACES]
        if unknown or not self.spaces:
            raise InputError(
                f"--output-space {' '.join(unknown)} is not known; give one or both of {', '.join(OUTPUT_SPACES)} (the "
                f"T1w's own grid){meant(unknown[0], OUTPUT_SPACES) if unknown else ''}."
            )


def synthesize_dataset(
    source: Path, out: Path, synthesizer: Synthesizer, request: Request, messages: Messages | None = None
) -> Outcome:
    """Synthesise every tracer for every visit under ``source``; a visit that fails is named, the others go on.

    Raises InputError where the call as a whole is unusable: nothing is written then.
    """
    messages = messages or Silent()
    visits = choose_visits(find_visits(source), _participants(request, synthesizer), source, request.sessions)
    refuse_inside(out, source)
    _refuse_raw(source, visits)
    require_folder_of_model(out, synthesizer)
    if synthesizer.most_steps is not None and request.sample.steps > synthesizer.most_steps:
        raise InputError(
            f"`steps` is {request.sample.steps}; {synthesizer.run.path} takes {synthesizer.most_steps} at most."
        )
    if "native" in request.spaces:
        _check_native(source, visits)
    if synthesizer.caution:
        messages.warn(synthesizer.caution)
    if request.sample.count > 1 and not synthesizer.method.random:
        messages.warn(
            f"The method {synthesizer.manifest.method} gives one map a tracer, so there is one sample, not "
            f"{request.sample.count}."
        )
    if request.split is None:
        warn_of_trained_on(source, visits, synthesizer, messages)
    prepare_output_folder(out)
    write_dataset_files(source, out, synthesizer, request.tracers)
    done: list[str] = []
    unchanged: list[str] = []
    failed: dict[str, str] = {}
    with messages.track("synthesize", len(visits)) as advance:
        for number, visit in enumerate(visits, 1):
            try:
                wrote = _synthesize_visit(source, out, visit, synthesizer, request, messages)
                (done if wrote else unchanged).append(visit.stem)
            except SubjectError as error:
                failed[visit.stem] = str(error)
                messages.warn(str(error))
            except OSError as error:
                failed[visit.stem] = (
                    f"{visit.stem} could not be written to {out} ({error.strerror}); free some space."
                )
                messages.warn(failed[visit.stem])
            advance(number, visit.stem)
    return Outcome(tuple(done), failed, tuple(unchanged))


def _participants(request: Request, synthesizer: Synthesizer) -> Sequence[str] | None:
    if request.split is None:
        return request.participants
    participants = synthesizer.manifest.split.get(request.split)
    if not participants:
        raise InputError(
            f"{synthesizer.run.manifest} names no {request.split} participant under split; name participants instead."
        )
    return participants


def _refuse_raw(source: Path, visits: Sequence[Visit]) -> None:
    """Refuse a raw data set as a whole, rather than say of each visit that it has no image in an MNI space."""
    if read_description(source).get("DatasetType", "raw") != "raw":
        return
    for visit in visits:
        try:
            find_mni_images(source, visit)
        except SubjectError:
            continue
        return
    raise InputError(
        f"{source} holds raw scans, none in an MNI space (space-MNI...); run relapet preprocess on it and give "
        "what that writes."
    )


def _check_native(source: Path, visits: Sequence[Visit]) -> None:
    """Refuse native space where no visit at all has a way back to its T1w, and where ANTsPy is missing."""
    for visit in visits:
        try:
            find_way_back(source, visit, find_mni_images(source, visit).space)
        except SubjectError:
            continue
        load_ants()
        return
    raise InputError(
        f"{source} keeps no transform from an MNI space to any visit's T1w (from-MNI..._to-T1w_mode-image_xfm.h5), so "
        "nothing can be written in native space; give a derivative of relapet preprocess, or leave native out of "
        "--output-space."
    )


def _synthesize_visit(
    source: Path, out: Path, visit: Visit, synthesizer: Synthesizer, request: Request, messages: Messages
) -> bool:
    """Write the maps of a visit's tracers, but those that are done and unchanged; whether any was to be written."""
    found = find_mni_images(source, visit)
    _require_inputs(source, found, synthesizer)
    back = find_way_back(source, visit, found.space) if "native" in request.spaces else None
    decided_by = request_sha256(synthesizer, request.sample, request.spaces, _files_read(found, back))
    tracers = [
        tracer
        for tracer in request.tracers
        if request.force or not is_done(out, visit, tracer, request.spaces, decided_by)
    ]
    if not tracers:
        return False
    if found.space != SPACE:
        messages.warn(
            f"{visit.stem} is in {found.space}: resampled by affine to {SPACE}, which differs from it by some mm."
        )
    t1w, flair, mask = (None if p is None else load_volume(p) for p in (found.t1w, found.flair, found.mask))
    ready = bring_to_grid(t1w, flair, mask, synthesizer.grid, visit.stem)
    if not np.array_equal(ready.fit, np.eye(4)):
        factors = " x ".join(f"{factor:.2f}" for factor in np.diag(ready.fit)[:3])
        messages.warn(
            f"{visit.stem} lies in {found.space} but is not of its size: scaled by {factors} to fit it."
        )
    native = None if back is None else native_place(back, ready.fit, _uri(source, back.t1w))
    for synthesis in synthesizer.synthesize(ready, tracers, request.sample, visit.stem).values():
        sidecar = _sidecar(source, found, synthesis, synthesizer, request.sample, ready.fit)
        sidecar[REQUEST_KEY] = decided_by
        written: set[Path] = set()
        if "MNI" in request.spaces:
            place = template_place(synthesizer.grid)
            written |= write_synthesis(out, visit, synthesis, place, sidecar, request.intervals)
        if back is not None and native is not None:
            more = [_uri(source, path) for path in (back.t1w, back.transform, back.mask)]
            own = {**sidecar, "Sources": [*sidecar["Sources"], *more]}
            moved = bring_native(synthesis, back, ready.fit)
            written |= write_synthesis(out, visit, moved, native, own, request.intervals)
        remove_stale(out, visit, synthesis.tracer, written)
    mask = visit.mask(out, NATIVE_SPACE)
    if back is not None:
        _write_native_mask(source, mask, back)
    else:
        for path in (mask, sidecar_path(mask)):
            path.unlink(missing_ok=True)
    return True


def _files_read(found: MniImages, back: WayBack | None) -> list[Path]:
    there = [path for path in (found.t1w, found.flair, found.mask) if path is not None]
    return there if back is None else [*there, back.t1w, back.mask, back.transform]


def _require_inputs(source: Path, found: MniImages, synthesizer: Synthesizer) -> None:
    missing = [m for m, p in (("T1w", found.t1w), ("FLAIR", found.flair)) if p is None]
    needed = [m for m in missing if m in synthesizer.manifest.required_inputs]
    if needed:
        raise SubjectError(
            f"{found.visit.folder(source, 'anat')} has no {' and no '.join(needed)} in space {found.space}, which "
            "this model needs; add it, or use a model trained with data.augment.drop_* above 0."
        )


def _write_native_mask(source: Path, target: Path, back: WayBack) -> None:
    image = open_image(back.mask)
    sources = {"SpatialReference": _uri(source, back.t1w), "Sources": [_uri(source, back.mask)]}
    inside = read_voxels(back.mask, image) > 0.5
    write_image(target, inside, image.affine, {"Type": "Brain", **sources}, code=1)


def _uri(source: Path, path: Path) -> str:
    return f"bids:source:{path.relative_to(source).as_posix()}"


def _sidecar(
    source: Path,
    found: MniImages,
    synthesis: Synthesis,
    synthesizer: Synthesizer,
    sample: SampleConfig,
    fit: Affine,
) -> Json:
    tracer, manifest = synthesis.tracer, synthesizer.manifest
    there = {"T1w": found.t1w, "FLAIR": found.flair}
    used = {m: path for m, path in there.items() if path is not None and m in manifest.inputs}
    sources = [*used.values(), *([found.mask] if found.mask is not None else [])]
    relative = manifest.pet_scaling == "minmax"
    notices = {NOTICE: True, RELATIVE_NOTICE: relative, SIMULATED_NOTICE: manifest.trained_on is not None}
    return {
        "Description": " ".join(notice for notice, holds in notices.items() if holds),
        "Synthetic": True,
        **({"TrainedOn": manifest.trained_on} if manifest.trained_on else {}),
        "TracerName": tracer.ligand,
        "Units": "arbitrary" if relative else "unitless",
        "Measure": "relative uptake" if relative else "SUVR",
        "ReferenceRegion": tracer.reference_region.name,
        "ReferenceRegionLabels": list(tracer.reference_region.labels),
        "PetScaling": manifest.pet_scaling,
        "RangeMean" if relative else "SuvrWindow": list(tracer.suvr_window),
        "SourceSpace": found.space,
        "SourceToTemplate": fit.round(6).tolist(),
        "ModelResolution": f"{synthesizer.grid.voxel_size} mm isotropic",
        "ModelName": synthesizer.run.path.resolve().name,
        "Method": manifest.method,
        "WeightsSHA256": synthesizer.weights_sha256,
        **({"WeightsOrigin": manifest.origin} if manifest.origin else {}),
        "Inputs": list(used),
        **(_walk(sample, synthesizer) if synthesizer.takes_sampler else {}),
        **({"Seeds": list(synthesis.seeds)} if synthesizer.method.random else {}),
        "Samples": len(synthesis.samples),
        "MeanBy": MEAN_OVER_SAMPLES if synthesis.expected is None else MEAN_IN_ONE_CALL,
        "Sources": [_uri(source, path) for path in sources],
        "SoftwareVersions": environment(*(() if synthesizer.backend == "torch" else (synthesizer.backend,))),
        "Generated": now(),
    }


def _walk(sample: SampleConfig, synthesizer: Synthesizer) -> Json:
    return {
        "Sampler": sample.sampler,
        "Steps": sample.steps,
        "NetworkCalls": SAMPLERS[sample.sampler].calls(sample.steps) - synthesizer.method.knows_start,
        **({"Eta": sample.eta} if sample.eta else {}),
    }
