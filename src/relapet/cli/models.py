"""The commands that make and use models: train, synthesize, import-weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from relapet.cli.command import (
    CALL,
    Force,
    Level,
    Model,
    NoReport,
    Participants,
    Sessions,
    Threads,
    WorkFolder,
    check_level,
    command,
    exit_for_failures,
    use_work_folder,
    were_done,
)
from relapet.console import Terminal
from relapet.errors import InputError
from relapet.files import require_file, require_folder, require_suffix
from relapet.setting_files import presets
from relapet.shipped import find_model
from relapet.threads import limit_threads
from relapet.tracers import get_tracer, load_tracers


@command("Example: `relapet train cohort run --preset demo --set train.steps=2000 train.seed=1`")
def train(
    terminal: Terminal,
    derivatives: Annotated[
        Path, typer.Argument(help="Model-ready derivatives (simulate or preprocess writes them).")
    ],
    run: Annotated[Path, typer.Argument(help="Run folder to write.")],
    preset: Annotated[
        str | None,
        typer.Option(
            help="Packaged settings, see relapet info presets.", autocompletion=lambda: [*presets()]
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings, over the preset.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Single settings, over both: key=value.")
    ] = None,
    devices: Annotated[
        int | None, typer.Option(min=1, help="GPUs (or processes, without a GPU) to train on.")
    ] = None,
    threads: Threads = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print every setting, as YAML for --config, and stop.")
    ] = False,
) -> None:
    """Train a model on model-ready derivatives."""
    from relapet.setting_files import compose

    own = resume and preset is None and config is None
    if preset is None and config is None and not resume:
        raise InputError(
            "Training needs settings; give --preset NAME (see relapet info presets) or --config FILE."
        )
    single = [*(set_ or ()), *([] if devices is None else [f"train.devices={devices}"])]
    # What costs nothing is checked before torch is imported.
    written = compose(preset, _own_settings(run) if own else config, single)
    if not dry_run:
        require_folder(derivatives)
    limit_threads(threads, _processes(written))

    from relapet import api
    from relapet.config import load_config, load_resumed, settings_yaml
    from relapet.runs import RunFolder
    from relapet.training.distributed import is_first_process

    settings = load_resumed(RunFolder(run), single) if own else load_config(preset, config, single)
    terminal.quiet = terminal.quiet or not is_first_process()
    if dry_run:
        terminal.say(f"# Settings of {CALL.get() or 'a training'}; give them as --config FILE.")
        for line in settings_yaml(settings).splitlines():
            terminal.say(line)
        return
    folder = api.train(settings, derivatives, run, resume=resume, messages=terminal, command=CALL.get())
    terminal.say(f"Run folder written to {run}.")
    if is_first_process():
        exit_for_failures(folder.read_manifest().left_out)


def _own_settings(run: Path) -> Path:
    """The file of a run's own settings, which it goes on with."""
    if not (run / "config.yaml").is_file():
        raise InputError(
            f"{run} has no config.yaml, so there is no training to go on with; train without --resume, or check "
            "the path."
        )
    return run / "config.yaml"


def _processes(written: Mapping[str, Any]) -> int:
    """Processes of a training on this machine, by settings that are not checked yet."""
    part = written.get("train")
    devices = part.get("devices", 1) if isinstance(part, Mapping) else 1
    return devices if isinstance(devices, int) else 1


