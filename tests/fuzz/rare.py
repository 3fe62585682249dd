"""Rarer damage, of seeds beyond the table: folders, two faults at once, other affines, outputs of earlier calls."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from cases import (
    TAU,
    Material,
    copy,
    damage,
    mapped,
    some,
    synthesis,
    training,
)
from images import content_truncated, pick, something_else, truncated
from promise import Call
from texts import NASTY

from relapet.imaging.bids import Visit

FILES = (
    *("removed", "renamed", "not UTF-8", "line break", "as .nii too", "res-2 too", "swapped", "upper case"),
    *("of another grid", "link", "junk beside"),
)
AFFINES = (
    *("turned", "sheared", "tiny", "vast", "permuted", "far", "identity", "no codes", "quaternion alone"),
)
LOCKS = ("", "{}", '{"pid": 1}', '{"pid": "x", "host": "y"}', '{"pid": 99999999}', "\x00")
FOLDERS = (
    *(
        "emptied",
        "anat removed",
        "session added",
        "bad session",
        "file instead",
        "nested",
        "twin",
        "link to another",
    ),
    *("blank in name", "derivatives inside", "no longer readable"),
)


def file_of_subject(subject: Path, rng: np.random.Generator) -> tuple[str, Path]:
    """Do to a file of a subject what people do to files; in words, and where it lay."""
    path = some(subject, rng, "*/*.nii.gz")
    kind = str(pick(rng, FILES))
    if kind == "removed":
        path.unlink()
    elif kind == "renamed":
        path.rename(path.with_name(path.name.replace("_space-", "_acq-x_space-")))
    elif kind == "not UTF-8":
        path.rename(Path(os.fsdecode(os.fsencode(path.parent) + b"/sub-02_\xff_T1w.nii.gz")))
    elif kind == "line break":
        path.rename(path.with_name(path.name.replace("_desc", "\n_desc")))
    elif kind == "as .nii too":
        nib.save(nib.load(path), path.with_suffix(""))
    elif kind == "res-2 too":
        shutil.copy(path, path.with_name(path.name.replace("_space", "_res-2_space")))
    elif kind == "swapped":
        other = some(subject, rng, "*/*.nii.gz")
        first, second = path.read_bytes(), other.read_bytes()
        path.write_bytes(second)
        other.write_bytes(first)
    elif kind == "upper case":
        path.rename(path.with_name(path.name.upper()))
    elif kind == "of another grid":
        nib.save(nib.Nifti1Image(np.ones((20, 20, 20), np.float32), np.diag([9.0, 9, 9, 1])), path)
    elif kind == "link":
        target = path.with_name("target.bin")
        path.rename(target)
        path.symlink_to(target.name)
    else:
        for name in (".DS_Store", "Thumbs.db", "._" + path.name, "sub-02_T1w.json"):
            path.with_name(name).write_bytes(b"\x00\x05\x16\x07junk")
    return f"{path.name} {kind}", path


def subject_folder(subject: Path, rng: np.random.Generator) -> str:
    kind = str(pick(rng, FOLDERS))
    if kind == "emptied":
        for path in sorted(subject.rglob("*.*")):
            path.unlink()
    elif kind == "anat removed":
        shutil.rmtree(subject / "anat")
    elif kind == "session added":
        (subject / "ses-1").mkdir()
    elif kind == "bad session":
        (subject / "ses-a_b").mkdir()
    elif kind == "file instead":
        shutil.rmtree(subject)
        subject.write_text("")
    elif kind == "nested":
        shutil.copytree(subject, subject / subject.name)
    elif kind == "twin":
        shutil.copytree(subject, subject.with_name(f"{subject.name} copy"))
    elif kind == "link to another":
        shutil.rmtree(subject)
        subject.symlink_to(subject.with_name("sub-01"))
    elif kind == "blank in name":
        subject.rename(subject.with_name("sub-0 2"))
    elif kind == "derivatives inside":
        shutil.copytree(subject, subject.parent / "derivatives" / "x" / subject.name)
    else:
        subject.joinpath("anat").rename(subject / "ANAT")
    return f"{subject.name} {kind}"


def affine(path: Path, rng: np.random.Generator) -> str:
    image: Any = nib.load(path, mmap=False)
    data = np.asarray(image.dataobj, dtype=np.float32)
    kind = pick(
        rng,
        ("turned", "sheared", "tiny", "vast", "permuted", "far", "identity", "no codes", "quaternion alone"),
    )
    change = {
        "turned": np.array([[0, -1.0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
        "sheared": np.array([[1, 0.9, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
        "tiny": np.diag([1e-3, 1e-3, 1e-3, 1]), "vast": np.diag([1e4, 1e4, 1e4, 1]),
        "permuted": np.eye(4)[[1, 2, 0, 3]], "far": np.eye(4) + np.array([[0, 0, 0, 1e5]] + [[0.0] * 4] * 3),
    }.get(str(kind), np.eye(4))  # fmt: skip
    changed = nib.Nifti1Image(data, np.eye(4) if kind == "identity" else change @ image.affine)
    if kind in ("no codes", "quaternion alone"):
        changed.header["sform_code"] = 0
        changed.header["qform_code"] = int(kind == "quaternion alone")
    nib.save(changed, path)
    return f"{path.name}: affine {kind}"


def folders(root: Path, given: Material, rng: np.random.Generator) -> tuple[Call, str]:
    source, out = copy(given.source, root, "sub-0[4-8]"), root / "out"
    subject = source / "sub-02"
    names: tuple[str, ...] = ("sub-02", "sub-0 2")
    if rng.random() < 0.5:
        said = subject_folder(subject, rng)
    else:
        said, path = file_of_subject(subject, rng)
        names = (*names, path.name)
    if rng.random() < 0.7:
        others = tuple(Visit(label).pet(out, TAU, "synth") for label in ("01", "03"))
        return Call(synthesis(source, given.run, out), out, names, others), said
    single = ("data.test_fraction=0", "data.validation_fraction=0")
    call = training(source, given.settings, out, *single)
    return Call(call, out, names, (out / "manifest.json",)), said


def affines(root: Path, given: Material, rng: np.random.Generator) -> tuple[Call, str]:
    source, out = copy(given.source, root, "sub-0[4-8]"), root / "out"
    path = some(source, rng, "sub-02/anat/*.nii.gz")
    said = affine(path, rng)
    return Call(
        synthesis(source, given.run, out), out, (path.name, "sub-02"), mapped(out, source, path)
    ), said


def two_faults(root: Path, given: Material, rng: np.random.Generator) -> tuple[Call, str]:
    source, out = copy(given.source, root, "sub-0[5-8]"), root / "out"
    paths = [some(source, rng, f"{subject}/anat/*") for subject in ("sub-02", "sub-04")]
    said = "; ".join(damage(path, rng) for path in paths)
    others = tuple(Visit(label).pet(out, TAU, "synth") for label in ("01", "03"))
    return Call(synthesis(source, given.run, out), out, ("sub-02", "sub-04"), others), said


def parts_of_run(root: Path, given: Material, rng: np.random.Generator) -> tuple[Call, str]:
    source, run, out = copy(given.source, root, "sub-0[2-8]"), copy(given.run, root, "cache"), root / "out"
    path = some(run, rng, "*.json", "*.yaml", "weights/*", "weights/*ema*")
    kind = str(pick(rng, ("removed", "another's", "adjustment", "prior", "fitted", "moved")))
    if kind == "removed":
        path.unlink()
    elif kind == "another's":
        shutil.copy(some(run, rng, "*.json", "*.yaml", "weights/*"), run / "x")
        (run / "x").rename(path)
    elif kind == "adjustment":
        path = run / "adjustment.json"
        path.write_text(
            '{"tau": {"trust": ' + str(pick(rng, ("2", "NaN", "null", '"a"', "[]"))) + ', "spread": 1}}'
        )
    elif kind in ("prior", "fitted"):
        path = run / "weights" / f"{kind}.safetensors"
        shutil.copy(run / "weights" / "training_mean.safetensors", path)
    else:
        path.rename(run / path.name.upper())
    names = (path.name, str(run), "weights")
    arguments = [*synthesis(source, run, out)[:-3], "--quiet"]
    return Call(arguments, out, names, mapped(out, source, path)), f"{path.name} {kind}"


def trees(root: Path, given: Material, rng: np.random.Generator) -> tuple[Call, str]:
    """Evaluations of trees that were not meant for each other."""
    folders = (given.source, given.synthetic, given.evaluation, given.run, given.layout, root)
    real, synthetic, other = (pick(rng, folders) for _ in range(3))
    out = root / "out"
    arguments = ["evaluate", str(real), str(synthetic), str(out), "--quiet"]
    if rng.random() < 0.4:
        arguments += ["--compare", str(other)]
    if rng.random() < 0.3:
        arguments += ["--participant-label", str(pick(rng, ("01", "sub-03", "99", "*", "0[1-9]")))]
    if rng.random() < 0.3:
        arguments += ["--outcome", str(pick(rng, ("tau_positivity", "_positivity", "x_positivity")))]
    return Call(arguments, out, ("",), (), True), " ".join(arguments)[-300:]


def earlier_output(root: Path, given: Material, rng: np.random.Generator) -> tuple[Call, str]:
    """An output folder of the same command, of which something is damaged or added."""
    source, out = copy(given.source, root, "sub-0[12678]"), root / "out"
    which = pick(rng, ("synthetic", "evaluation"))
    shutil.copytree(given.synthetic if which == "synthetic" else given.evaluation, out)
    if rng.random() < 0.3:
        lock = out / ".relapet-lock"
        lock.write_text(str(pick(rng, LOCKS)))
        said = f"lock {lock.read_text()!r}"
    else:
        patterns = (
            ("dataset_description.json", "sub-*/pet/*") if which == "synthetic" else ("*.tsv", "summary.json")
        )
        said = damage(some(out, rng, *patterns), rng)
    names = ("out", "lock", "description")
    if which == "synthetic":
        call = [*synthesis(source, given.run, out), "--participant-label", "03", "05"]
        return Call(call, out, names, (Visit("03").pet(out, TAU, "synth"),)), f"{which}: {said}"
    call = ["evaluate", str(given.source), str(given.synthetic), str(out), "--quiet"]
    return Call(call, out, names, (out / "summary.md",), True), f"{which}: {said}"


def raw_scans(root: Path, given: Material, rng: np.random.Generator) -> tuple[Call, str]:
    """A raw data set whose only T1w cannot be read, so that nothing is registered."""
    raw, out = root / "raw", root / "out"
    path = raw / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    path.parent.mkdir(parents=True)
    shutil.copy(next(given.source.glob("sub-01/anat/*T1w.nii.gz")), path)
    damage = pick(rng, (truncated, content_truncated, something_else))
    said = f"{damage.__name__}: {damage(path, rng)}"
    arguments = ["preprocess", str(raw), str(out), "participant", "--grid", "8mm", "--quiet"]
    return Call(arguments, out, (path.name, "sub-01", str(raw)), ()), said


def resumed_settings(root: Path, given: Material, rng: np.random.Generator) -> tuple[Call, str]:
    out = copy(given.run, root)
    name = str(
        pick(rng, ("steps", "seconds", "lr", "seed", "devices", "log_every", "batch_size", "precision", "x"))
    )
    value = str(pick(rng, [v for v in NASTY if isinstance(v, str | int | float) and "\n" not in str(v)]))
    arguments = [
        "train",
        str(given.source),
        str(out),
        "--resume",
        "--quiet",
        "--set",
        f"train.{name}={value}",
    ]
    arguments += ["train.seconds=5"] if name == "steps" else []
    return Call(arguments, out, (name, "train", "setting"), (out / "manifest.json",)), arguments[-1][:80]
