"""Which volumes are compared: trees matched by visit and tracer, and checked for trained-on subjects."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from relapet.errors import InputError
from relapet.files import read_json, sha256
from relapet.imaging.bids import (
    DESCRIPTION,
    Visit,
    VisitFiles,
    choose_visits,
    index_derivative,
    sidecar_path,
    training_mean_path,
)
from relapet.imaging.derivatives import index_measured
from relapet.settings import shortened
from relapet.tracers import TracerSpec, load_tracers
from relapet.types import Json

TRACER_MEAN = "tracer_mean"
CEILINGS = {"noise_ceiling": "noisefree", "visible_ceiling": "visible"}
"""Name of each ceiling, and the desc- of its maps below ``truth/`` of a simulated cohort."""

_WORD = re.compile(r"[A-Za-z0-9][\w.+-]{0,39}", re.ASCII)
"""What a method may be called."""

ScanKey = tuple[Visit, str]
"""A visit and the name of a tracer."""


@dataclass(frozen=True)
class Tree:
    """One synthetic derivative tree: its method, its maps, and the checksums of the PET it was trained on."""

    root: Path
    method: str
    maps: dict[ScanKey, Path]
    training_checksums: frozenset[str] | None = None
    """None where the tree does not say."""


@dataclass(frozen=True)
class Scan:
    """One measured SUVr map and what each method gives for it."""

    visit: Visit
    tracer: TracerSpec
    real: Path
    synthetic: dict[str, Path]


@dataclass(frozen=True)
class Plan:
    """All that will be scored, in order, and what was left out."""

    scans: list[Scan]
    methods: list[str]
    """Methods under test, then tracer_mean, then the ceilings."""
    trees: list[Tree]
    skipped_tracers: dict[str, str]
    notes: list[str] = field(default_factory=list)


def make_plan(real: Path, synthetic: Sequence[Path], participants: Sequence[str] | None = None) -> Plan:
    """Match the trees by visit and tracer; ``participants`` (labels) restricts the subjects.

    Raises InputError where nothing can be compared, and where a method was trained on a subject's PET.
    """
    if not synthetic:
        raise InputError("No synthetic tree was given; name at least one folder that synthesize wrote.")
    index = _chosen(index_measured(real), real, participants)
    real_maps = _maps(index)
    if not real_maps:
        of_these = " of the chosen participants" if participants else ""
        raise InputError(f"{real} holds no measured SUVr map{of_these}; give a derivative that has them.")
    notes: list[str] = []
    trees = _open_trees(synthetic, notes)
    offered = {key for tree in trees for key in tree.maps}
    keys = sorted(real_maps.keys() & offered, key=_order)
    if not keys:
        _refuse_unmatched(real, synthetic, set(real_maps), offered)
    _refuse_trained_on(trees, index, {visit.subject for visit, _ in keys})

    maps = {tree.method: tree.maps for tree in trees}
    if TRACER_MEAN not in maps:
        maps[TRACER_MEAN] = _tracer_means(trees, keys, notes)
    maps |= _ceilings(Path(real), keys, notes)
    scans = [
        Scan(
            key[0], load_tracers()[key[1]], real_maps[key], {m: maps[m][key] for m in maps if key in maps[m]}
        )
        for key in keys
    ]
    used = [method for method in maps if any(method in scan.synthetic for scan in scans)]
    return Plan(scans, used, trees, _skipped_tracers(real_maps, offered), notes)


def _chosen(index: list[VisitFiles], real: Path, participants: Sequence[str] | None) -> list[VisitFiles]:
    chosen = set(choose_visits([files.visit for files in index], participants, real))
    return [files for files in index if files.visit in chosen]


def _maps(index: Iterable[VisitFiles]) -> dict[ScanKey, Path]:
    return {(files.visit, tracer): path for files in index for tracer, path in files.pet.items()}


def _order(key: ScanKey) -> tuple[str, str, int]:
    visit, tracer = key
    return visit.subject, visit.session or "", load_tracers()[tracer].index


def _open_trees(roots: Sequence[Path], notes: list[str]) -> list[Tree]:
    trees: list[Tree] = []
    names = _method_names([Path(root) for root in roots], notes)
    for root in names:
        maps = _maps(index_derivative(root, "synth"))
        if not maps:
            maps = _maps(index_derivative(root))
            if not maps:
                raise InputError(f"{root} holds no SUVr map (desc-synth or plain); give a synthetic tree.")
            notes.append(f"{root} holds no desc-synth map: its plain SUVr maps are scored as synthetic.")
        model = _model(root)
        method = names[root]
        if method in CEILINGS:
            raise InputError(f"{root} calls its method {method}, a reserved name; rename the method.")
        _check_weights(root, model, maps.values())
        if model.get("TrainedOn") == "simulated":
            notes.append(f"{method} ({root}) learned from simulated people, not from patients.")
        checksums = model.get("TrainingChecksums")
        if checksums is not None and not (
            isinstance(checksums, list) and all(isinstance(digest, str) for digest in checksums)
        ):
            raise InputError(f"{root / DESCRIPTION}: TrainingChecksums is no list of words; write it anew.")
        if checksums is None:
            notes.append(f"{root} does not say on which PET it was trained: leaks by file were not checked.")
        trees.append(Tree(root, method, maps, None if checksums is None else frozenset(checksums)))
    return trees


def _method_names(roots: Sequence[Path], notes: list[str]) -> dict[Path, str]:
    """What each tree's method is called: by its own word, or by the tree's folder where several say the same."""
    said = {root: _said_method(root) or _plain(root.resolve().name) for root in roots}
    often = Counter(said.values())
    names = {root: method for root, method in said.items() if often[method] == 1}
    for root in [root for root in said if root not in names]:
        folder = name = _plain(root.resolve().name)
        number = 1
        while name in names.values() or name in CEILINGS:
            number += 1
            name = f"{folder}-{number}"
        notes.append(f"{root} is called {name}, since other trees are of method {said[root]} too.")
        names[root] = name
    return {root: names[root] for root in said}


def _plain(name: str) -> str:
    """A folder's name as a method's: it stands in tables, pages and names of files."""
    return re.sub(r"[^\w.+-]+", "-", name) or "synthetic"


def _said_method(root: Path) -> str | None:
    said = _model(root).get("Method")
    if said is not None and (not isinstance(said, str) or not _WORD.fullmatch(said)):
        raise InputError(
            f"{root / DESCRIPTION} calls its method {shortened(said)}, which is no word of at most 40 letters, digits, "
            "_, +, - and dots; correct it."
        )
    return said


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


def _some(items: Iterable[object]) -> str:
    names = sorted(str(item) for item in items)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _refuse_unmatched(
    real: Path, synthetic: Sequence[Path], measured: set[ScanKey], offered: set[ScanKey]
) -> None:
    subjects = [{f"sub-{visit.subject}" for visit, _ in side} for side in (measured, offered)]
    where = ", ".join(map(str, synthetic))
    if not subjects[0] & subjects[1]:
        raise InputError(
            f"No subject in common: {real} has {_some(subjects[0])}; {where} has {_some(subjects[1])}; "
            "give trees of the same participants."
        )
    sides = [{f"{visit.stem}_trc-{tracer}" for visit, tracer in side} for side in (measured, offered)]
    raise InputError(
        f"No session and tracer in common: {real} has {_some(sides[0])}; {where} has {_some(sides[1])}; "
        "name the sessions alike."
    )


def _refuse_trained_on(trees: Sequence[Tree], index: Sequence[VisitFiles], subjects: set[str]) -> None:
    """Raise InputError where any PET of an evaluated subject, at any session, was trained on."""
    if not any(tree.training_checksums for tree in trees):
        return
    checksums = {
        path: sha256(path)
        for files in index
        if files.visit.subject in subjects
        for path in files.pet.values()
    }
    for tree in trees:
        seen = {
            f"sub-{files.visit.subject}"
            for files in index
            for path in files.pet.values()
            if checksums.get(path) in (tree.training_checksums or frozenset())
        }
        if seen:
            raise InputError(
                f"{tree.root} (method {tree.method}) was trained on measured PET of {_some(seen)}; "
                "evaluate held-out participants only."
            )


def _tracer_means(trees: Sequence[Tree], keys: Sequence[ScanKey], notes: list[str]) -> dict[ScanKey, Path]:
    found: dict[str, Path] = {}
    for tracer in load_tracers().values():
        paths = [training_mean_path(tree.root, tracer) for tree in trees]
        paths = [path for path in paths if path.is_file()]
        if paths:
            found[tracer.name] = paths[0]
        if len(paths) > 1 and len({sha256(path) for path in paths}) > 1:
            notes.append(f"The training means of {tracer.name} differ; {TRACER_MEAN} is {paths[0]}.")
    if not found:
        notes.append(f"No tree holds the training mean of a tracer: {TRACER_MEAN} is not scored.")
    return {key: found[key[1]] for key in keys if key[1] in found}


def _ceilings(real: Path, keys: Sequence[ScanKey], notes: list[str]) -> dict[str, dict[ScanKey, Path]]:
    truth = real / "truth"
    tracers = load_tracers()
    maps: dict[str, dict[ScanKey, Path]] = {}
    for method, desc in CEILINGS.items():
        paths = {key: key[0].pet(truth, tracers[key[1]], desc) for key in keys}
        maps[method] = {key: path for key, path in paths.items() if path.is_file()}
        missing = len(keys) - len(maps[method])
        if missing == len(keys):
            notes.append(f"{method} is absent: {truth} holds no desc-{desc} map (measured data has none).")
        elif missing:
            notes.append(f"{method} is absent for {missing} of {len(keys)} scans.")
    return maps


def _skipped_tracers(measured: Iterable[ScanKey], offered: Iterable[ScanKey]) -> dict[str, str]:
    real, synthetic = ({tracer for _, tracer in side} for side in (measured, offered))
    skipped = dict.fromkeys(sorted(real - synthetic), "no synthetic map")
    return skipped | dict.fromkeys(sorted(synthetic - real), "no measured map")
