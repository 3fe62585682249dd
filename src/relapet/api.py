"""Everything the commands do, as calls: simulate, train, synthesize, evaluate and the demo of all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relapet.errors import InputError, Stopped
from relapet.files import refuse_inside, require_empty
from relapet.messages import Messages, Silent
from relapet.settings import changed
from relapet.threads import wait_passively

if TYPE_CHECKING:
    from relapet.config import RunConfig
    from relapet.evaluation.config import EvaluationConfig
    from relapet.evaluation.evaluate import Evaluation
    from relapet.preprocessing.pipeline import PreprocessConfig, PreprocessOutcome
    from relapet.preprocessing.released_layout import ImportOutcome
    from relapet.released_run import import_weights
    from relapet.runs import RunFolder
    from relapet.simulation.as_scanned import AsScannedConfig
    from relapet.simulation.cohort import SimulationConfig
    from relapet.synthesis.synthesize import Outcome
    from relapet.synthesis.synthesizer import Synthesizer

# Each function imports its stage: torch takes seconds, and a wrong path must be told at once.
wait_passively()

_ELSEWHERE = {
    "Synthesizer": "relapet.synthesis.synthesizer",
    "import_weights": "relapet.released_run",
}
"""What is a call as it stands, by the module that has it."""


def __getattr__(name: str) -> Any:
    if name in _ELSEWHERE:
        return getattr(import_module(_ELSEWHERE[name]), name)
    raise AttributeError(f"module 'relapet.api' has no attribute {name!r}")


def demo_cohort() -> SimulationConfig:
    """The demo's cohort: with the preset's split, 88 subjects are trained on and 32 held out."""
    from relapet.imaging.grid import get_grid
    from relapet.simulation.cohort import SimulationConfig

    return SimulationConfig(subjects=128, grid=get_grid("4mm"), seed=20260101)


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
    from relapet.simulation.as_scanned import AsScannedConfig, write_as_scanned
    from relapet.simulation.cohort import SimulationConfig, simulate_cohort

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
    from relapet.preprocessing.pipeline import preprocess as preprocess_dataset

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
    from relapet.imaging.grid import get_grid
    from relapet.preprocessing.released_layout import import_layout as import_folders

    return import_folders(Path(source), Path(out), units, get_grid(grid), messages)


def train(
    config: RunConfig | None,
    derivatives: str | Path,
    run: str | Path,
    resume: bool = False,
    messages: Messages | None = None,
    command: str | None = None,
) -> RunFolder:
    """Train a model on model-ready derivatives, calibrate it on its validation subjects, and write its report.html.

    With ``resume`` a run goes on with its own settings (``config`` None), of which a few may be given anew: see
    `relapet.training.folder.MAY_CHANGE`. ``command``: the call as typed, for the report. Raises
    InputError, TrainingError and Stopped.
    """
    from relapet.adjustment import fit_adjustment
    from relapet.calibration import calibrate_run
    from relapet.config import load_resumed
    from relapet.report.page import PAGE
    from relapet.report.page.run import write_run_page
    from relapet.runs import RunFolder
    from relapet.training.distributed import is_first_process
    from relapet.training.train import TrainOptions, train_run
    from relapet.validation import Validation

    messages = messages or Silent()
    if config is None:
        if not resume:
            raise InputError("Training needs settings; give `config`, or `resume` a run that has its own.")
        config = load_resumed(RunFolder(Path(run)))
    validate = Validation(config.sample, config.train.validation_steps)
    options = TrainOptions(resume=resume, validate=validate, messages=messages)
    folder = train_run(config, Path(derivatives), Path(run), options)
    if config.train.calibrate and is_first_process():
        messages.say("Calibrating samples and VOI intervals on the validation subjects.")
        fit_adjustment(folder, Path(derivatives), messages)
        calibrate_run(folder, Path(derivatives), messages)
    if is_first_process():
        _write_page(lambda: write_run_page(folder.path, folder.path / PAGE, command), messages)
    return folder


def synthesize(
    source: str | Path,
    out: str | Path,
    model: str | Path,
    tracers: Sequence[str] | None = None,
    participants: Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    messages: Messages | None = None,
    output_spaces: Sequence[str] = ("MNI",),
    split: str | None = None,
    device: str | None = None,
    report: bool = True,
    command: str | None = None,
    sessions: Sequence[str] | None = None,
    force: bool = False,
    backend: str = "torch",
) -> Outcome:
    """Write synthetic SUVr maps for every visit; ``settings`` may hold those of SampleConfig: sampler, steps, count ...

    What an earlier call has written from the same images with the same model and settings is left as it is, unless
    ``force`` says otherwise. ``split``: test, validation or train, those participants of the model's training, in
    place of ``participants``.
    ``output_spaces``: MNI (the model's grid), native (the T1w's own grid) or both. ``device``: cpu, cuda, cuda:1;
    by default the GPU where there is one. ``backend``: torch or, on a CPU, openvino. ``report``: write report.html too,
    a page that shows the maps; ``command``: the call as typed, for that page. Raises InputError for an unusable call; a
    visit that fails is in the outcome.
    """
    from relapet.calibration import intervals_for
    from relapet.report.page import PAGE
    from relapet.report.page.synthesis import write_synthesis_page
    from relapet.synthesis.dataset import SIMULATED_NOTICE
    from relapet.synthesis.synthesize import Request, synthesize_dataset
    from relapet.synthesis.synthesizer import Synthesizer

    synthesizer = Synthesizer.from_run(model, device, backend)
    refuse_inside(Path(out), synthesizer.run.path)
    messages = messages or Silent()
    if synthesizer.manifest.trained_on:
        messages.warn(f"{model}: {SIMULATED_NOTICE}")
    given = dict(settings or {})
    unused = [f"`{name}`" for name in ("sampler", "steps", "eta") if name in given]
    if unused and not synthesizer.takes_sampler:
        messages.warn(
            f"The method {synthesizer.manifest.method} draws nothing by steps; {' and '.join(unused)} change nothing."
        )
    if given.get("sampler", synthesizer.sample.sampler) != synthesizer.sample.sampler:
        given.setdefault("eta", 0.0)  # the run's own belongs to its own sampler
    sample = changed(synthesizer.sample, given)
    wanted = tuple(synthesizer.tracer(name) for name in tracers or synthesizer.manifest.tracers)
    request = Request(
        tracers=wanted,
        sample=sample,
        participants=None if participants is None else tuple(participants),
        sessions=None if sessions is None else tuple(sessions),
        split=split,
        spaces=tuple(output_spaces),
        intervals=intervals_for(synthesizer, wanted, sample, messages),
        force=force,
    )
    outcome = synthesize_dataset(Path(source), Path(out), synthesizer, request, messages)
    if report and (outcome.done or (outcome.unchanged and not (Path(out) / PAGE).exists())):
        with messages.track("report", 1.0) as advance:
            _write_page(
                lambda: write_synthesis_page(
                    Path(out),
                    Path(out) / PAGE,
                    set(outcome.done),
                    command,
                    lambda done, of, name: advance(done / of, name),
                ),
                messages,
            )
    return outcome


def export(model: str | Path, out: str | Path) -> float:
    """Write a run's network for other programs: ONNX (.onnx), or OpenVINO (.xml and .bin).

    Returns its largest difference from PyTorch on random input, as a share of the largest output. Raises InputError for
    an unusable call, and RelapetError where the two differ by more than rounding.
    """
    from relapet.synthesis.export import export_network

    return export_network(model, Path(out))


def evaluate(
    real: str | Path,
    synthetic: Sequence[str | Path],
    out: str | Path,
    config: EvaluationConfig | None = None,
    messages: Messages | None = None,
    report: bool = True,
    command: str | None = None,
    figures: bool = True,
) -> Evaluation:
    """Score synthetic trees against the measured one: tables and summary into ``out``, figures into ``out``/figures.

    ``report``: write report.html too, a page of all these and of the scans; ``command``: the call as typed, for that
    page. Raises InputError where nothing can be compared, and LeakError, after the tables are written and before the
    figures, for a method that scores above what MRI can show.
    """
    from relapet.evaluation.evaluate import evaluate as evaluate_trees
    from relapet.evaluation.evaluate import refuse_leaks
    from relapet.report.gallery import draw_evaluation
    from relapet.report.page import PAGE
    from relapet.report.page.evaluation import write_evaluation_page
    from relapet.report.summary import write_summary

    messages = messages or Silent()
    with messages.track("evaluate", 1.0) as advance:
        result = evaluate_trees(
            Path(real),
            [Path(path) for path in synthetic],
            Path(out),
            config,
            lambda done, of: advance(done / of, f"{done} of {of} scans"),
        )
        refuse_leaks(result, write_summary(result))
    if not figures:
        return result
    with messages.track("draw", 1.0) as advance:
        draw_evaluation(result, lambda done, of: advance(done / of, f"{done} of {of} figures"), messages.warn)
    if report:
        with messages.track("report", 1.0) as advance:
            _write_page(
                lambda: write_evaluation_page(
                    result.out, result.out / PAGE, command, lambda done, of, name: advance(done / of, name)
                ),
                messages,
            )
    return result


def write_report(folder: str | Path, path: str | Path | None = None, command: str | None = None) -> Path:
    """Write the report page of a run folder, an evaluation or a synthetic derivative; returns its path.

    ``path``: where, by default report.html in the folder itself. Raises InputError for a folder that is none of these.
    """
    from relapet.report.page import PAGE
    from relapet.report.page.any import write_page_of

    return write_page_of(Path(folder), Path(folder) / PAGE if path is None else Path(path), command)


def _write_page(write: Callable[[], Path], messages: Messages) -> None:
    """Write a report page and say where it lies; one that cannot be made takes nothing from what it is of."""
    try:
        messages.say(f"Report written to {write()}.")
    except InputError as error:
        messages.warn(f"There is no report: {error}")


def demo(
    out: str | Path,
    messages: Messages | None = None,
    config: RunConfig | None = None,
    n_procs: int = 1,
    cohort: SimulationConfig | None = None,
) -> Evaluation:
    """Simulate, train, synthesise the held-out subjects and evaluate them; figures of one of them.

    ``n_procs`` is that of `simulate`; ``cohort`` is `demo_cohort` unless given. Raises InputError where ``out`` is
    already in use, Stopped where training was.
    """
    from relapet.config import load_config
    from relapet.report.subjects import draw_subject
    from relapet.runs import RunFolder
    from relapet.tracers import get_tracer

    out, messages, config = (
        require_empty(Path(out), "demo's folder"),
        messages or Silent(),
        config or load_config("demo"),
    )
    measured, run, synthetic = out / "cohort", out / "run", out / "synthetic"
    simulate(measured, cohort or demo_cohort(), n_procs, messages)
    try:
        train(config, measured, run, messages=messages)
    except Stopped as stop:
        raise Stopped(
            f"The demo was stopped in training, which is saved: relapet train {measured} {run} --resume goes on with "
            "it; a new demo needs a new folder.",
            stop.signal_number,
        ) from stop
    held_out = RunFolder(run).read_manifest().split["test"]
    # The evaluation's page shows the same maps, beside the measured ones.
    synthesize(measured, synthetic, run, split="test", messages=messages, report=False)
    result = evaluate(measured, [synthetic], out / "evaluation", messages=messages)
    for name in config.data.tracers:
        path = draw_subject(measured, synthetic, held_out[0], get_tracer(name), out / "figures")
        messages.say(f"Figure: {path}")
    return result


__all__ = [
    "Synthesizer",
    "demo",
    "demo_cohort",
    "evaluate",
    "export",
    "import_layout",
    "import_weights",
    "preprocess",
    "simulate",
    "synthesize",
    "train",
    "write_report",
]
