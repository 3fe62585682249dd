"""What a page says of where its numbers come from, and what a reader must know first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from relapet.types import Json
from relapet.version import VERSION

LEARNED_FROM_SIMULATION = (
    "learned from simulated people, not from patients: it says nothing of a real person."
)

Facts = list[tuple[str, str]]


def cautions(trained_on: Mapping[str, object]) -> list[str]:
    """A sentence for each model, by name, that learned from simulated people."""
    return [
        f"{name or 'The model'} {LEARNED_FROM_SIMULATION}"
        for name, origin in trained_on.items()
        if origin == "simulated"
    ]


def facts(told: Mapping[str, object], command: str | None = None) -> Facts:
    """The version, the call where it is known, and then what is told, without what is None."""
    head: dict[str, object] = {"relapet": VERSION, "Command": command}
    return [(name, plainly(value)) for name, value in (head | dict(told)).items() if value is not None]


def model_facts(model: Json) -> dict[str, object]:
    """What a synthetic data set says of its model (RelapetModel)."""
    return {
        "Model": model.get("Name"),
        "Method": model.get("Method"),
        "SHA-256 of the weights": model.get("WeightsSHA256"),
        "Trained on": model.get("TrainedOn"),
        "Participants trained or validated on": counted(model.get("TrainingParticipants")),
        "Files trained or validated on": counted(model.get("TrainingChecksums")),
    }


def counted(listed: object) -> int | None:
    """The length of a list; None for what is none."""
    return len(listed) if isinstance(listed, list | dict) else None


def plainly(value: object) -> str:
    """A value of a JSON file for a reader."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plainly(part)}" for key, part in value.items())
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(map(plainly, value))
    return str(value)
