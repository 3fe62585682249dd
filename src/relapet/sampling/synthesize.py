"""From a data set and a trained run to a BIDS derivative of synthetic SUVr maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from relapet.cohort.bids import (
    MniImages,
    Visit,
    find_mni_images,
    find_visits,
    training_mean_path,
    write_dataset_description,
)
from relapet.cohort.grid import SPACE
from relapet.cohort.nifti import load_volume, save_volume
from relapet.cohort.template import load_atlas
from relapet.errors import InputError, SubjectError
from relapet.files import atomic_path, prepare_output_folder, write_json
from relapet.messages import Messages, Silent
from relapet.preprocessing.template_space import bring_to_grid
from relapet.runs import environment, now
from relapet.sampling.config import SampleConfig
from relapet.sampling.synthesizer import Synthesis, Synthesizer
from relapet.tracers import TracerSpec
from relapet.types import Affine

NOTICE = "Synthetic PET predicted from MRI by a model. Not an acquisition. Not for clinical use."
RELATIVE_NOTICE = "Relative uptake, no SUVr: the model was trained on volumes scaled by their own range."


class AddIntervals(Protocol):
    """Adds columns to the VOI table of a tracer, and says what its JSON holds of them."""

    def add(self, tracer: str, table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Any]]:
        """The table with its new columns, and the content of the JSON beside it (empty for none)."""
        ...


@dataclass(frozen=True)
class Request:
    """What is synthesised from whom, and how."""

    synthesizer: Synthesizer
    tracers: Sequence[TracerSpec]
    sample: SampleConfig
    participants: Sequence[str] | None = None
    """Labels, with or without sub-; all where None."""
    intervals: AddIntervals | None = None
    """Intervals of the VOI tables, of a calibration made with the same sampler settings."""


@dataclass(frozen=True)
class Outcome:
    """Which visits were written, and why the others were not."""

    done: tuple[str, ...]
    failed: dict[str, str]
    """Visit to reason."""


def synthesize_dataset(
    source: Path, out: Path, request: Request, messages: Messages | None = None
) -> Outcome:
    """Synthesise every tracer for every visit under ``source``; a visit that fails is named, the others go on.

    Raises InputError where the call as a whole is unusable: nothing is written then.
    """
    messages = messages or Silent()
    visits = choose_visits(find_visits(source), request.participants, source)
    if request.synthesizer.caution:
        messages.warn(request.synthesizer.caution)
    prepare_output_folder(out)
    done, failed = [], {}
    with messages.track("synthesize", len(visits)) as advance:
        for number, visit in enumerate(visits, 1):
            try:
                _synthesize_visit(source, out, visit, request, messages)
                done.append(visit.stem)
            except SubjectError as error:
                failed[visit.stem] = str(error)
                messages.warn(str(error))
            except OSError as error:
                failed[visit.stem] = (
                    f"{visit.stem} could not be written to {out} ({error.strerror}); free some space."
                )
                messages.warn(failed[visit.stem])
            advance(number, visit.stem)
    if done:
        _write_dataset_files(source, out, request.synthesizer, request.tracers)
    return Outcome(tuple(done), failed)


def choose_visits(visits: Sequence[Visit], participants: Sequence[str] | None, source: Path) -> list[Visit]:
    """The visits of the named participants (all where None); raises InputError for a participant not there."""
    if participants is None:
        return list(visits)
    wanted = [label.removeprefix("sub-") for label in participants]
    there = {visit.subject for visit in visits}
    absent = [label for label in wanted if label not in there]
    if absent:
        raise InputError(
            f"{source} has no participant {', '.join(absent)}; it has {', '.join(sorted(there)[:5])} ..."
        )
    return [visit for visit in visits if visit.subject in wanted]


def _synthesize_visit(source: Path, out: Path, visit: Visit, request: Request, messages: Messages) -> None:
    synthesizer, sample = request.synthesizer, request.sample
    found = find_mni_images(source, visit)
    if found.space != SPACE:
        messages.warn(
            f"{visit.stem} is in {found.space}: resampled by affine to {SPACE}, which differs from it by some mm."
        )
    missing = [m for m, p in (("T1w", found.t1w), ("FLAIR", found.flair)) if p is None]
    needed = [m for m in missing if m in synthesizer.manifest.required_inputs]
    if needed:
        raise SubjectError(
            f"{visit.folder(source, 'anat')} has no {' and no '.join(needed)} in space {found.space}, which this model "
            "needs; add it, or use a model trained with data.augment.drop_* above 0."
        )
    t1w, flair, mask = (None if p is None else load_volume(p) for p in (found.t1w, found.flair, found.mask))
    ready = bring_to_grid(t1w, flair, mask, synthesizer.grid, visit.stem)
    if not np.array_equal(ready.fit, np.eye(4)):
        factors = " x ".join(f"{factor:.2f}" for factor in np.diag(ready.fit)[:3])
        messages.warn(
            f"{visit.stem} lies in {found.space} but is not of its size: scaled by {factors} to fit it."
        )
    for tracer in request.tracers:
        synthesis = synthesizer.synthesize(ready, tracer, sample, visit.stem)
        sidecar = _sidecar(source, found, synthesis, synthesizer, sample, ready.fit)
        _write(out, visit, synthesis, sidecar, request.intervals)


def _write(
    out: Path, visit: Visit, synthesis: Synthesis, sidecar: dict[str, Any], intervals: AddIntervals | None
) -> None:
    tracer = synthesis.tracer
    affine = synthesis.grid.affine
    mean_path = visit.pet(out, tracer, "synth")
    save_volume(
        mean_path,
        np.asarray(synthesis.mean.dataobj),
        affine,
        description=f"synthetic {sidecar['Measure']}, not an acquisition",
    )
    write_json(mean_path.with_name(mean_path.name.replace(".nii.gz", ".json")), sidecar)
    if synthesis.sd is not None:
        sd_path = visit.pet(out, tracer, "synthstd")
        save_volume(
            sd_path,
            np.asarray(synthesis.sd.dataobj),
            affine,
            description=f"SD of synthetic {sidecar['Measure']} over samples",
        )
        write_json(
            sd_path.with_name(sd_path.name.replace(".nii.gz", ".json")),
            {**sidecar, "Description": "Standard deviation over the samples"},
        )
    table, samples = _voi_tables(synthesis)
    table_path = visit.voi_table(out, tracer, "synth")
    if intervals is not None:
        table, columns = intervals.add(tracer.name, table)
        if columns:
            write_json(table_path.with_suffix(".json"), columns)
    _write_tsv(table_path, table)
    if len(synthesis.samples) > 1:
        _write_tsv(visit.voi_table(out, tracer, "synthsamples"), samples)


def _voi_tables(synthesis: Synthesis) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The VOI table (mean and SD over samples), and each sample's VOI means."""
    atlas = load_atlas(synthesis.grid)
    names = atlas.names
    per_sample = pd.DataFrame({f"sample-{i}": atlas.means(v) for i, v in enumerate(synthesis.samples)})
    indices = per_sample.index.to_list()
    voxel_mm3 = synthesis.grid.voxel_size**3
    volumes = atlas.volumes_mm3(voxel_mm3)
    head = pd.DataFrame({"index": indices, "name": [names[i] for i in indices]}, index=indices)
    many = len(synthesis.samples) > 1
    table = head.assign(
        mean=per_sample.mean(axis=1),
        sd=per_sample.std(axis=1, ddof=1) if many else float("nan"),
        volume=[volumes[i] for i in indices],
    )
    return table, pd.concat([head, per_sample], axis=1)


