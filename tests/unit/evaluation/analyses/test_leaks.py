from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from relapet.errors import LeakError
from relapet.evaluation.analyses.leaks import check_ceiling
from relapet.evaluation.config import EvaluationConfig
from relapet.evaluation.evaluate import evaluate, refuse_leaks
from relapet.evaluation.results import Results
from relapet.evaluation.statistics import Sampling
from relapet.report.summary import write_summary
from relapet.tracers import get_tracer

FAST = EvaluationConfig(bootstrap=200)


def test_a_method_above_what_mri_can_show_is_an_error_after_the_tables(cohort, trees, tmp_path):
    leaky = trees.synthetic(tmp_path / "leaky", cohort, cohort.noise_free, "clairvoyant", [])
    result = evaluate(cohort.root, [leaky], tmp_path / "out", FAST)
    with pytest.raises(LeakError) as caught:
        refuse_leaks(result, write_summary(result))
    for word in ("tau", "clairvoyant", "psnr", "ssim", "mae", "voi_r", str(tmp_path / "out" / "summary.md")):
        assert word in str(caught.value)
    assert "## Leaks" in (tmp_path / "out" / "summary.md").read_text()
    assert len(pd.read_csv(tmp_path / "out" / "image_metrics.tsv", sep="\t")) == 12 * 2 * 3


def test_the_visible_ceiling_itself_is_no_leak(cohort, trees, tmp_path):
    perfect = trees.synthetic(tmp_path / "perfect", cohort, cohort.visible, "perfect", [])
    result = evaluate(cohort.root, [perfect], tmp_path / "out", FAST)
    assert result.problems == []
    refuse_leaks(result, tmp_path)


def skewed_results(n: int = 40) -> Results:
    """One subject in five is high, which MRI cannot show: the mean is the ceiling, `median` predicts the rest."""
    real = np.where(np.arange(n) % 5 == 0, 2.0, 1.0) + np.random.default_rng(0).normal(0, 0.02, n)
    rows, voi = [], []
    for method, value in {"median": 1.0, "visible_ceiling": 1.2}.items():
        for i in range(n):
            error = abs(real[i] - value)
            key = {"tracer": "tau", "method": method, "subject": f"sub-{i}"}
            rows.append(key | {"psnr": -20 * np.log10(error), "ssim": -error, "mae": error, "rmse": error})
            voi.append(
                key | {"voi": "a", "target": True, "kind": "voi", "real_suvr": real[i], "synth_suvr": value}
            )
    metrics = pd.DataFrame(rows).set_index(["tracer", "method", "subject"])
    return Results(
        metrics, pd.DataFrame(voi), pd.DataFrame(), ["median", "visible_ceiling"], Sampling(500, 0)
    )


def test_predicting_the_median_of_a_skewed_uptake_is_no_leak():
    checks = {
        check["metric"]: check for check in check_ceiling(skewed_results(), get_tracer("tau"), "median")
    }
    for metric in ("psnr", "mae"):  # it does beat the conditional mean here ...
        assert checks[metric]["above_ceiling_low"] > 0
    assert not any(check["leak"] for check in checks.values())  # ... but not on squared error
