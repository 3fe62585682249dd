"""`relapet preprocess`: every visit of a raw BIDS data set made model-ready; failures are told, the others go on."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from relapet.errors import InputError, RelapetError, SubjectError
from relapet.files import (
    prepare_output_folder,
    read_json,
    refuse_inside,
    remove_unfinished,
    require_empty_or_own,
    write_json,
)
from relapet.imaging.bids import (
    DESCRIPTION,
    Visit,
    choose_visits,
    find_visits,
    write_dataset_description,
)
from relapet.imaging.descriptions import is_made_by_relapet, is_simulated, read_description
from relapet.imaging.grid import GRIDS, Grid
from relapet.imaging.transforms import load_ants
from relapet.messages import Messages, Silent, counted
from relapet.preprocessing.image_settings import ImageSettings
from relapet.preprocessing.names import Names
from relapet.preprocessing.provenance import is_up_to_date
from relapet.preprocessing.qc import write_page
from relapet.preprocessing.raw import find_raw
from relapet.preprocessing.steps import VisitLog, count_steps, watched
from relapet.preprocessing.visit import VisitResult, process_visit
from relapet.processes import each_index
from relapet.settings import Settings

PAGE = "preprocess.html"
_NAME = "relapet preprocess"
"""Of the derivative, by which its own output folder is known again."""


class PreprocessConfig(Settings):
    """All that decides how raw scans are made model-ready."""

    grid: Grid = Field(GRIDS["1mm"], description="voxel grid of the volumes")
    syn_iterations: tuple[int, ...] = Field(
        (60, 10), min_length=1, description="iterations of the nonlinear registration at 4 and 2 mm"
    )
    fwhm_mm: float | None = Field(
        None, gt=0, description="common PET resolution to smooth to, mm; else each scan stays as it is"
    )
    scanner_fwhm_mm: float | None = Field(
        None, gt=0, description="resolution of the PET scanner, mm, as its maker or a phantom states it"
    )
    force: bool = Field(False, description="process again what is done and unchanged")
    n_procs: int = Field(1, ge=1, description="visits at a time")
    apart: bool = Field(
        False,
        description="work in another process also one visit at a time, so that Ctrl-C is answered at once",
    )

    @model_validator(mode="after")
    def _smooths_to_what_is_coarser(self) -> Self:
        if self.fwhm_mm is None:
            return self
        if self.scanner_fwhm_mm is None:
            raise ValueError("`fwhm_mm` needs the scanner's own resolution too; give `scanner_fwhm_mm`, mm")
        if self.fwhm_mm < self.scanner_fwhm_mm:
            raise ValueError(
                f"`fwhm_mm` is {self.fwhm_mm:g} mm, finer than the scanner's {self.scanner_fwhm_mm:g} mm; "
                "give a larger one"
            )
        return self

    @property
    def settings(self) -> ImageSettings:
        """What changes the images."""
        return ImageSettings(self.grid, self.syn_iterations, self.fwhm_mm, self.scanner_fwhm_mm)


@dataclass(frozen=True)
class PreprocessOutcome:
    """Which visits are complete, which were so already, and what is wrong with the others."""

    done: tuple[str, ...]
    unchanged: tuple[str, ...]
    failed: dict[str, str]
    """Visit to reason; what could be made of it is written."""
    warnings: dict[str, tuple[str, ...]]
    page: Path
    """HTML with the pictures of every visit."""


def preprocess(
    bids: Path,
    out: Path,
    config: PreprocessConfig | None = None,
    participants: Sequence[str] | None = None,
    sessions: Sequence[str] | None = None,
    messages: Messages | None = None,
) -> PreprocessOutcome:
    """Make every visit, or the chosen ones, model-ready under ``out``.

    Labels are taken with or without ``sub-`` and ``ses-``. Raises InputError where nothing can be done at all:
    no data set, no such participant, an output folder that cannot be written, ANTs missing.
    """
    config, messages = config or PreprocessConfig(), messages or Silent()
    all_visits = find_visits(Path(bids))
    visits = choose_visits(all_visits, participants, Path(bids), sessions)
    refuse_inside(out, bids)
    require_empty_or_own(out, lambda folder: is_made_by_relapet(folder, _NAME), _NAME)
    if read_description(Path(bids)).get("DatasetType") == "derivative":
        raise InputError(
            f"{bids} is a derivative, as its {DESCRIPTION} says, and no raw data set; train and synthesize from it as "
            "it is, or give the raw scans."
        )
    out = prepare_output_folder(Path(out))
    # One visit at a time may use every core; of several, each process has one thread.
    os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", str(os.cpu_count() or 1))
    load_ants()
    scans = (path for visit in visits for path in visit.folder(Path(bids), "anat").glob("*_T1w.nii*"))
    said = {"Simulated": True} if is_simulated(Path(bids), scans) else {}
    write_dataset_description(out, _NAME, {"raw": Path(bids)}, **said)
    messages.say(f"{counted(len(visits), 'visit')}; what is done to each is told in {out / 'logs'}.")
    _tell_of_others(out, {visit.subject for visit in all_visits}, bids, messages)
    results: dict[str, VisitResult] = {}
    with (
        messages.track("preprocess", len(visits)) as advance,
        _clean_when_stopped(out),
        closing(_each(visits, Path(bids), out, config)) as each,
        watched({visit.stem: Names(out, visit).log for visit in visits}, advance) as finish,
    ):
        for result in each:
            results[result.visit] = result
            for warning in result.warnings:
                messages.warn(warning)
            for problem in result.problems:
                messages.warn(problem)
            finish(result.visit, f"{result.visit} {_said(result)}")
    ordered = [results[visit.stem] for visit in visits]
    _write_page(out, all_visits)
    return PreprocessOutcome(
        tuple(r.visit for r in ordered if not r.problems and not r.unchanged),
        tuple(r.visit for r in ordered if r.unchanged),
        {r.visit: " ".join(r.problems) for r in ordered if r.problems},
        {r.visit: r.warnings for r in ordered if r.warnings},
        out / PAGE,
    )


def _said(result: VisitResult) -> str:
    return "failed" if result.problems else "was done and unchanged" if result.unchanged else "is done"


@contextmanager
def _clean_when_stopped(out: Path) -> Iterator[None]:
    """Processes that are killed with the work leave unfinished files in the output folder, too."""
    try:
        yield
    except BaseException:
        remove_unfinished(out)
        raise


def _tell_of_others(out: Path, subjects: set[str], bids: Path, messages: Messages) -> None:
    """Warn of participants of earlier runs whose raw scans are gone: they may be of another data set, so they stay."""
    held = {path.name.removeprefix("sub-") for path in out.glob("sub-*") if path.is_dir()}
    if gone := sorted(held - subjects):
        messages.warn(
            f"{out} holds sub-{', sub-'.join(gone)} of earlier runs, who are not in {bids}; delete those who are not "
            "to be used."
        )


def _each(visits: list[Visit], bids: Path, out: Path, config: PreprocessConfig) -> Generator[VisitResult]:
    def killed(index: int) -> VisitResult:
        stem = visits[index].stem
        mend = "use a smaller `n_procs`" if config.n_procs > 1 else "use a machine with more"
        return VisitResult(stem, (f"{stem}: a process was killed, probably for memory; {mend}.",))

    work = partial(_nth, visits, bids, out, config)
    for _, result in each_index(work, len(visits), config.n_procs, killed, config.apart):
        yield result


def _nth(visits: list[Visit], bids: Path, out: Path, config: PreprocessConfig, index: int) -> VisitResult:
    return _one(visits[index], bids, out, config)


def _one(visit: Visit, bids: Path, out: Path, config: PreprocessConfig) -> VisitResult:
    """One visit, its errors turned into a result so that the others go on."""
    names = Names(out, visit)
    log = VisitLog(names.log, 0)
    try:
        raw = find_raw(bids, visit)
        log.steps = count_steps(raw)
        if not config.force and is_up_to_date(names, raw, config.settings):
            return VisitResult(visit.stem, warnings=_read_remarks(names)["warn"], unchanged=True)
        result = process_visit(raw, names, config.settings, log)
    except InputError:
        raise
    except SubjectError as error:
        result = VisitResult(visit.stem, (str(error),))
    except (RelapetError, RuntimeError, MemoryError, OSError) as error:
        # ITK reports what it cannot do as RuntimeError.
        result = VisitResult(
            visit.stem, (f"{visit.stem}: {type(error).__name__}: {error}; see {names.log}.",)
        )
    for problem in result.problems:
        log.say(f"failed: {problem}")
    write_json(names.remarks, {"fail": list(result.problems), "warn": list(result.warnings)})
    return result


def _read_remarks(names: Names) -> dict[str, tuple[str, ...]]:
    record = read_json(names.remarks) if names.remarks.is_file() else {}
    return {kind: tuple(record.get(kind, ())) for kind in ("fail", "warn")}


def _write_page(out: Path, visits: list[Visit]) -> None:
    """Show every visit ever processed into ``out``, not only those of this call."""
    every = [names for names in (Names(out, visit) for visit in visits) if names.remarks.is_file()]
    pictures = [
        (names.visit.stem, path.stem.split("_desc-")[-1], path)
        for names in every
        for path in sorted(names.figures.glob(f"{names.visit.stem}_desc-*.png"))
    ]
    remarks = {
        names.visit.stem: [(kind, text) for kind, texts in _read_remarks(names).items() for text in texts]
        for names in every
    }
    write_page(out / PAGE, [names.visit.stem for names in every], pictures, remarks)
