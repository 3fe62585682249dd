"""The whole judgement of synthetic trees against a measured one: scores, then every analysis, then the tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from relapet.errors import InputError, LeakError
from relapet.evaluation import tables
from relapet.evaluation.conformal import judge_intervals
from relapet.evaluation.downstream import check_outcomes, predict_outcomes
from relapet.evaluation.external import compare_cohorts, read_evaluation
from relapet.evaluation.markdown import to_markdown
from relapet.evaluation.matching import Plan, make_plan
from relapet.evaluation.prediction import PredictionConfig
from relapet.evaluation.scoring import Problem, Progress, Scores, score_scans
from relapet.evaluation.summary import build_summary, leak_sentences
from relapet.evaluation.uncertainty import ALL_VOIS, UncertaintyConfig, judge_samples
from relapet.evaluation.voi import RegionAtlas, default_atlas, load_region_atlas
from relapet.files import prepare_output_folder, write_json, write_text


@dataclass(frozen=True)
class Options:
    """What an evaluation may be told; the defaults are those of the published tables."""

    atlas: Path | None = None
    """Label NIfTI in template space instead of Desikan-Killiany."""
    atlas_table: Path | None = None
    """TSV (index, name) of that atlas; by default the file beside it with the same stem."""
    participants: tuple[str, ...] | None = None
    """Labels of the subjects to score, all by default."""
    phenotype: Path | None = None
    """TSV (participant_id and any columns) with outcomes to predict."""
    outcomes: tuple[str, ...] = ()
    """Columns of it, or ``<tracer>_positivity``, which are predicted from MRI, with synthetic, with measured PET."""
    internal: Path | None = None
    """Evaluation of the same methods on another cohort, whose scores these are compared with."""
    bootstrap: int = 2000
    """Bootstrap samples of subjects for every interval."""
    permutations: int = 5000
    """Permutations of the test whether PET adds to a prediction."""
    seed: int = 0
    on_progress: Progress | None = None

    @property
    def sampling(self) -> tables.Sampling:
        """How intervals are drawn."""
        return tables.Sampling(self.bootstrap, self.seed)


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation wrote to ``out``: the tables as data frames, the summary, and what failed."""

    out: Path
    image_metrics: pd.DataFrame
    voi: pd.DataFrame
    agreement: pd.DataFrame
    tests: pd.DataFrame
    positivity: pd.DataFrame
    centiloid: pd.DataFrame
    spectra: pd.DataFrame
    summary: dict[str, Any]
    problems: list[Problem]
    further: dict[str, pd.DataFrame] = field(default_factory=dict)
    """Tables that not every evaluation has, by the stem of their file: uncertainty_*, downstream*, external."""
    unmet: dict[str, str] = field(default_factory=dict)
    """Analyses that were asked for and could not be done, and why."""


_TABLES = ("image_metrics", "voi", "agreement", "tests", "positivity", "centiloid", "spectra")


def evaluate(real: Path, synthetic: Sequence[Path], out: Path, options: Options | None = None) -> Evaluation:
    """Score every synthetic tree against the measured maps of ``real`` and write the tables to ``out``.

    Volumes that cannot be read or do not fit are listed in the result's ``problems``; the others go on.
    Raises InputError where nothing can be compared or a method was trained on the subjects, and LeakError,
    after the tables are written, where a method scores above what MRI can show.
    """
    options = options or Options()
    if options.bootstrap < 1:
        raise InputError(f"bootstrap is {options.bootstrap}; give a number of samples of at least 1.")
    atlas = load_region_atlas(options.atlas, options.atlas_table) if options.atlas else default_atlas()
    check_outcomes(real, options.phenotype, options.outcomes)
    if options.internal is not None:
        read_evaluation(options.internal, options.sampling)
    plan = make_plan(Path(real), [Path(path) for path in synthetic], options.participants)
    prepare_output_folder(out)
    scores = score_scans(plan.scans, atlas, options.on_progress)
    if not scores.image:
        raise InputError(f"No scan could be scored; the first fault: {scores.problems[0].reason}")
    result = _tabulate(plan, scores, Path(real), Path(out), atlas, options)
    for name in _TABLES:
        tables.write_table(result.out / f"{name}.tsv", getattr(result, name))
    _judge_samples(result, plan, scores, options)
    _predict(result, plan, Path(real), options)
    _compare(result, options)
    _write(result)
    leaks = leak_sentences(result.summary)
    if leaks:
        raise LeakError(
            "Scores above what MRI can show, so test data leaked into training: " + "; ".join(leaks)
            + f". See {result.out / 'summary.md'} and check the split."
        )  # fmt: skip
    return result