@command(
    "Example: `relapet synthesize bids out participant --model run --split test --tracer tau pib --samples 8`"
)
def synthesize(
    terminal: Terminal,
    source: Annotated[
        Path, typer.Argument(metavar="BIDS_OR_DERIVATIVES", help="Data set with MRI in an MNI space.")
    ],
    out: Annotated[Path, typer.Argument(help="Derivative to write.")],
    level: Level,
    model: Model,
    tracer: Annotated[
        list[str] | None,
        typer.Option(
            help="Tracers (default: all the model knows).", autocompletion=lambda: [*load_tracers()]
        ),
    ] = None,
    participant_label: Participants = None,
    session_label: Sessions = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="In their place: test, validation or train, those participants of the model's training.",
            autocompletion=lambda: ["test", "validation", "train"],
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Samples a volume: for their spread, and their mean where the model gives none itself.",
        ),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            help="How samples are drawn, see relapet info samplers (default: as the model's run says)."
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Steps a sample; one network call each, with heun two but for the last."),
    ] = None,
    eta: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Noise that ddim draws anew in each step; 0: none, 1: as much as ddpm."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the samples' noise.")] = None,
    output_space: Annotated[
        list[str] | None,
        typer.Option(
            help="MNI (default), native (the T1w's own grid; needs what relapet preprocess keeps) or both.",
            autocompletion=lambda: ["MNI", "native"],
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="cpu, cuda, or cuda:1 of several GPUs (default: the GPU where there is one)."),
    ] = None,
    backend: Annotated[
        str, typer.Option(help="What computes the network: torch or, on a CPU, openvino (relapet[export]).")
    ] = "torch",
    threads: Threads = None,
    work_dir: WorkFolder = None,
    force: Force = False,
    no_report: NoReport = False,
) -> None:
    """Synthesize SUVr maps from MRI with a trained model. Not for clinical use."""
    from relapet.hardware import check_backend, check_device
    from relapet.synthesis.sample_config import SampleConfig

    check_level(level)
    require_folder(source)
    find_model(model)
    _refuse_repeats([get_tracer(name).name for name in tracer or ()])
    given = {"sampler": sampler, "steps": steps, "eta": eta, "count": samples, "seed": seed}
    settings = {key: value for key, value in given.items() if value is not None}
    SampleConfig(**settings)  # refuses what no run takes, before torch is imported
    if device is not None:
        check_device(device)
    check_backend(backend, device)
    limit_threads(threads)
    use_work_folder(work_dir)

    from relapet import api

    spaces = output_space or ["MNI"]
    outcome = api.synthesize(
        source,
        out,
        model,
        tracer,
        participant_label,
        settings,
        terminal,
        spaces,
        split,
        device,
        not no_report,
        CALL.get(),
        session_label,
        force,
        backend,
    )
    total = len(outcome.done) + len(outcome.failed) + len(outcome.unchanged)
    terminal.say(
        f"{len(outcome.done)} of {total} visit{'s' * (total != 1)} written to {out}"
        f"{were_done(len(outcome.unchanged))}."
    )
    exit_for_failures(outcome.failed)


def _refuse_repeats(tracers: list[str]) -> None:
    for name in tracers:
        if tracers.count(name) > 1:
            raise InputError(f"--tracer names {name} twice; name each tracer once.")


@command("Examples: `relapet export run network.onnx`, `relapet export run network.xml`")
def export(
    terminal: Terminal,
    run: Annotated[
        str, typer.Argument(help="Run folder of a trained model, or the name of a shipped one (info models).")
    ],
    out: Annotated[Path, typer.Argument(help="File to write: .onnx (ONNX) or .xml (OpenVINO, with a .bin).")],
    threads: Threads = None,
) -> None:
    """Write a model's network for other programs, checked against PyTorch. Needs relapet[export]."""
    from relapet.hardware import EXPORTED

    find_model(run)
    require_suffix(out, EXPORTED)
    limit_threads(threads)

    from relapet import api

    difference = api.export(run, out)
    terminal.say(
        f"{out} written; on random input it differs from PyTorch by {difference:.1g} of the output at most."
    )


@command("Example: `relapet import-weights checkpoint.pt run`")
def import_weights(
    terminal: Terminal,
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint file of the published release.")],
    run: Annotated[Path, typer.Argument(help="Run folder to write; must be empty or new.")],
) -> None:
    """Turn the authors' released checkpoint into a run folder that synthesize takes. Its output is no SUVr."""
    require_file(checkpoint, "checkpoint")

    from relapet import api

    api.import_weights(checkpoint, run)
    terminal.warn(str(api.Synthesizer.from_run(run, device="cpu").caution))
    terminal.say(f"Run folder written to {run}.")