def _write_tsv(path: Path, table: pd.DataFrame) -> None:
    with atomic_path(path) as temporary:
        table.to_csv(temporary, sep="\t", index=False, na_rep="n/a", float_format="%.6g")


def _sidecar(
    source: Path,
    found: MniImages,
    synthesis: Synthesis,
    synthesizer: Synthesizer,
    sample: SampleConfig,
    fit: Affine,
) -> dict[str, Any]:
    tracer, manifest = synthesis.tracer, synthesizer.manifest
    there = {"T1w": found.t1w, "FLAIR": found.flair}
    used = {m: path for m, path in there.items() if path is not None and m in manifest.inputs}
    sources = [*used.values(), *([found.mask] if found.mask is not None else [])]
    relative = manifest.pet_scaling == "minmax"
    return {
        "Description": f"{NOTICE} {RELATIVE_NOTICE}" if relative else NOTICE,
        "Synthetic": True,
        "TracerName": tracer.ligand,
        "Units": "arbitrary" if relative else "unitless",
        "Measure": "relative uptake" if relative else "SUVR",
        "ReferenceRegion": tracer.reference_region.name,
        "ReferenceRegionLabels": list(tracer.reference_region.labels),
        "PetScaling": manifest.pet_scaling,
        "RangeMean" if relative else "SuvrWindow": list(tracer.suvr_window),
        "SpatialReference": SPACE,
        "SourceSpace": found.space,
        "SourceToTemplate": fit.round(6).tolist(),
        "Resolution": f"{synthesis.grid.voxel_size} mm isotropic",
        "ModelName": synthesizer.run.path.resolve().name,
        "Method": manifest.method,
        "WeightsSHA256": synthesizer.run.weights_sha256(),
        **({"WeightsOrigin": manifest.origin} if manifest.origin else {}),
        "Inputs": list(used),
        "Sampler": sample.sampler,
        "Steps": sample.steps,
        "Samples": len(synthesis.samples),
        "Seeds": list(synthesis.seeds),
        "Sources": [f"bids:source:{path.relative_to(source).as_posix()}" for path in sources],
        "SoftwareVersions": environment(),
        "Generated": now(),
    }


def _write_dataset_files(
    source: Path, out: Path, synthesizer: Synthesizer, tracers: Sequence[TracerSpec]
) -> None:
    manifest, run = synthesizer.manifest, synthesizer.run
    # Imported weights come without training subjects, so there is no mean of them to write.
    mean = run.read_training_mean() if manifest.split.get("train") else {}
    for tracer in tracers:
        if tracer.name in mean:
            path = training_mean_path(out, tracer)
            save_volume(
                path, mean[tracer.name], synthesizer.grid.affine, description="mean SUVr of training subjects"
            )
    trained_on = [*manifest.split.get("train", []), *manifest.split.get("validation", [])]
    write_dataset_description(
        out,
        "Synthetic PET by relapet",
        [source.resolve().as_uri()],
        DatasetLinks={"source": source.resolve().as_uri()},
        Description=NOTICE,
        RelapetModel={
            "Name": run.path.resolve().name,
            "Method": manifest.method,
            "WeightsSHA256": run.weights_sha256(),
            "TrainingParticipants": trained_on,
            "TrainingChecksums": sorted(set(manifest.checksums.values())),
        },
    )
