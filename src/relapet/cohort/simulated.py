"""The simulated cohort on disk: the model-ready derivative, its tables, and the truth beside it."""

from __future__ import annotations

import csv
import io
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import relapet
from relapet.cohort.bids import Visit, write_dataset_description
from relapet.cohort.grid import SPACE
from relapet.cohort.nifti import save_volume
from relapet.cohort.simulated_subject import SimulatedSubject, SimulationConfig, simulate_subject
from relapet.cohort.template import atlas_names
from relapet.errors import InputError
from relapet.files import prepare_output_folder, write_json, write_text
from relapet.tracers import TracerSpec, simulated_tracers
from relapet.types import Json

__all__ = ["SimulatedSubject", "SimulationConfig", "simulate_cohort", "simulate_subject"]

_NOTE = "Simulated by relapet; no measurement of a person. Not for clinical use."
_DESCRIPTION = "simulated by relapet"
TRUTH = "truth"


def _sidecar(config: SimulationConfig, subject: SimulatedSubject, **extra: Any) -> Json:
    return {
        "Simulated": True,
        "Description": _NOTE,
        "GeneratedBy": {"Name": "relapet", "Version": relapet.__version__},
        "SimulationSite": config.site.name,
        "SimulationScanner": subject.scanner.name,
        "SimulationSeed": config.seed,
        **extra,
    }


def _save(path: Path, data: Any, config: SimulationConfig, sidecar: Json, dtype: Any = np.float32) -> None:
    save_volume(path, data, config.grid.affine, dtype, _DESCRIPTION)
    write_json(path.with_name(path.name.removesuffix(".nii.gz") + ".json"), sidecar)


def _pet_sidecar(config: SimulationConfig, subject: SimulatedSubject, tracer: TracerSpec, kind: str) -> Json:
    return _sidecar(
        config,
        subject,
        Content=kind,
        TracerName=tracer.ligand,
        Units="arbitrary",
        Measure="SUVR",
        ReferenceRegion=tracer.reference_region.name,
        WindowMinutes=list(tracer.window_minutes),
        PointSpreadFWHM=subject.scanner.psf_fwhm_mm,
        NoiseSeed=config.seed if config.noise_seed is None else config.noise_seed,
    )


def write_subject(config: SimulationConfig, subject: SimulatedSubject, root: Path) -> None:
    """Write one subject's model-ready files under ``root`` and its truth under ``root``/truth."""
    visit, truth, anatomy = Visit(subject.label), root / TRUTH, subject.anatomy
    mri = {"SkullStripped": True, "Units": "arbitrary"}
    _save(visit.t1w(root), subject.t1w, config, _sidecar(config, subject, **mri))
    _save(visit.flair(root), subject.flair, config, _sidecar(config, subject, **mri))
    _save(visit.mask(root), anatomy.brain, config, _sidecar(config, subject, Type="Brain"), np.uint8)
    for name, tracer in simulated_tracers().items():
        if name in subject.missing:
            continue
        pet = subject.pet[name]
        for path, data, kind in (
            (visit.pet(root, tracer), pet.measured, "SUVR with noise, as measured"),
            (visit.pet(truth, tracer, "noisefree"), pet.noise_free, "SUVR without noise"),
            (visit.pet(truth, tracer, "visible"), pet.visible, "SUVR expected from what the MRI can show"),
        ):
            _save(path, data, config, _pet_sidecar(config, subject, tracer, kind))
    folder, stem = visit.folder(truth, "anat"), f"{visit.stem}_space-{SPACE}"
    fractions = {"GM": anatomy.grey, "WM": anatomy.white, "CSF": anatomy.csf, "WMH": subject.lesion}
    for label, fraction in fractions.items():
        # 1/255 is finer than anything known of a fraction, and a quarter of the bytes.
        rounded = np.rint(np.clip(fraction, 0, 1) * 255) / 255
        _save(folder / f"{stem}_label-{label}_probseg.nii.gz", rounded, config, _sidecar(config, subject))
    _save(folder / f"{stem}_desc-dk_dseg.nii.gz", anatomy.dseg, config, _sidecar(config, subject), np.int16)


def participant_row(subject: SimulatedSubject, config: SimulationConfig) -> dict[str, Any]:
    """A row of participants.tsv."""
    latents = subject.latents
    return {
        "participant_id": f"sub-{subject.label}",
        "age": round(float(latents.age), 1),
        "sex": "M" if latents.male else "F",
        "site": config.site.name,
        "scanner": subject.scanner.name,
        "education": int(latents.education),
    }


def cognition_row(subject: SimulatedSubject) -> dict[str, Any]:
    """A row of phenotype/cognition.tsv."""
    scores = subject.latents.cognition
    return {
        "participant_id": f"sub-{subject.label}",
        "memory": round(float(scores["memory"]), 3),
        "executive": round(float(scores["executive"]), 3),
        "mmse": int(scores["mmse"]),
    }


