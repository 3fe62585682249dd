"""The tables of a simulated cohort: participants, cognition, latents."""

from __future__ import annotations

from typing import Any

from relapet.simulation.subject import SimulatedSubject, SimulationConfig
from relapet.types import Json

NOTE = "Simulated by relapet; no measurement of a person. Not for clinical use."
PARTICIPANT_COLUMNS: Json = {
    "participant_id": {"Description": NOTE},
    "age": {"Description": "Simulated age", "Units": "years"},
    "sex": {"Description": "Simulated sex", "Levels": {"M": "male", "F": "female"}},
    "site": {"Description": "Simulated site"},
    "scanner": {"Description": "Simulated scanner"},
    "education": {"Description": "Simulated education", "Units": "years"},
}
COGNITION_COLUMNS: Json = {
    "MeasurementToolMetadata": {"Description": f"Simulated scores. {NOTE}"},
    "memory": {"Description": "Simulated memory composite", "Units": "z-score"},
    "executive": {"Description": "Simulated executive composite", "Units": "z-score"},
    "mmse": {"Description": "Simulated Mini-Mental State score, 0 to 30"},
}


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
