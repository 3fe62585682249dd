"""Everything the commands do, as calls: simulate, train, synthesize, evaluate and the demo of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from relapet.calibration import calibrate_run, intervals_for
from relapet.config import RunConfig, load_config
from relapet.errors import InputError
from relapet.evaluation.evaluate import Evaluation, Options
from relapet.evaluation.evaluate import evaluate as evaluate_trees
from relapet.imaging.bids import choose_visits
from relapet.imaging.grid import get_grid
from relapet.messages import Messages, Silent
from relapet.preprocessing.pipeline import PreprocessConfig, PreprocessOutcome
from relapet.preprocessing.pipeline import preprocess as preprocess_dataset
from relapet.preprocessing.released_layout import ImportOutcome
from relapet.preprocessing.released_layout import import_layout as import_folders
from relapet.released_run import import_weights
from relapet.report.gallery import draw_evaluation
from relapet.report.subjects import draw_subject
from relapet.runs import RunFolder
from relapet.simulation.as_scanned import AsScannedConfig, write_as_scanned
from relapet.simulation.cohort import SimulationConfig, simulate_cohort
from relapet.synthesis.synthesize import Outcome, Request, synthesize_dataset
from relapet.synthesis.synthesizer import Synthesizer
from relapet.tracers import get_tracer
from relapet.training.distributed import is_first_process
from relapet.training.train import TrainOptions, train_run
from relapet.validation import Validation

DEMO_COHORT = SimulationConfig(subjects=128, grid=get_grid("4mm"), seed=20260101)
"""The demo's cohort: with the preset's split, 88 subjects are trained on and 32 held out."""


def simulate(
    out: str | Path,
    config: SimulationConfig | AsScannedConfig | None = None,
    n_procs: int = 1,
    messages: Messages | None = None,
) -> Path:
    """Write a simulated cohort with known truth: model-ready, or as scanned where ``config`` says so.

    More than one process works only from a script with an ``if __name__ == "__main__"`` guard. Raises InputError
    where ``out`` cannot be written or already holds subjects.
    """
    config, messages = config or SimulationConfig(), messages or Silent()
    total = config.simulation.subjects if isinstance(config, AsScannedConfig) else config.subjects
    finished: list[str] = []

    def on_done(participant: str) -> None:
        finished.append(participant)
        advance(len(finished), participant)

    with messages.track("simulate", total) as advance:
        if isinstance(config, AsScannedConfig):
            return write_as_scanned(config, Path(out), n_procs, on_done)
        return simulate_cohort(config, Path(out), n_procs, on_done)


def preprocess(
    bids: str | Path,
    out: str | Path,
    config: PreprocessConfig | None = None,
    participants: Sequence[str] | None = None,
    sessions: Sequence[str] | None = None,
    messages: Messages | None = None,
) -> PreprocessOutcome:
    """Make raw scans model-ready; raises InputError for an unusable call, a visit that fails is in the outcome."""
    return preprocess_dataset(Path(bids), Path(out), config, participants, sessions, messages)


def import_layout(
    source: str | Path,
    out: str | Path,
    units: str,
    grid: str = "1mm",
    messages: Messages | None = None,
) -> ImportOutcome:
    """Turn the published release's flat layout into a model-ready derivative; ``units`` is that of its PET.

    Raises InputError for an unusable call; a folder that fails is in the outcome.
    """
    return import_folders(Path(source), Path(out), units, get_grid(grid), messages)


def train(
    config: RunConfig,
    derivatives: str | Path,
    run: str | Path,
    resume: bool = False,
    messages: Messages | None = None,
) -> RunFolder:
    """Train a model on model-ready derivatives, and calibrate it on its validation subjects.

    Raises InputError, TrainingError and Stopped.
    """
    messages = messages or Silent()
    validate = Validation(config.sample, config.train.validation_steps)
    options = TrainOptions(resume=resume, validate=validate, messages=messages)
    folder = train_run(config, Path(derivatives), Path(run), options)
    if config.train.calibrate and is_first_process():
        messages.say("Calibrating VOI intervals on the validation subjects.")
        calibrate_run(folder, Path(derivatives), messages)
    return folder


def synthesize(
    source: str | Path,
    out: str | Path,
    model: str | Path,
    tracers: Sequence[str] | None = None,
    participants: Sequence[str] | None = None,
    settings: Mapping[str, int] | None = None,
    messages: Messages | None = None,
    output_spaces: Sequence[str] = ("MNI",),
) -> Outcome:
    """Write synthetic SUVr maps for every visit; ``settings`` may hold steps, count and seed.

    ``output_spaces``: MNI (the model's grid), native (the T1w's own grid) or both. Raises InputError for an
    unusable call; a visit that fails is in the outcome.
    """
    synthesizer = Synthesizer.from_run(model)
    messages = messages or Silent()
    sample = synthesizer.sample.model_copy(update=dict(settings or {}))
    request = Request(
        tracers=tuple(synthesizer.tracer(name) for name in tracers or synthesizer.manifest.tracers),
        sample=sample,
        participants=None if participants is None else tuple(participants),
        spaces=tuple(output_spaces),
        intervals=intervals_for(synthesizer, sample, messages),
    )
    return synthesize_dataset(Path(source), Path(out), synthesizer, request, messages)


def evaluate(
    real: str | Path,
    synthetic: Sequence[str | Path],
    out: str | Path,
    options: Options | None = None,
    messages: Messages | None = None,
) -> Evaluation:
    """Score synthetic trees against the measured one: tables into ``out``, figures into ``out``/figures.

    Raises InputError where nothing can be compared, and LeakError, after the tables are written and before the
    figures, for a method that scores above what MRI can show.
    """
    messages = messages or Silent()
    with messages.track("evaluate", 1.0) as advance:
        options = replace(
            options or Options(), on_progress=lambda done, of: advance(done / of, f"{done} of {of} scans")
        )
        result = evaluate_trees(Path(real), [Path(path) for path in synthetic], Path(out), options)
    with messages.track("draw", 1.0) as advance:
        draw_evaluation(result, lambda done, of: advance(done / of, f"{done} of {of} figures"), messages.warn)
    return result


def demo(
    out: str | Path, messages: Messages | None = None, config: RunConfig | None = None, n_procs: int = 1
) -> Evaluation:
    """Simulate, train, synthesise the held-out subjects and evaluate them; figures of one of them.

    ``n_procs`` is that of `simulate`. Raises InputError where ``out`` is already in use.
    """
    out, messages, config = Path(out), messages or Silent(), config or load_config("demo")
    if out.exists() and any(out.iterdir()):
        raise InputError(f"The demo's folder {out} is not empty; choose another or delete it.")
    cohort, run, synthetic = out / "cohort", out / "run", out / "synthetic"
    simulate(cohort, DEMO_COHORT, n_procs, messages)
    train(config, cohort, run, messages=messages)
    held_out = RunFolder(run).read_manifest().split["test"]
    synthesize(cohort, synthetic, run, participants=held_out, messages=messages)
    result = evaluate(cohort, [synthetic], out / "evaluation", messages=messages)
    for name in config.data.tracers:
        path = draw_subject(cohort, synthetic, held_out[0], get_tracer(name), out / "figures")
        messages.say(f"Figure: {path}")
    return result


__all__ = [
    "Synthesizer",
    "choose_visits",
    "demo",
    "evaluate",
    "import_layout",
    "import_weights",
    "preprocess",
    "simulate",
    "synthesize",
    "train",
]
