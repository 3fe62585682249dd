from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from relapet.errors import InputError
from relapet.evaluation.analyses.external import compare_cohorts
from relapet.evaluation.config import EvaluationConfig
from relapet.evaluation.evaluate import evaluate
from relapet.evaluation.statistics import Sampling

SAMPLING = Sampling(500, 0)


@pytest.fixture(scope="module")
def folders(trees, tmp_path_factory):
    """The same method on a cohort like that of training and on one where it is biased by 0.2 SUVr."""
    root = tmp_path_factory.mktemp("external")
    made = []
    for name, subjects, bias in (("research", 10, 0.0), ("adni", 8, 0.2)):
        measured = trees.cohort(root / name, subjects, ("tau",), truth=False)
        shifted = lambda v, t, m=measured, b=bias: m.visible(v, t) + np.float32(b)  # noqa: E731
        synthetic = trees.synthetic(root / f"{name}_s", measured, shifted, "rela", [])
        made.append(
            evaluate(measured.root, [synthetic], root / f"{name}_e", EvaluationConfig(bootstrap=50)).out
        )
    return made


def test_the_drop_has_the_right_size_sign_and_interval(folders):
    table = compare_cohorts(*folders, SAMPLING).set_index("metric")
    row = table.loc["mae"]
    means = [pd.read_csv(f / "image_metrics.tsv", sep="\t")["mae"].mean() for f in folders]
    assert row["difference"] == pytest.approx(means[1] - means[0])
    assert 0 < row["ci_low"] < row["difference"] < row["ci_high"]
    assert (row["n_internal"], row["n_external"], row["better"]) == (10, 8, "lower")
    assert table.loc["psnr", "ci_high"] < 0
    assert {"voi_r", "voi_mae", "ssim"} <= set(table.index)


def test_a_cohort_against_itself_does_not_differ_but_has_an_honest_interval(folders):
    table = compare_cohorts(folders[0], folders[0], sampling=SAMPLING).set_index("metric")
    assert (table["difference"] == 0).all()
    assert table.loc["mae", "ci_low"] < 0 < table.loc["mae", "ci_high"]  # two samples, drawn apart


def test_foreign_folders_are_refused(folders, tmp_path):
    with pytest.raises(InputError, match=r"image_metrics\.tsv"):
        compare_cohorts(folders[0], tmp_path)
    for name in ("image_metrics", "voi"):
        table = pd.read_csv(folders[1] / f"{name}.tsv", sep="\t").assign(method="other")
        table.to_csv(tmp_path / f"{name}.tsv", sep="\t", index=False)
    with pytest.raises(InputError, match="share no tracer and method"):
        compare_cohorts(folders[0], tmp_path)
    pd.DataFrame({"subject": ["sub-01"]}).to_csv(tmp_path / "voi.tsv", sep="\t", index=False)
    with pytest.raises(InputError, match="lacks the column tracer"):
        compare_cohorts(folders[0], tmp_path)
