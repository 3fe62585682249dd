"""A comparison at toy size: budgets, what is done again and what is not, failures, the other derivative."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import relapet
from relapet import api
from relapet.benchmarking import BenchmarkConfig, benchmark, run
from relapet.benchmarking import case as case_module
from relapet.benchmarking.case import CaseFolder, Job, _cost, _synthesize, run_case
from relapet.benchmarking.config import compose_methods
from relapet.benchmarking.cost import measure_cost, regimes
from relapet.benchmarking.shared import SharedMaterial
from relapet.errors import InputError, RelapetError
from relapet.files import read_json, write_json
from relapet.model.interface import Phase
from relapet.runs import RunFolder
from support import write_toy_derivative

TINY = (
    "method.generator={channels: [8, 8], residual_blocks: 1, packed: true}",
    *("train.precision=32-true", "train.log_every=1"),
)


def config(**given: Any) -> BenchmarkConfig:
    common = {"settings": TINY, "samples": 2, "test_fraction": 0.4, "bootstrap": 20}
    return BenchmarkConfig(**(common | given))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_derivative(tmp_path_factory.mktemp("cohort") / "toy", 8)


def job_in(folder: Path, cohort: Path, method: str, **given: Any) -> CaseFolder:
    told = config(methods=(method,), **given)
    case = CaseFolder(folder / "cases" / method / "seed-1")
    job = Job(
        name=method, seed=1, derivatives=str(cohort), settings=compose_methods(told)[method],
        budget_seconds=told.budget_seconds, budget_samples=told.budget_samples, bootstrap=20,
    )  # fmt: skip
    write_json(case.job, job.model_dump(mode="json"))
    return case


def test_a_training_is_parted_where_a_player_comes_or_goes() -> None:
    phases = [
        Phase("a", (), lambda shared: {}),
        Phase("b", (), lambda shared: {}, first_step=30),
        Phase("c", (), lambda shared: {}, last_step=59),
    ]
    assert regimes(phases, 100) == [(0, 30), (30, 60), (60, 100)]
    assert regimes(phases, 20) == [(0, 20)]
    assert regimes([], 100) == []


def test_seconds_become_steps_by_what_a_step_costs(cohort: Path, tmp_path: Path) -> None:
    case = job_in(tmp_path, cohort, "regression", budget_seconds=1.0)
    settings = case.read_job().settings
    cost = measure_cost(settings, cohort, RunFolder(tmp_path / "timing"), SharedMaterial(tmp_path / "shared"))
    assert cost.step_seconds > 0
    assert cost.tracers == 3
    found, steps = _cost(case, case.read_job())
    assert steps == int(1.0 / found.step_seconds)
    assert _cost(case, case.read_job()) == (found, steps)  # measured once


def test_what_one_case_has_read_and_fitted_the_next_takes_over(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (
        job_in(tmp_path, cohort, name, budget_samples=3) for name in ("regression+linear", "fast")
    )
    found, _ = _cost(first, first.read_job())
    assert found.fit_seconds > 0
    monkeypatch.setattr("relapet.training.priors.fit_prior", None)  # nobody may fit once more
    other, _ = _cost(second, second.read_job())
    assert other.fit_seconds >= found.fit_seconds  # the noise's shape on top
    assert second.run.prior.read_bytes() == first.run.prior.read_bytes()
    volumes = {path.name: path.stat().st_ino for path in first.run.cache.glob("*.npy")}
    assert volumes == {path.name: path.stat().st_ino for path in second.run.cache.glob("*.npy")}


def test_a_prior_of_other_settings_is_not_taken_over(cohort: Path, tmp_path: Path) -> None:
    first = job_in(tmp_path, cohort, "linear", budget_samples=3)
    told = first.read_job().settings
    without = told.changed(
        data=told.data.changed(augment=told.data.augment.changed(drop_t1w=0.0, drop_flair=0.0))
    )
    shared = SharedMaterial(first.shared)
    for name, settings in (("withheld", told), ("whole", without)):
        measure_cost(settings, cohort, RunFolder(tmp_path / name), shared)
    assert len(list(first.shared.glob("prior-*.json"))) == 2


def test_samples_seen_become_steps_and_what_is_done_is_not_done_again(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a method that sees a visit's three tracers at once; the first evaluation fails."""
    case = job_in(tmp_path, cohort, "crps", budget_samples=7)
    evaluate = api.evaluate

    def fails(*args: Any, **kwargs: Any) -> None:
        raise RelapetError("no disk")

    monkeypatch.setattr(api, "evaluate", fails)
    with pytest.raises(RelapetError, match="no disk"):
        run_case(case)
    assert not case.is_done()
    weights = case.run.averaged_weights("generator").read_bytes()
    monkeypatch.setattr(api, "evaluate", evaluate)
    monkeypatch.setattr(api, "train", fails)
    run_case(case)
    record = read_json(case.result)
    assert (record["steps"], record["volumes_seen"], record["samples"]) == (2, 6, 2)
    assert record["parameters"] == record["parameters_in_training"] > 0
    assert case.run.averaged_weights("generator").read_bytes() == weights
    clock = iter([10.0, 22.0])
    monkeypatch.setattr(case_module, "clock", lambda: next(clock))
    monkeypatch.setattr(api, "synthesize", lambda *given, **more: None)
    people = len(record["test"])
    assert _synthesize(case, cohort) == 12 / (3 * people)  # seconds a map of three tracers
    scored = set(
        pd.read_csv(case.evaluation / "image_metrics.tsv", sep="\t")["subject"].str.removeprefix("sub-")
    )
    split = case.run.read_manifest().split
    assert scored == set(split["test"]) == set(record["test"])
    assert not scored & {*split["train"], *split["validation"]}


