"""The README's Python example runs as it stands, on a smaller cohort and with a smaller model."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import pandas as pd
import pytest

from support import TINY_SETTINGS

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_python_example_runs(toy_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    small = code.replace('"train.steps=200"', f'"train.steps=2", *{TINY_SETTINGS!r}')
    assert small != code
    asked: list[int] = []

    def simulate(out: str, config: Any) -> None:
        asked.append(config.subjects)
        shutil.copytree(toy_source, out)

    monkeypatch.setattr("relapet.api.simulate", simulate)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(small, names)
    assert asked == [12]
    assert nib.load("pib_mean.nii.gz").shape == nib.load("pib_sd.nii.gz").shape == (24, 24, 24)
    table = pd.read_csv("evaluation/image_metrics.tsv", sep="\t")
    assert set(table["method"]) == {"rela", "tracer_mean"}
