"""Every command keeps its promise whatever it is given: status, one sentence, others done, nothing half-written.

A case follows from its seed alone. One that fails names it: run it by itself with
``FUZZ_SEEDS=17:18 python -m pytest tests/fuzz``; ``FUZZ_SEEDS=5000:6000`` runs a thousand others.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cases import Material
from promise import breaches, contents, run
from table import make_case

_FIRST, _, _LAST = os.environ.get("FUZZ_SEEDS", "0:320").partition(":")
SEEDS = range(int(_FIRST), int(_LAST or int(_FIRST) + 1))


@pytest.fixture(scope="session")
def material(
    toy_source: Path,
    tiny_run: Path,
    synthetic: Path,
    flat_layout: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Material:
    import shutil

    import nibabel as nib
    import numpy as np
    import pandas as pd

    from relapet.api import evaluate
    from relapet.evaluation.config import EvaluationConfig
    from relapet.imaging.template import atlas_names, load_atlas
    from support import TINY, TOY_GRID

    root = tmp_path_factory.mktemp("material")
    source = Path(shutil.copytree(toy_source, root / "source"))
    people = [path.name for path in sorted(source.glob("sub-*"))]
    pd.DataFrame(
        {"participant_id": people, "age": range(60, 60 + len(people)), "sex": ["F", "M"] * 4}
    ).to_csv(source / "participants.tsv", sep="\t", index=False)
    phenotype = root / "scores.tsv"
    memory = pd.DataFrame({"participant_id": people, "memory": np.arange(len(people)) / 7})
    memory.to_csv(phenotype, sep="	", index=False)
    nib.save(
        nib.Nifti1Image(load_atlas(TOY_GRID).labels.astype(np.int16), TOY_GRID.affine), root / "atlas.nii.gz"
    )
    names = pd.DataFrame(sorted(atlas_names().items()), columns=["index", "name"])
    names.to_csv(root / "atlas.tsv", sep="\t", index=False)
    layout = Path(shutil.copytree(flat_layout, root / "flat"))
    shutil.copy(layout / "A1" / "A1_T1.nii", layout / "A2" / "A2_T1.nii")
    settings = root / "tiny.yaml"
    settings.write_text(TINY.read_text())
    few = EvaluationConfig(bootstrap=20, permutations=20)
    evaluate(source, [synthetic], root / "evaluation", few)
    return Material(
        source,
        tiny_run,
        synthetic,
        root / "evaluation",
        layout,
        settings,
        root / "atlas.nii.gz",
        phenotype,
    )


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take most of an evaluation's time and are drawn of the tables alone."""
    monkeypatch.setattr("relapet.report.gallery.draw_evaluation", lambda *given: None)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_promise_is_kept(
    seed: int,
    material: Material,
    tmp_path: Path,
    without_figures: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    call, said = make_case(seed, tmp_path, material)
    before = contents(tmp_path)
    result = run(call.arguments)
    found = breaches(call, result, tmp_path, before)
    assert not found, f"seed {seed}, {said}\n{result.said}\nstatus {result.status}; " + "; ".join(found)