def latents_row(subject: SimulatedSubject) -> dict[str, Any]:
    """A row of truth/latents.tsv: everything that drove the images."""
    latents = subject.latents
    row: dict[str, Any] = {"participant_id": f"sub-{subject.label}"}
    scalars: dict[str, Any] = {
        "age": latents.age,
        "exposure": latents.exposure,
        **{f"{name}_burden": value for name, value in latents.burden.items()},
        **{f"{name}_visible_burden": value for name, value in latents.visible_burden.items()},
        **{f"{name}_visible_liability": value for name, value in latents.visible.items()},
        **{f"{name}_hidden_liability": value for name, value in latents.hidden.items()},
        "lesion_ml": latents.lesion_ml,
        "ventricle_growth": latents.ventricle_growth,
        "cortical_loss": latents.cortical_loss,
        **{f"trait_{name}": value for name, value in latents.traits.items()},
    }
    row |= {name: round(float(value), 6) for name, value in scalars.items()}
    row |= {f"genotype_{gene.replace(' ', '_')}": value for gene, value in subject.genotype.items()}
    row["missing_pet"] = ",".join(subject.missing) or "n/a"
    return row


_COLUMNS: Json = {
    "age": {"Description": "Simulated age", "Units": "years"},
    "sex": {"Description": "Simulated sex", "Levels": {"M": "male", "F": "female"}},
    "site": {"Description": "Simulated site"},
    "scanner": {"Description": "Simulated scanner"},
    "education": {"Description": "Simulated education", "Units": "years"},
}
_SCORES: Json = {
    "MeasurementToolMetadata": {"Description": f"Simulated scores. {_NOTE}"},
    "memory": {"Description": "Simulated memory composite", "Units": "z-score"},
    "executive": {"Description": "Simulated executive composite", "Units": "z-score"},
    "mmse": {"Description": "Simulated Mini-Mental State score, 0 to 30"},
}


def _write_table(path: Path, rows: list[dict[str, Any]], description: Json) -> None:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, stream.getvalue())
    write_json(path.with_suffix(".json"), description)


Rows = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]


def _one_subject(config: SimulationConfig, index: int, root: Path) -> Rows:
    subject = simulate_subject(config, index)
    write_subject(config, subject, root)
    return participant_row(subject, config), cognition_row(subject), latents_row(subject)


def _each_subject(config: SimulationConfig, root: Path, n_procs: int) -> Iterator[tuple[int, Rows]]:
    if n_procs == 1:
        for index in range(config.subjects):
            yield index, _one_subject(config, index, root)
        return
    # spawn: a forked child of a process that has threads (torch, BLAS) may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(n_procs, config.subjects), mp_context=context) as pool:
        jobs = {pool.submit(_one_subject, config, index, root): index for index in range(config.subjects)}
        for job in as_completed(jobs):
            yield jobs[job], job.result()


def simulate_cohort(
    config: SimulationConfig, out: Path, n_procs: int = 1, on_done: Callable[[str], None] | None = None
) -> Path:
    """Write the model-ready derivative of a simulated cohort at ``out``, its truth at ``out``/truth.

    ``on_done`` is called with each participant_id as its files are complete. Returns ``out``; raises
    InputError where the folder cannot be written or already holds subjects.
    """
    root = prepare_output_folder(Path(out))
    if any(root.glob("sub-*")):
        raise InputError(f"{root} already holds subjects; choose an empty folder or delete them first.")
    if n_procs < 1:
        raise InputError(f"--n-procs is {n_procs}; give 1 or more.")
    rows: dict[int, Rows] = {}
    for index, written in _each_subject(config, root, n_procs):
        rows[index] = written
        if on_done is not None:
            on_done(str(written[0]["participant_id"]))
    people, scores, latents = (
        [dict(rows[index][part]) for index in range(config.subjects)] for part in range(3)
    )
    _write_table(root / "participants.tsv", people, {"participant_id": {"Description": _NOTE}, **_COLUMNS})
    _write_table(root / "phenotype" / "cognition.tsv", scores, _SCORES)
    _write_table(
        root / TRUTH / "latents.tsv",
        latents,
        {name: {"Description": f"Simulated latent {name}. {_NOTE}"} for name in latents[0]},
    )
    labels = ["index\tname", *(f"{index}\t{name}" for index, name in sorted(atlas_names().items()))]
    write_text(root / TRUTH / "desc-dk_dseg.tsv", "\n".join(labels) + "\n")
    settings = {"Simulated": True, "Description": _NOTE, "SimulationConfig": _settings(config)}
    write_dataset_description(root, f"relapet simulated cohort ({config.site.name})", [], **settings)
    write_dataset_description(root / TRUTH, "Truth of the relapet simulated cohort", [], **settings)
    return root


def _settings(config: SimulationConfig) -> Json:
    return {
        "Subjects": config.subjects,
        "Grid": config.grid.name,
        "Seed": config.seed,
        "NoiseSeed": config.noise_seed,
        "MissingRate": config.missing_rate,
        "Site": asdict(config.site),
    }
