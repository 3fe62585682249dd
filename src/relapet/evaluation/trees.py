"""The synthetic trees under comparison: what each is called, its maps, and what its model was trained on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from relapet.errors import InputError
from relapet.files import read_json
from relapet.imaging.bids import DESCRIPTION, Visit, VisitFiles, index_derivative, sidecar_path
from relapet.settings import shortened
from relapet.types import Json

TRACER_MEAN = "tracer_mean"
CEILINGS = {"noise_ceiling": "noisefree", "visible_ceiling": "visible"}
"""Name of each ceiling, and the desc- of its maps below ``truth/`` of a simulated cohort."""

_WORD = re.compile(r"[A-Za-z0-9][\w.+-]{0,39}", re.ASCII)
"""What a tree may say that its method is called."""

ScanKey = tuple[Visit, str]
"""A visit and the name of a tracer."""


@dataclass(frozen=True)
class Tree:
    """One synthetic derivative tree: its method, its maps, and what its model was trained on."""

    root: Path
    method: str
    maps: dict[ScanKey, Path]
    training_checksums: frozenset[str] | None = None
    """Of the PET that it was trained on; None where the tree does not say."""
    test_participants: frozenset[str] | None = None
    """Labels of those that its training held out; None where the tree does not say."""


def open_trees(roots: Sequence[Path], given_names: Sequence[str], notes: list[str]) -> list[Tree]:
    """Open the trees, called by ``given_names`` where there are any; what a reader must know goes to ``notes``.

    Raises InputError for a tree without maps, of two models, given twice or of a reserved name.
    """
    trees: list[Tree] = []
    names = _method_names(roots, given_names, notes)
    for root, method in names.items():
        maps = maps_of(index_derivative(root, "synth"))
        if not maps:
            maps = maps_of(index_derivative(root))
            if not maps:
                raise InputError(f"{root} holds no SUVr map (desc-synth or plain); give a synthetic tree.")
            notes.append(f"{root} holds no desc-synth map: its plain SUVr maps are scored as synthetic.")
        model = _model(root)
        if method in CEILINGS:
            raise InputError(
                f"{root} calls its method {method}, a reserved name; give another one in `names`."
            )
        _check_weights(root, model, maps.values())
        if model.get("TrainedOn") == "simulated":
            notes.append(f"{method} ({root}) learned from simulated people, not from patients.")
        checksums = _listed(root, model, "TrainingChecksums")
        if checksums is None:
            notes.append(f"{root} does not say on which PET it was trained: leaks by file were not checked.")
        trees.append(Tree(root, method, maps, checksums, _listed(root, model, "TestParticipants")))
    return trees


def _listed(root: Path, model: Json, key: str) -> frozenset[str] | None:
    listed = model.get(key)
    if listed is None:
        return None
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        raise InputError(f"{root / DESCRIPTION}: {key} is no list of words; write it anew.")
    return frozenset(listed)


def maps_of(index: Iterable[VisitFiles]) -> dict[ScanKey, Path]:
    """The SUVr maps of visits, by visit and tracer."""
    return {(files.visit, tracer): path for files in index for tracer, path in files.pet.items()}


def _method_names(roots: Sequence[Path], given: Sequence[str], notes: list[str]) -> dict[Path, str]:
    """What each tree is called: as ``given``, else by its method, with the model and the folder where need be."""
    for what, values in (("The synthetic tree", roots), ("The name", given)):
        twice = [value for value, count in Counter(values).items() if count > 1]
        if twice:
            raise InputError(f"{what} {twice[0]} is given twice; give each once.")
    if given:
        if len(given) != len(roots):
            raise InputError(
                f"`names` has {len(given)} for {len(roots)} synthetic tree{'s' * (len(roots) != 1)}; give one for "
                "each, in their order."
            )
        return dict(zip(roots, given, strict=True))
    spelled = {root: _spellings(root) for root in roots}
    names = {root: spellings[0] for root, spellings in spelled.items()}
    for longer in (1, 2):
        often = Counter(names.values())
        names |= {root: spelled[root][longer] for root in names if often[names[root]] > 1}
    taken: set[str] = set()
    for root in roots:
        name, number = names[root], 1
        while names[root] in taken:
            number += 1
            names[root] = f"{name}-{number}"
        taken.add(names[root])
        if names[root] != spelled[root][0]:
            notes.append(
                f"{root} is called {names[root]}, since other trees are of method {spelled[root][0]} too; --name "
                "gives other names."
            )
    return names


def _spellings(root: Path) -> tuple[str, str, str]:
    """A tree's method, with the name of its model, and with that of its folder; the folder alone where it says none."""
    model, folder = _model(root), _plain(root.resolve().name)
    method = model.get("Method")
    if method is None:
        return folder, folder, folder
    if not isinstance(method, str) or not _WORD.fullmatch(method):
        raise InputError(
            f"{root / DESCRIPTION} calls its method {shortened(method)}, which is no word of at most 40 letters, "
            "digits, _, +, - and dots; correct it."
        )
    return method, f"{method}-{_plain(str(model.get('Name') or folder))}", f"{method}-{folder}"


def _plain(name: str) -> str:
    """A name that tables, pages and names of files can hold."""
    return re.sub(r"[^\w.+-]+", "-", name) or "synthetic"


def _model(root: Path) -> Json:
    path = root / DESCRIPTION
    model = read_json(path).get("RelapetModel", {}) if path.is_file() else {}
    if not isinstance(model, dict):
        raise InputError(f"{path}: RelapetModel is no JSON object; write it anew.")
    return model


def _check_weights(root: Path, model: Json, maps: Iterable[Path]) -> None:
    """Raise InputError for a map of other weights than the tree's description names.

    What it says of the training would not hold for that map, which could be of a subject that was trained on.
    """
    for path in maps:
        beside = sidecar_path(path)
        weights = read_json(beside).get("WeightsSHA256") if beside.is_file() else None
        if weights is not None and weights != model.get("WeightsSHA256"):
            raise InputError(
                f"{path} is of another model than {root / DESCRIPTION} names, or that file is missing; "
                "synthesize into an empty folder."
            )