def _tabulate(
    plan: Plan, scores: Scores, real: Path, out: Path, atlas: RegionAtlas, options: Options
) -> Evaluation:
    image = pd.DataFrame(scores.image)
    regions = tables.average_sessions(pd.DataFrame(scores.regions))
    voi = tables.voi_table(regions)
    centiloid = tables.centiloid_table(regions)
    metrics = tables.subject_metrics(image, voi)
    results = tables.Results(metrics, voi, centiloid, plan.methods, options.sampling)
    tests = tables.tests_table(results)
    positivity = tables.positivity_table(results)
    summary = build_summary(results, tests, positivity)
    summary["inputs"] = {
        "real": str(real),
        "synthetic": {tree.method: str(tree.root) for tree in plan.trees},
        "atlas": atlas.name,
        "bootstrap_samples": options.bootstrap,
        "seed": options.seed,
    }
    summary["skipped_tracers"] = plan.skipped_tracers
    summary["notes"] = list(plan.notes)
    if scores.spectra.left_out:
        summary["notes"].append(
            f"{scores.spectra.left_out} scans are not in spectra.tsv: their grid is not that of the first one, "
            "or their voxels are no cubes."
        )
    summary["problems"] = [vars(problem) for problem in scores.problems]
    agreement = tables.agreement_table(results)
    spectra = scores.spectra.table(options.bootstrap, options.seed)
    return Evaluation(
        out, image, voi, agreement, tests, positivity, centiloid, spectra, summary, scores.problems
    )


def _try(result: Evaluation, name: str, analysis: Callable[[], None]) -> None:
    """Do an analysis beyond the scores; input that it cannot use is named, and the scores stay."""
    try:
        analysis()
    except InputError as error:
        result.unmet[name] = str(error)


def _judge_samples(result: Evaluation, plan: Plan, scores: Scores, options: Options) -> None:
    config = UncertaintyConfig(bootstrap=options.bootstrap, seed=options.seed)
    measured = pd.DataFrame(scores.measured)
    trees = {tree.method: tree.root for tree in plan.trees}

    def samples() -> None:
        result.further.update(judge_samples(trees, measured, config))

    def intervals() -> None:
        table = judge_intervals(trees, measured, config)
        if table is not None:
            both = [result.further.get("uncertainty_coverage"), table]
            joined = pd.concat([part for part in both if part is not None], ignore_index=True)
            result.further["uncertainty_coverage"] = joined

    _try(result, "uncertainty of samples", samples)
    _try(result, "coverage of calibrated intervals", intervals)
    found = {
        name.removeprefix("uncertainty_"): table
        for name, table in result.further.items()
        if name.startswith("uncertainty_")
    }
    if found:
        result.summary["uncertainty"] = {
            name: (table[table["voi"] == ALL_VOIS] if "voi" in table else table).to_dict("records")
            for name, table in found.items()
        }


def _predict(result: Evaluation, plan: Plan, real: Path, options: Options) -> None:
    if not options.outcomes:
        return
    config = PredictionConfig(
        bootstrap=options.bootstrap, permutations=options.permutations, seed=options.seed
    )
    methods = [tree.method for tree in plan.trees]
    done = predict_outcomes(real, result.voi, options.phenotype, options.outcomes, methods, config)
    result.unmet.update(done.unmet)
    if not done.table.empty:
        result.further["downstream"] = done.table
        result.further["downstream_predictions"] = done.predictions
    result.summary["downstream"] = {
        "config": asdict(config),
        "phenotype": None if options.phenotype is None else str(options.phenotype),
        "studies": done.studies,
        "results": done.table.to_dict("records"),
    }


def _compare(result: Evaluation, options: Options) -> None:
    internal = options.internal
    if internal is None:
        return

    def compare() -> None:
        table = compare_cohorts(internal, result.out, options.sampling)
        result.further["external"] = table
        result.summary["external"] = {"internal": str(internal), "results": table.to_dict("records")}

    _try(result, "comparison with the internal evaluation", compare)


def _write(result: Evaluation) -> None:
    result.summary["unmet"] = result.unmet
    for name, table in result.further.items():
        tables.write_table(result.out / f"{name}.tsv", table)
    write_json(result.out / "summary.json", tables.plain(result.summary))
    write_text(result.out / "summary.md", to_markdown(result.summary))
