"""Every call that stands in the documents is run, with its own words, on a small cohort and with a small model.

Not those of `ELSEWHERE`, which need more than that and are run where it says.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from documented import ROOT, documented_commands
from relapet.cli import main

pytestmark = pytest.mark.slow

ELSEWHERE = {
    r"^demo": "tests/end_to_end/test_commands.py, and make demo",
    r"^preprocess": "tests/unit/preprocessing/test_pipeline.py: each takes minutes and needs relapet[preprocess]",
    r"^import-weights|run_released": "tests/unit/test_released_run.py: the authors' checkpoint is not ours to ship",
    r"^import-layout": "tests/unit/preprocessing/test_released_layout.py",
    r"--output-space MNI native": "tests/unit/synthesis/test_native.py: needs what preprocess keeps",
    r"--as-scanned": "tests/unit/simulation: at 1 mm a minute each",
    r"--devices": "tests/unit/training: needs several devices",
    r"--phenotype": "tests/unit/evaluation: needs twenty people and more",
    r"florbetapir": "docs/tracers.md: a tracer that a reader adds",
}
TINY_NETWORK = "method.generator={channels: [8, 8], residual_blocks: 1, packed: true}"
SMALL_TRAINING = ("train.steps=2", "train.seconds=null", "train.log_every=1", "data.test_fraction=0.3")
INPUTS = {
    "cohort": ("cohort", "derivatives", "COHORT", "new_derivatives", "bids"),
    "elsewhere": ("other", "other-cohort"),
}
"""Names that the documents give to data sets that one has; those of `elsewhere` hold other people."""


def calls() -> list[str]:
    """Without what is redirected and what is commented."""
    found = {
        call.partition(" > ")[0].partition("   #")[0].removeprefix("relapet ")
        for call in documented_commands()
    }
    return sorted(call for call in found if not any(re.search(part, call) for part in ELSEWHERE))


def smaller(words: Sequence[str]) -> list[str]:
    """The same call with fewer subjects, steps and samples."""
    found = ["8mm" if before == "--grid" else word for before, word in zip(["", *words], words, strict=False)]
    for name, least in (("--subjects", "3"), ("--samples", "2"), ("--n-procs", "1")):
        if name in found:
            found[found.index(name) + 1] = least
    # what a shell would find from the repository, the first of it
    found = [str(min(ROOT.glob(word))) if word.endswith("*.yaml") else word for word in found]
    command = found[0]
    if command == "benchmark":
        i = found.index("--budget-seconds")
        found[i : i + 2] = ["--budget-samples", "3"]
        if "--methods" in found:  # the first and the last of them
            first = found.index("--methods") + 1
            last = next((k for k in range(first, len(found)) if found[k].startswith("--")), len(found))
            del found[first + 1 : last - 1]
        else:
            found += ["--methods", "linear", "tracer_mean"]
        found += ["--samples", "2", "--set", TINY_NETWORK, "--test-fraction", "0.3"]
    if command == "train":
        network = [] if "linear" in found or "--resume" in found else [TINY_NETWORK]
        settings = SMALL_TRAINING[:2] if "--resume" in found else SMALL_TRAINING
        found = [re.sub(r"(data.grid=).*", r"\g<1>8mm", word) for word in found]
        found += [] if "--set" in found else ["--set"]
        at = len(found) if "--dry-run" not in found else found.index("--dry-run")
        found[at:at] = [*network, *settings]
    if command == "synthesize":
        found += ["--samples", "2"] if "--samples" not in found else []
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cohort, two runs, their maps and an evaluation."""
    root = tmp_path_factory.mktemp("documented")
    cohort, run, linear = (str(root / name) for name in ("cohort", "run", "run_linear"))
    assert main(["simulate", cohort, "--subjects", "14", "--grid", "8mm", "--seed", "1", "--quiet"]) == 0
    far = [
        "simulate",
        str(root / "elsewhere"),
        "--subjects",
        "3",
        "--grid",
        "8mm",
        "--site",
        "adni",
        "--seed",
        "2",
    ]
    assert main([*far, "--quiet"]) == 0
    small = ["--set", TINY_NETWORK, *SMALL_TRAINING]
    assert main(["train", cohort, run, "--preset", "fast", "--quiet", *small]) == 0
    assert (
        main(["train", cohort, linear, "--preset", "linear", "--quiet", "--set", *SMALL_TRAINING[-1:]]) == 0
    )
    for model in (run, linear):
        out = model.replace("run", "synthetic")
        call = ["synthesize", cohort, out, "participant", "--model", model, "--split", "test"]
        assert main([*call, "--samples", "2", "--quiet"]) == 0
    assert main(["evaluate", cohort, str(root / "synthetic"), str(root / "evaluation"), "--quiet"]) == 0
    return root


@pytest.fixture
def here(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with all that the documents take as given but what is to be written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for source, names in INPUTS.items():
        for name in names:
            (tmp_path / name).symlink_to(place / source)
    for name, content in (
        ("no_flair", "based_on: fast\ndata: {inputs: [T1w]}\n"),
        ("standard_gan", "based_on: fast\nmethod: {adversarial_weight: 0.01, adversarial_loss: standard}\n"),
        ("settings", "based_on: fast\n"),
    ):
        (tmp_path / f"{name}.yaml").write_text(content, encoding="utf-8")
    return tmp_path


def written_by(words: Sequence[str]) -> str:
    """The name that a call writes to."""
    return words[1] if words[0] == "simulate" else words[3] if words[0] == "evaluate" else words[2]


@pytest.mark.parametrize("call", calls())
def test_a_documented_call_does_what_it_says(call: str, here: Path, place: Path) -> None:
    words = smaller([word.replace("$TMPDIR", str(here)) for word in shlex.split(call)])
    labels = sorted(path.name.removeprefix("sub-") for path in (place / "cohort").glob("sub-*"))
    people = {"sub-01": f"sub-{labels[0]}", "01": labels[0], "02": labels[1]}
    words = [people.get(word, word) for word in words]
    if words[0] == "simulate":
        (here / words[1]).unlink(missing_ok=True)
    given = ["run", "run_linear", "synthetic", "synthetic_linear", "evaluation"]
    for name in given:
        if name in words and (
            "--resume" in words or words[0] in ("report", "info") or name != written_by(words)
        ):
            shutil.copytree(place / name, here / name)
    assert main([*words, "--quiet"] if words[0] != "info" else words) == 0
    if words[0] not in ("info", "report") and "--dry-run" not in words:
        assert (here / written_by(words)).exists()


def test_what_is_run_elsewhere_is_few() -> None:
    every = {call.partition(" > ")[0] for call in documented_commands()}
    assert len(calls()) > 35
    for part in ELSEWHERE:
        assert any(re.search(part, call.removeprefix("relapet ")) for call in every), part
