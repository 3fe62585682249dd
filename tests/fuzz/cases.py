"""The cases: by its number alone, which command is called on what, and what is damaged."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from images import IMAGES, Damage, pick
from options import bad_option, bad_setting
from promise import Call
from texts import JSON, TABLES, YAML
from weights import ARRAYS, CHECKPOINTS, TENSORS

from relapet.imaging.bids import Visit
from relapet.tracers import get_tracer

TAU = get_tracer("tau")
_BY_ENDING: dict[str, tuple[Damage, ...]] = {
    ".gz": IMAGES, ".nii": IMAGES, ".json": JSON, ".tsv": TABLES, ".yaml": YAML, ".safetensors": TENSORS,
    ".pt": CHECKPOINTS, ".npy": ARRAYS,
}  # fmt: skip


_SYNTHETIC = tuple(
    f"sub-*/pet/*{end}"
    for end in (
        *(
            "synth_mimap.nii.gz",
            "synth_mimap.json",
            "synth_suvr.tsv",
            "synth_suvr.json",
            "synthsamples_suvr.tsv",
        ),
    )
)
"""Files of a synthetic tree that an evaluation reads."""


@dataclass(frozen=True)
class Material:
    """What is copied into the workspace of a case; read only."""

    source: Path
    """A model-ready data set of some participants, with participants.tsv."""
    run: Path
    synthetic: Path
    evaluation: Path
    layout: Path
    settings: Path
    atlas: Path
    """A label image, its table beside it."""
    phenotype: Path


def damage(path: Path, rng: np.random.Generator) -> str:
    damage = pick(rng, _BY_ENDING[path.suffix])
    return f"{path.name}: {damage.__name__}: {damage(path, rng)}"


def copy(source: Path, root: Path, *left_out: str) -> Path:
    target = root / source.name
    if source.is_dir():
        return Path(shutil.copytree(source, target, ignore=shutil.ignore_patterns(*left_out)))
    return Path(shutil.copy(source, target))


def some(root: Path, rng: np.random.Generator, *patterns: str) -> Path:
    """A file of one of the patterns, which is itself drawn, so that rare files have their turn."""
    return Path(pick(rng, sorted(path for path in root.glob(str(pick(rng, patterns))) if path.is_file())))


def mapped(out: Path, source: Path, damaged: Path) -> tuple[Path, ...]:
    """The maps of all participants but those that a damaged file of the source belongs to."""
    labels = sorted(path.name.removeprefix("sub-") for path in source.glob("sub-*"))
    hurt = damaged.relative_to(source).parts[0] if damaged.is_relative_to(source) else ""
    return tuple(Visit(label).pet(out, TAU, "synth") for label in labels if f"sub-{label}" != hurt)


def synthesis(source: Path, run: Path, out: Path) -> list[str]:
    call = ["synthesize", source, out, "participant", "--model", run, "--tracer", "tau", "--steps", 1]
    return [*map(str, call), "--samples", "1", "--quiet"]


def synthesize_images(root: Path, given: Material, rng: np.random.Generator) -> tuple[Call, str]:
    source, run, out = copy(given.source, root, "sub-0[4-8]"), given.run, root / "out"
    path = some(source, rng, "sub-02/anat/*", "sub-02/anat/*T1w*")
    said = damage(path, rng)
    return Call(synthesis(source, run, out), out, (path.name, "sub-02"), mapped(out, source, path)), said


def synthesize_run(root: Path, given: Material, rng: np.random.Generator) -> tuple[Call, str]:
    source, run, out = copy(given.source, root, "sub-0[2-8]"), copy(given.run, root, "cache"), root / "out"
    path = some(run, rng, "manifest.json", "config.yaml", "calibration.json", "weights/*", "weights/*ema*")
    said = damage(path, rng)
    names = (path.name, str(run))
    return Call([*synthesis(source, run, out)[:-3], "--quiet"], out, names, mapped(out, source, path)), said


def training(source: Path, settings: Path, out: Path, *single: str) -> list[str]:
    given = ["train.steps=1", "train.calibrate=false", *single]
    return ["train", str(source), str(out), "--config", str(settings), "--quiet", "--set", *given]


def train_images(root: Path, given: Material, rng: np.random.Generator) -> tuple[Call, str]:
    source, out = copy(given.source, root, "sub-0[5-8]"), root / "out"
    path = some(source, rng, "sub-0*/anat/*", "sub-0*/pet/*", "sub-01/anat/*T1w*", "dataset_description.json")
    said = damage(path, rng)
    names = (path.name, path.relative_to(source).parts[0])
    return Call(training(source, given.settings, out), out, names, (out / "manifest.json",)), said


def train_settings(root: Path, given: Material, rng: np.random.Generator) -> tuple[Call, str]:
    source, out, settings = copy(given.source, root, "sub-0[5-8]"), root / "out", copy(given.settings, root)
    if rng.random() < 0.3:
        said = damage(settings, rng)
        names = (settings.name, ".", "setting")
        single: tuple[str, ...] = ("train.seconds=5",)
    else:
        said = bad_setting(rng)
        # Whatever number of steps it is, it ends soon.
        single = (said, *(["train.seconds=5"] if not said.startswith("train.seconds") else []))
        key = said.partition("=")[0]
        names = (key[:40], key.rpartition(".")[2], key.rpartition(".")[0], said[:30], "key=value", "setting")
    names = tuple(name for name in names if name)
    return Call(training(source, settings, out, *single), out, names, (out / "manifest.json",)), said


def resume(root: Path, given: Material, rng: np.random.Generator) -> tuple[Call, str]:
    source, out = copy(given.source, root), copy(given.run, root)
    patterns = (
        "checkpoint/*.pt",
        "checkpoint/*.pt",
        "config.yaml",
        "manifest.json",
        "cache/*",
        "log.tsv",
        "weights/*",
    )
    path = some(out, rng, *patterns)
    said = damage(path, rng)
    more = ["train.steps=3", "train.seconds=5"]
    arguments = ["train", str(source), str(out), "--resume", "--quiet", "--set", *more]
    return Call(arguments, out, (path.name, str(out), "setting", "."), (out / "manifest.json",)), said


def evaluate(root: Path, given: Material, rng: np.random.Generator) -> tuple[Call, str]:
    source, synthetic, out = copy(given.source, root), copy(given.synthetic, root), root / "out"
    there = sorted(path.name for path in synthetic.glob("sub-*"))
    if rng.random() < 0.25:
        path = some(
            source, rng, f"{there[0]}/pet/*AV1451*", f"{there[0]}/pet/*AV1451*", "dataset_description.json"
        )
    else:
        path = some(synthetic, rng, *_SYNTHETIC, "tpl-*/pet/*.nii.gz", "dataset_description.json")
    said = damage(path, rng)
    names = (path.name, path.name.split("_")[0], "tracer_mean", str(synthetic))
    arguments = ["evaluate", str(source), str(synthetic), str(out), "--quiet"]
    return Call(
        arguments, out, names, (out / "summary.json", out / "summary.md", out / "voi.tsv"), True
    ), said


def evaluate_beside(root: Path, given: Material, rng: np.random.Generator) -> tuple[Call, str]:
    """What an evaluation is given besides trees: atlas, phenotype, participants, another evaluation."""
    source, synthetic, out = copy(given.source, root, "sub-0[1-8]"), given.synthetic, root / "out"
    for folder in synthetic.glob("sub-*"):
        copy(given.source / folder.name, source)
    arguments = ["evaluate", str(source), str(synthetic), str(out), "--quiet"]
    what = pick(rng, ("atlas", "phenotype", "internal"))
    if what == "atlas":
        atlas = copy(given.atlas, root)
        path = pick(rng, (atlas, copy(given.atlas.with_name("atlas.tsv"), root)))
        arguments += ["--atlas", str(atlas)]
    elif what == "phenotype":
        phenotype = copy(given.phenotype, root)
        path = pick(rng, (phenotype, phenotype, source / "participants.tsv"))
        arguments += ["--phenotype", str(phenotype), "--outcome", "memory"]
    else:
        internal = copy(given.evaluation, root, "figures")
        path = some(internal, rng, "image_metrics.tsv", "voi.tsv", "summary.json")
        arguments += ["--internal", str(internal)]
    said = damage(path, rng)
    names = (path.name, "memory", "atlas", "internal")
    return Call(arguments, out, names, (out / "summary.json", out / "voi.tsv"), True), said


def import_layout(root: Path, given: Material, rng: np.random.Generator) -> tuple[Call, str]:
    source, out = copy(given.layout, root), root / "out"
    path = some(source, rng, "A1/*")
    said = damage(path, rng)
    arguments = ["import-layout", str(source), str(out), "--units", "SUVR", "--grid", "8mm", "--quiet"]
    return Call(arguments, out, (path.name, "A1"), (Visit("A2").mask(out),)), said


def import_weights(root: Path, given: Material, rng: np.random.Generator) -> tuple[Call, str]:
    checkpoint, out = root / "step-000000002.pt", root / "out"
    shutil.copy(next((given.run / "checkpoint").iterdir()), checkpoint)
    said = damage(checkpoint, rng)
    return Call(["import-weights", str(checkpoint), str(out), "--quiet"], out, (checkpoint.name,), ()), said


def command_lines(root: Path, given: Material, rng: np.random.Generator) -> tuple[Call, str]:
    source, out = copy(given.source, root, "sub-0[3-8]"), root / "out"
    evaluation = ["evaluate", str(given.source), str(given.synthetic), str(out), "--quiet"]
    line = pick(
        rng,
        (
            synthesis(source, given.run, out),
            ["preprocess", str(root / "nowhere"), str(out), "participant", "--quiet"],
            ["train", str(source), str(out), "--preset", "none", "--quiet"],
            ["import-layout", str(root / "nowhere"), str(out), "--units", "SUVR", "--quiet"],
            ["simulate", str(out), "--grid", "7mm", "--subjects", "1", "--n-procs", "1", "--quiet"],
            [*evaluation, "--outcome", "none"],
            ["info", "presets", "none", "--quiet"],
            ["import-weights", str(given.settings), str(out), "--quiet"],
        ),
    )
    arguments = bad_option(list(line), rng)
    if len(arguments) > 2 and arguments[2] and not Path(arguments[2]).is_absolute():
        out = root / arguments[2]  # as the command takes it
    return Call(arguments, out, ("",), (), True), " ".join(arguments)[-200:]