def test_one_that_fails_is_named_the_others_are_compared_and_methods_can_be_added(
    cohort: Path, tmp_path: Path
) -> None:
    other = write_toy_derivative(tmp_path / "other", 3, seed=7)
    bad = tmp_path / "diverges.yaml"
    bad.write_text(
        "based_on: regression\ntrain: {lr: 1.0e+30, clip_norm: 0, lr_warmup: 0}\n", encoding="utf-8"
    )
    out = tmp_path / "out"
    first = config(methods=("tracer_mean", str(bad)), budget_samples=20)
    result = benchmark(cohort, out, first, other, n_procs=2)
    assert list(result.failed) == ["diverges seed-0"]
    assert "not finite" in result.failed["diverges seed-0"]
    begun = (out / "cases" / "tracer_mean" / "seed-0" / "result.json").stat().st_mtime_ns
    relapet.benchmark(cohort, out, first.changed(methods=("linear",)), other)
    assert (out / "cases" / "tracer_mean" / "seed-0" / "result.json").stat().st_mtime_ns == begun
    for folder in (out, out / "external"):
        tables = {
            t: pd.read_csv(folder / f"{t}.tsv", sep="\t")
            for t in ("image_metrics", "voi", "agreement", "tests")
        }
        assert {"linear", "tracer_mean"} == set(tables["image_metrics"]["method"])
        assert set(tables["tests"]["method_a"]) <= {"linear", "tracer_mean"}
    assert len(set(pd.read_csv(out / "external" / "image_metrics.tsv", sep="\t")["subject"])) == 3
    summary = (out / "summary.md").read_text(encoding="utf-8")
    assert "20 training volumes seen" in summary
    assert "From one derivative to the other" in summary
    content = read_json(out / "summary.json")
    assert content["split_is_shared"] is True
    assert {row["name"] for row in content["cost"]} == {"linear", "tracer_mean"}
    with pytest.raises(InputError, match="budget_samples"):
        benchmark(cohort, out, config(methods=("linear",), budget_samples=21), other)
    bad.write_text("based_on: regression\ntrain: {lr: 1.0e+20}\n", encoding="utf-8")
    with pytest.raises(InputError, match="other settings of diverges"):
        benchmark(cohort, out, first, other)


def test_where_nothing_can_be_finished_the_first_fault_is_told(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(folder: CaseFolder) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])

    monkeypatch.setattr(run, "_start", dies)
    with pytest.raises(RelapetError, match=r"the first fault: .* signal 9, perhaps for"):
        benchmark(cohort, tmp_path / "out", config(methods=("tracer_mean",), settings=(), budget_samples=5))


def test_a_folder_of_something_else_is_refused(cohort: Path, tmp_path: Path) -> None:
    shutil.copy(cohort / "dataset_description.json", tmp_path / "mine.json")
    with pytest.raises(InputError, match="holds no unfinished or earlier output of relapet benchmark"):
        benchmark(cohort, tmp_path, config(budget_samples=5))
