"""The commands that make data: simulate, preprocess, import-layout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relapet.cli.command import (
    Force,
    GridName,
    Level,
    Participants,
    Processes,
    Sessions,
    WorkFolder,
    check_level,
    command,
    exit_for_failures,
    grid_names,
    use_work_folder,
    were_done,
)
from relapet.console import Terminal
from relapet.errors import InputError
from relapet.files import require_folder
from relapet.messages import counted
from relapet.threads import available_cores, limit_threads


@command(
    "Examples: `relapet simulate cohort --subjects 24 --site research --grid 3mm --seed 1`, "
    "`relapet simulate raw --subjects 4 --as-scanned`"
)
def simulate(
    terminal: Terminal,
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    subjects: Annotated[int, typer.Option(min=1, help="Number of participants.")] = 20,
    site: Annotated[
        str, typer.Option(help="research or adni.", autocompletion=lambda: ["research", "adni"])
    ] = "research",
    grid: Annotated[
        str | None,
        typer.Option(
            help="1mm, 2.5mm, 3mm, 4mm or, to try things out, 8mm (default: 3mm; --as-scanned: 1mm).",
            autocompletion=grid_names,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed; one seed gives one cohort.")] = 0,
    missing_rate: Annotated[float, typer.Option(min=0, max=1, help="Share of PET scans left out.")] = 0.0,
    as_scanned: Annotated[
        bool,
        typer.Option("--as-scanned", help="Write raw BIDS as a scanner would, for preprocess, instead."),
    ] = False,
    n_procs: Processes = None,
) -> None:
    """Write a simulated cohort: T1w, FLAIR, three tracers' SUVr maps, and the truth behind them."""
    from relapet.imaging.grid import get_grid

    if as_scanned and grid not in (None, "1mm"):
        raise InputError(f"--as-scanned simulates at 1mm, not at {grid}; leave --grid out.")
    chosen = get_grid(grid or ("1mm" if as_scanned else "3mm"))
    processes = n_procs or available_cores()
    limit_threads(processes=processes)  # before numpy is imported, here and in the processes

    from relapet import api
    from relapet.simulation.as_scanned import AsScannedConfig
    from relapet.simulation.cohort import SimulationConfig
    from relapet.simulation.scanner import get_site

    config = SimulationConfig(
        subjects=subjects, site=get_site(site), grid=chosen, seed=seed, missing_rate=missing_rate
    )
    api.simulate(out, AsScannedConfig(simulation=config) if as_scanned else config, processes, terminal)
    terminal.say(f"{counted(subjects, 'simulated participant')} written to {out}.")


@command("Example: `relapet preprocess bids derivatives participant --participant-label 01 02 --grid 1mm`")
def preprocess(
    terminal: Terminal,
    bids: Annotated[Path, typer.Argument(help="Raw BIDS data set.")],
    out: Annotated[Path, typer.Argument(help="Derivative to write.")],
    level: Level,
    participant_label: Participants = None,
    session_label: Sessions = None,
    grid: GridName = "1mm",
    fwhm: Annotated[float | None, typer.Option(help="Common PET resolution to smooth to, mm.")] = None,
    scanner_fwhm: Annotated[float | None, typer.Option(help="Resolution of the PET scanner, mm.")] = None,
    n_procs: Annotated[int, typer.Option(min=1, help="Visits at a time; also --n-cpus, --nthreads.")] = 1,
    work_dir: WorkFolder = None,
    force: Force = False,
) -> None:
    """Make raw scans model-ready: brain mask, registration to the template, PET frames to SUVr."""
    check_level(level)
    require_folder(bids)
    use_work_folder(work_dir)

    from relapet import api
    from relapet.imaging.grid import get_grid
    from relapet.preprocessing.pipeline import PreprocessConfig

    config = PreprocessConfig(
        grid=get_grid(grid),
        fwhm_mm=fwhm,
        scanner_fwhm_mm=scanner_fwhm,
        force=force,
        n_procs=n_procs,
        apart=True,  # a registration would keep this process from hearing Ctrl-C
    )
    outcome = api.preprocess(bids, out, config, participant_label, session_label, terminal)
    done, before = counted(len(outcome.done), "visit"), were_done(len(outcome.unchanged))
    terminal.say(f"{done} written to {out}{before}.")
    terminal.say(f"Pictures to look through: {outcome.page}")
    terminal.say(f"What was done to each visit, or why it was not: {out / 'logs'}")
    exit_for_failures(outcome.failed)


@command("Example: `relapet import-layout release derivatives --units SUVR`")
def import_layout(
    terminal: Terminal,
    source: Annotated[
        Path, typer.Argument(help="Folder of the folders ID, each with ID_T1.nii, ID_T2.nii, ID_PIB.nii ...")
    ],
    out: Annotated[Path, typer.Argument(help="Derivative to write.")],
    units: Annotated[
        str, typer.Option(help="Unit of the PET files, which do not say it: SUVR, SUV, Bq/mL or kBq/mL.")
    ],
    grid: GridName = "1mm",
) -> None:
    """Turn the published release's flat layout, already in MNI space, into a model-ready derivative."""
    require_folder(source)

    from relapet import api

    outcome = api.import_layout(source, out, units, grid, terminal)
    terminal.say(f"{counted(len(outcome.done), 'participant')} written to {out}.")
    exit_for_failures(outcome.failed)
