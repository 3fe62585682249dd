"""What there is: methods, tracers, presets, samplers, as tables of text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from relapet.errors import InputError
from relapet.files import read_json
from relapet.setting_files import compose, presets
from relapet.settings import meant
from relapet.shipped import shipped_models
from relapet.tracers import get_tracer, load_tracers

Rows = list[tuple[str, ...]]


def listing(topic: str, name: str | None = None) -> Rows:
    """The table of a topic, header first; of one entry where ``name`` is given.

    Raises InputError for an unknown topic or name.
    """
    if topic not in TOPICS:
        raise InputError(f"Unknown topic {topic!r}; choose one of {', '.join(TOPICS)}{meant(topic, TOPICS)}.")
    if topic == "tracers" and name is not None:
        return _tracer(name)
    rows = TOPICS[topic]()
    if name is None:
        return rows
    chosen = [row for row in rows[1:] if row[0] == name]
    if not chosen:
        names = [row[0] for row in rows[1:]]
        raise InputError(
            f"There is no {name!r} among the {topic}; there are: {', '.join(names)}{meant(name, names)}."
        )
    return [rows[0], *chosen]


def _first_line(documented: object) -> str:
    return (documented.__doc__ or "").strip().splitlines()[0]


def _methods() -> Rows:
    from relapet.methods import METHODS  # here, because it imports torch

    return [("method", "what it is"), *((name, _first_line(method)) for name, method in METHODS.items())]


def _samplers() -> Rows:
    from relapet.model.samplers import SAMPLERS

    rows: Rows = [("sampler", "what it is", "order", "network calls in K steps")]
    for name, sampler in SAMPLERS.items():
        each = sampler.calls_a_step
        calls = "K" if each == 1 else f"{each} K - {each - 1}"
        rows.append((name, _first_line(sampler.walk), str(sampler.order), calls))
    return rows


def _models() -> Rows:
    rows: Rows = [("model", "tracers", "grid", "what it is")]
    for name, path in shipped_models().items():
        manifest = read_json(path / "manifest.json")
        told = (path / "README.md").read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        rows.append((name, ", ".join(manifest["tracers"]), manifest["grid"], told))
    return rows


def _presets() -> Rows:
    return [
        ("preset", "method", "what it is"),
        *((name, str(compose(name)["method"]["name"]), _comment(path)) for name, path in presets().items()),
    ]


def _comment(path: Path) -> str:
    """The comment that a file begins with, as one line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    end = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return " ".join(line.lstrip("# ").strip() for line in lines[:end])


def require_preset(name: str) -> None:
    """Raise InputError, naming those there are, for a preset that there is not."""
    compose(name)


def _tracers() -> Rows:
    rows: Rows = [("tracer", "trc-", "ligand", "target", "reference region", "SUVr window")]
    for t in load_tracers().values():
        window = f"{t.suvr_window[0]:g} to {t.suvr_window[1]:g}"
        rows.append((t.name, t.label, t.ligand, t.target, t.reference_region.name, window))
    return rows


def _tracer(name: str) -> Rows:
    spec = get_tracer(name)
    rows: Rows = [("key", "value")]
    for key, value in spec.model_dump(exclude={"simulation": {"uptake"}}).items():
        rows.append((key, _plainly(value)))
    return rows


def _plainly(value: object) -> str:
    """A value for a reader: lists and tables of a file as words."""
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_plainly(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plainly, value))
    return "none" if value is None else " ".join(str(value).split())


TOPICS = {
    "models": _models,
    "methods": _methods,
    "tracers": _tracers,
    "presets": _presets,
    "samplers": _samplers,
}
