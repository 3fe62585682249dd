"""Which volumes are compared: trees matched by visit and tracer, and checked for trained-on subjects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from relapet.errors import InputError
from relapet.evaluation.config import EvaluationConfig
from relapet.evaluation.trees import CEILINGS, TRACER_MEAN, ScanKey, Tree, maps_of, open_trees
from relapet.files import sha256
from relapet.imaging.bids import Visit, VisitFiles, choose_visits, training_mean_path
from relapet.imaging.derivatives import index_measured
from relapet.tracers import TracerSpec, load_tracers


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


def make_plan(real: Path, synthetic: Sequence[Path], config: EvaluationConfig) -> Plan:
    """Match the trees by visit and tracer; of the config: which subjects, and what the trees are called.

    Raises InputError where nothing can be compared, and where a method was trained on a subject's PET.
    """
    if not synthetic:
        raise InputError("No synthetic tree was given; name at least one folder that synthesize wrote.")
    notes: list[str] = []
    index = index_measured(real)
    trees = open_trees(synthetic, config.names, notes)
    index = _chosen(index, real, trees, config)
    real_maps = maps_of(index)
    if not real_maps:
        of_these = " of the chosen participants" if config.participants or config.split else ""
        raise InputError(f"{real} holds no measured SUVr map{of_these}; give a derivative that has them.")
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


def _chosen(
    index: list[VisitFiles], real: Path, trees: Sequence[Tree], config: EvaluationConfig
) -> list[VisitFiles]:
    """The visits of the participants that were named, or of those that every model held out."""
    if config.split is not None:
        index = _of_held_out(index, trees)
    visits = [files.visit for files in index]
    if not visits:  # none of those who were held out is here: the trees have nothing in common
        return []
    chosen = set(choose_visits(visits, config.participants, real, config.sessions))
    return [files for files in index if files.visit in chosen]


def _of_held_out(index: list[VisitFiles], trees: Sequence[Tree]) -> list[VisitFiles]:
    held_out = _held_out(trees)
    if held_out is None:
        raise InputError(
            f"{trees[0].root} does not say whom its model held out; name them in `participants`, or synthesize anew."
        )
    return [files for files in index if files.visit.subject in held_out]


def _held_out(trees: Sequence[Tree]) -> frozenset[str] | None:
    """Labels of those that every model held out; None where no tree says whom."""
    told = [tree.test_participants for tree in trees if tree.test_participants is not None]
    return frozenset.intersection(*told) if told else None


def _order(key: ScanKey) -> tuple[str, str, int]:
    visit, tracer = key
    return visit.subject, visit.session or "", load_tracers()[tracer].index


def _some(items: Iterable[object]) -> str:
    names = sorted(str(item) for item in items)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _refuse_unmatched(
    real: Path, synthetic: Sequence[Path], measured: set[ScanKey], offered: set[ScanKey]
) -> None:
    subjects = [_labels(visit.subject for visit, _ in side) for side in (measured, offered)]
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
    """Raise InputError where any PET of an evaluated subject, at any session, was trained on; names whom to take."""
    if not any(tree.training_checksums for tree in trees):
        return
    digests: dict[str, set[str]] = {}
    for files in index:
        if files.visit.subject in subjects:
            digests.setdefault(files.visit.subject, set()).update(map(sha256, files.pet.values()))
    seen_by = {
        tree.root: {who for who, pet in digests.items() if pet & (tree.training_checksums or frozenset())}
        for tree in trees
    }
    for tree in trees:
        if seen_by[tree.root]:
            raise InputError(
                f"{tree.root} (method {tree.method}) was trained on measured PET of "
                f"{_some(_labels(seen_by[tree.root]))}; {_whom_to_take(trees, subjects.difference(*seen_by.values()))}"
            )


def _whom_to_take(trees: Sequence[Tree], unseen: set[str]) -> str:
    """The mend of a call with subjects that were trained on; ``unseen`` were not."""
    held_out = _held_out(trees)
    if not unseen:
        return "there is no other participant, so synthesize held-out ones first, with `split` test."
    if held_out is not None and unseen <= held_out:
        return f"`split` test takes those that were held out, {_some(_labels(unseen))}."
    return f"name others in `participants`: {_some(_labels(unseen))}."


def _labels(subjects: Iterable[str]) -> set[str]:
    return {f"sub-{subject}" for subject in subjects}


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
