"""The simulated cohort on disk: the model-ready derivative, its tables, and the truth beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from relapet.imaging.bids import DESCRIPTION, Visit, write_dataset_description, write_image, write_table
from relapet.imaging.grid import SPACE
from relapet.imaging.template import atlas_names
from relapet.processes import each_index
from relapet.simulation.folder import SETTINGS, simulation_folder
from relapet.simulation.subject import SimulatedSubject, SimulationConfig, simulate_subject
from relapet.simulation.tables import (
    COGNITION_COLUMNS,
    NOTE,
    PARTICIPANT_COLUMNS,
    cognition_row,
    latents_row,
    participant_row,
)
from relapet.tracers import TracerSpec, simulated_tracers
from relapet.types import Json
from relapet.version import VERSION

__all__ = ["SimulatedSubject", "SimulationConfig", "simulate_cohort", "simulate_subject"]

_DESCRIPTION = "simulated by relapet"
TRUTH = "truth"


def _sidecar(config: SimulationConfig, subject: SimulatedSubject, **extra: Any) -> Json:
    return {
        "Simulated": True,
        "Description": NOTE,
        "GeneratedBy": {"Name": "relapet", "Version": VERSION},
        "SimulationSite": config.site.name,
        "SimulationScanner": subject.scanner.name,
        "SimulationSeed": config.seed,
        **extra,
    }


def _save(path: Path, data: Any, config: SimulationConfig, sidecar: Json) -> None:
    write_image(path, data, config.grid.affine, sidecar, _DESCRIPTION)


def _pet_sidecar(config: SimulationConfig, subject: SimulatedSubject, tracer: TracerSpec, kind: str) -> Json:
    return _sidecar(
        config,
        subject,
        Content=kind,
        TracerName=tracer.ligand,
        Units="unitless",
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
    _save(visit.mask(root), anatomy.brain, config, _sidecar(config, subject, Type="Brain"))
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
    fractions = {"GM": anatomy.grey, "WM": anatomy.white, "CSF": anatomy.csf, "WMH": subject.lesion}
    for label, fraction in fractions.items():
        # 1/255 is finer than anything known of a fraction, and a quarter of the bytes.
        rounded = np.rint(np.clip(fraction, 0, 1) * 255) / 255
        path = visit.path(truth, "anat", "probseg", space=SPACE, label=label)
        _save(path, rounded, config, _sidecar(config, subject))
    path = visit.path(truth, "anat", "dseg", space=SPACE, desc="dk")
    _save(path, anatomy.dseg.astype(np.int16), config, _sidecar(config, subject))


Rows = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]


def _one_subject(config: SimulationConfig, root: Path, index: int) -> Rows:
    subject = simulate_subject(config, index)
    write_subject(config, subject, root)
    return participant_row(subject, config), cognition_row(subject), latents_row(subject)


def simulate_cohort(
    config: SimulationConfig, out: Path, n_procs: int = 1, on_done: Callable[[str], None] | None = None
) -> Path:
    """Write the model-ready derivative of a simulated cohort at ``out``, its truth at ``out``/truth.

    ``on_done`` is called with each participant_id as its files are complete. Returns ``out``; raises
    InputError where the folder cannot be written, is in use or holds anything but what a killed call with the same
    settings left.
    """
    settings: Json = {"Simulated": True, "Description": NOTE, SETTINGS: simulation_settings(config)}
    truth = Path(out) / TRUTH
    with simulation_folder(Path(out), settings[SETTINGS], truth / DESCRIPTION) as root:
        write_dataset_description(root, f"relapet simulated cohort ({config.site.name})", {}, **settings)
        rows: dict[int, Rows] = {}
        for index, written in each_index(partial(_one_subject, config, root), config.subjects, n_procs):
            rows[index] = written
            if on_done is not None:
                on_done(str(written[0]["participant_id"]))
        _write_tables(root, [rows[index] for index in range(config.subjects)])
        write_dataset_description(truth, "Truth of the relapet simulated cohort", {}, **settings)
        return root


def _write_tables(root: Path, rows: list[Rows]) -> None:
    people, scores, latents = ([dict(row[part]) for row in rows] for part in range(3))
    write_table(root / "participants.tsv", pd.DataFrame(people), PARTICIPANT_COLUMNS)
    write_table(root / "phenotype" / "cognition.tsv", pd.DataFrame(scores), COGNITION_COLUMNS)
    described = {name: {"Description": f"Simulated latent {name}. {NOTE}"} for name in latents[0]}
    write_table(root / TRUTH / "latents.tsv", pd.DataFrame(latents), described)
    labels = pd.DataFrame(sorted(atlas_names().items()), columns=["index", "name"])
    write_table(root / TRUTH / "desc-dk_dseg.tsv", labels)


def simulation_settings(config: SimulationConfig) -> Json:
    """All that decides a cohort, as its description holds it."""
    return {
        "Subjects": config.subjects,
        "Grid": config.grid.name,
        "Seed": config.seed,
        "NoiseSeed": config.noise_seed,
        "MissingRate": config.missing_rate,
        "Site": asdict(config.site),
    }
