"""The simulated cohort as a scanner would deliver it: a raw BIDS data set whose true positions are known.

Every modality lies obliquely in its own space, the T1w and FLAIR carry a receive field, the FLAIR has thick
slices, and PET comes as frames in Bq/mL with motion between them. What preprocessing should find again is
written to ``derivatives/truth/``. The template has no skull, so these heads are brains. Field names: Brain Imaging Data
Structure 1.10, magnetic resonance imaging and positron emission tomography.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from relapet.files import write_json, write_text
from relapet.imaging.bids import (
    DESCRIPTION,
    Visit,
    write_dataset_description,
    write_frames,
    write_image,
    write_raw_description,
    write_table,
)
from relapet.imaging.grid import GRIDS, Grid
from relapet.imaging.nifti import save_frames
from relapet.imaging.resample import sample
from relapet.processes import each_index
from relapet.settings import Settings
from relapet.simulation.folder import SETTINGS, simulation_folder
from relapet.simulation.scanner import pet_noise, slow_field
from relapet.simulation.subject import SimulatedSubject, SimulationConfig, simulate_subject
from relapet.simulation.tables import NOTE, PARTICIPANT_COLUMNS, participant_row
from relapet.tracers import TracerSpec, simulated_tracers
from relapet.types import Affine, Json, Volume

_STREAM = 8
"""Number of this module's random stream among a subject's (`subject.py` holds 0 to 6)."""
_REFERENCE_BQ_ML = 6000.0
"""Activity concentration of SUVr 1 at the start of the window, Bq/mL (SUV about 1 of 370 MBq in 75 kg)."""
TRUTH = "truth"


class Position(Settings):
    """How a scan lies: all angles in degrees and shifts in mm, SD of each axis."""

    head_degrees: float = Field(6.0, ge=0, description="turn of the head, degrees")
    head_mm: float = Field(8.0, ge=0, description="shift of the head, mm")
    between_degrees: float = Field(2.0, ge=0, description="turn between T1w and FLAIR of a session, degrees")
    between_mm: float = Field(2.0, ge=0, description="shift between T1w and FLAIR of a session, mm")
    frame_degrees: float = Field(0.7, ge=0, description="turn from one PET frame to the next, degrees")
    frame_mm: float = Field(0.8, ge=0, description="shift from one PET frame to the next, mm")


class AsScannedConfig(Settings):
    """All that decides an as-scanned cohort; the simulation's grid is always 1 mm."""

    simulation: SimulationConfig = Field(description="the people and their scanners")
    position: Position = Field(Position(), description="how the scans lie")
    flair_slice_mm: float = Field(3.0, ge=1, description="slice thickness of the FLAIR, whole mm")
    pet_voxel_mm: float = Field(2.0, gt=0, description="voxel size of the PET, mm")
    frames: int = Field(
        4, ge=1, description="PET frames that fill the tracer's window; one more precedes them"
    )
    receive_field_sd: float = Field(0.15, ge=0, description="SD of the logarithm of the receive field")
    noise_free_pet: bool = Field(False, description="leave PET without noise, to test quantities alone")


def random_rigid(rng: np.random.Generator, degrees: float, shift_mm: float) -> Affine:
    """A random rigid motion about the origin (near the centre of the head), (4, 4), RAS mm."""
    angles = np.deg2rad(degrees) * rng.standard_normal(3)
    matrix = np.eye(4)
    for axis, angle in enumerate(angles):
        a, b = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[[a, a, b, b], [a, b, a, b]] = [np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)]
        matrix[:3, :3] = turn @ matrix[:3, :3]
    matrix[:3, 3] = shift_mm * rng.standard_normal(3)
    return matrix


def oblique_grid(
    move: Affine, voxel_mm: npt.NDArray[np.float64], extent_mm: npt.NDArray[np.float64]
) -> tuple[tuple[int, int, int], Affine]:
    """A grid of the given voxel size centred on the head that ``move`` placed, its axes those of the scanner."""
    shape = np.ceil(extent_mm / voxel_mm).astype(int)
    affine = np.diag([*voxel_mm, 1.0])
    centre = (move @ np.append(GRIDS["1mm"].affine[:3, 3] + np.array(GRIDS["1mm"].shape) / 2, 1))[:3]
    affine[:3, 3] = centre - voxel_mm * (shape - 1) / 2
    return (int(shape[0]), int(shape[1]), int(shape[2])), affine


def sample_moved(
    data: Volume, grid: Grid, move: Affine, shape: tuple[int, int, int], affine: Affine
) -> Volume:
    """Sample the subject's volume, its head moved by ``move``, on a scanner's grid: linear, 0 outside."""
    to_source = np.linalg.inv(grid.affine) @ np.linalg.inv(move) @ affine
    return sample(data, to_source, shape)


def _thick(data: Volume, affine: Affine, count: int) -> tuple[Volume, Affine]:
    """Average groups of ``count`` slices along z, as a thick slice does."""
    slices = data.shape[2] // count
    thick = data[:, :, : slices * count].reshape(*data.shape[:2], slices, count).mean(axis=3)
    scaled = affine.copy()
    scaled[:3, 2] *= count
    scaled[:3, 3] += affine[:3, 2] * (count - 1) / 2
    return thick, scaled


def _field(shape: tuple[int, int, int], sd: float, rng: np.random.Generator) -> Volume:
    """A receive field on a 1 mm grid of any shape."""
    field = slow_field(Grid("receive", 1.0, shape), 120.0, rng)
    return np.asarray(np.exp(sd * field), dtype=np.float32)


def _write_mri(
    subject: SimulatedSubject, root: Path, config: AsScannedConfig, rng: np.random.Generator
) -> Json:
    visit, position, grid = Visit(subject.label), config.position, config.simulation.grid
    head = random_rigid(rng, position.head_degrees, position.head_mm)
    other = random_rigid(rng, position.between_degrees, position.between_mm) @ head
    extent = np.array([176.0, 208.0, 192.0])
    common = {
        "Manufacturer": "simulated",
        "MagneticFieldStrength": 3,
        "Simulated": True,
        "Description": NOTE,
    }
    for suffix, data, move in (("T1w", subject.t1w, head), ("FLAIR", subject.flair, other)):
        shape, affine = oblique_grid(move, np.ones(3), extent)
        image = sample_moved(data, grid, move, shape, affine) * _field(shape, config.receive_field_sd, rng)
        if suffix == "FLAIR":
            image, affine = _thick(image, affine, round(config.flair_slice_mm))
        write_image(visit.path(root, "anat", suffix), image, affine, common, "simulated by relapet", code=1)
    return {"AnatomyToT1w": head.tolist(), "AnatomyToFlair": other.tolist()}


def _write_pet(
    subject: SimulatedSubject,
    tracer: TracerSpec,
    root: Path,
    config: AsScannedConfig,
    rng: np.random.Generator,
) -> Json:
    visit, grid = Visit(subject.label), config.simulation.grid
    move = random_rigid(rng, config.position.head_degrees, config.position.head_mm)
    shape, affine = oblique_grid(move, np.full(3, config.pet_voxel_mm), np.array([200.0, 220.0, 200.0]))
    low, high = tracer.window_minutes
    duration = (high - low) / config.frames
    starts = [low + duration * (i - 1) for i in range(config.frames + 1)]
    moves, frames = [], []
    clean = subject.pet[tracer.name].noise_free
    for start in starts:
        noisy = clean
        if not config.noise_free_pet:
            # The mean over the window's frames has the noise of one static image.
            noise = pet_noise(clean, subject.scanner, grid, rng)
            noisy = clean + np.float32(np.sqrt(config.frames)) * noise
        washout = 1 - 0.002 * (start - low)
        frames.append(_REFERENCE_BQ_ML * washout * sample_moved(noisy, grid, move, shape, affine))
        moves.append(move.tolist())
        move = random_rigid(rng, config.position.frame_degrees, config.position.frame_mm) @ move
    times = [60 * start for start in starts]
    sidecar = _pet_sidecar(subject, tracer, times, 60 * duration)
    path = visit.path(root, "pet", "pet", trc=tracer.label)
    write_frames(path, np.stack(frames, axis=-1), affine, 60 * duration, sidecar)
    return {f"AnatomyToPet_{tracer.label}": moves}


def _pet_sidecar(subject: SimulatedSubject, tracer: TracerSpec, starts: list[float], duration: float) -> Json:
    """Every field that BIDS requires of a PET; what a simulation does not have is a round number."""
    return {
        "Simulated": True,
        "Description": NOTE,
        "Manufacturer": "simulated",
        "ManufacturersModelName": subject.scanner.name,
        "Units": "Bq/mL",
        "BodyPart": "BRAIN",
        "TracerName": tracer.ligand,
        "TracerRadionuclide": tracer.isotope,
        "InjectedRadioactivity": 370.0,
        "InjectedRadioactivityUnits": "MBq",
        "InjectedMass": 1.0,
        "InjectedMassUnits": "ug",
        "SpecificRadioactivity": 370.0,
        "SpecificRadioactivityUnits": "MBq/ug",
        "ModeOfAdministration": "bolus",
        "TimeZero": "10:00:00",
        "ScanStart": starts[0],
        "InjectionStart": 0,
        "FrameTimesStart": starts,
        "FrameDuration": [duration] * len(starts),
        "AcquisitionMode": "list mode",
        "ImageDecayCorrected": True,
        "ImageDecayCorrectionTime": 0,
        "ReconMethodName": "simulated point spread",
        "ReconMethodParameterLabels": ["fwhm"],
        "ReconMethodParameterUnits": ["mm"],
        "ReconMethodParameterValues": [subject.scanner.psf_fwhm_mm],
        "ReconFilterType": "none",
        "ReconFilterSize": 0,
        "AttenuationCorrection": "none needed, simulated",
    }


def write_as_scanned(
    config: AsScannedConfig, out: Path, n_procs: int = 1, on_done: Callable[[str], None] | None = None
) -> Path:
    """Write the raw BIDS data set at ``out``, and what is true of it at ``out``/derivatives/truth.

    Truth of each subject: the rigid motions from the subject's anatomy to each scan (RAS mm), the template
    coordinates of every fourth anatomy voxel, labels and brain, and the noise-free SUVr on the anatomy's grid.
    ``on_done`` is called with each participant_id. Raises InputError where the folder cannot be written, is in use
    or holds anything but what a killed call with the same settings left.
    """
    simulation = config.simulation.changed(grid=GRIDS["1mm"])
    config = config.changed(simulation=simulation)
    settings: Json = {"Simulated": True, SETTINGS: {"AsScanned": True, **config.model_dump(mode="json")}}
    truth = truth_root(Path(out))
    with simulation_folder(Path(out), settings[SETTINGS], truth / DESCRIPTION) as root:
        write_raw_description(root, "relapet simulated cohort, as scanned", NOTE, **settings)
        rows: dict[int, dict[str, Any]] = {}
        for index, row in each_index(partial(_write_one, config, root), simulation.subjects, n_procs):
            rows[index] = row
            if on_done is not None:
                on_done(str(row["participant_id"]))
        people = pd.DataFrame([rows[i] for i in range(simulation.subjects)])
        write_table(root / "participants.tsv", people, PARTICIPANT_COLUMNS)
        write_text(root / "README.md", f"# Simulated scans\n\n{NOTE}\n")
        write_dataset_description(truth, "Truth of the relapet as-scanned cohort", {}, Simulated=True)
        return root


def noise_free_path(root: Path, visit: Visit, tracer: TracerSpec) -> Path:
    """Noise-free SUVr in the subject's own anatomy, which no transform has touched."""
    return visit.pet(truth_root(root), tracer, "noisefree", None)


def truth_root(root: Path) -> Path:
    """Folder of the truth of an as-scanned data set."""
    return Path(root) / "derivatives" / TRUTH


def _write_one(config: AsScannedConfig, root: Path, index: int) -> dict[str, Any]:
    """Write one subject; returns its row of participants.tsv."""
    subject = simulate_subject(config.simulation, index)
    rng = np.random.default_rng(np.random.SeedSequence(config.simulation.seed, spawn_key=(index, _STREAM)))
    visit, truth, grid = Visit(subject.label), truth_root(root), config.simulation.grid
    record: dict[str, Any] = _write_mri(subject, root, config, rng)
    for name, tracer in simulated_tracers().items():
        tracer_rng = np.random.default_rng(rng.integers(2**63, size=4))
        if name in subject.missing:
            continue
        record |= _write_pet(subject, tracer, root, config, tracer_rng)
        path = noise_free_path(root, visit, tracer)
        write_image(path, subject.pet[name].noise_free, grid.affine, None, code=1)
    labels = subject.anatomy.dseg.astype(np.int16)
    write_image(visit.path(truth, "anat", "dseg", desc="dk"), labels, grid.affine, None, code=1)
    write_image(visit.mask(truth, None), subject.anatomy.brain, grid.affine, None, code=1)
    coordinates = np.moveaxis(subject.anatomy.template_mm[:, ::4, ::4, ::4], 0, -1)
    coarse = grid.affine @ np.diag([4.0, 4, 4, 1])
    save_frames(visit.path(truth, "anat", "map", desc="templatemm"), coordinates, coarse, 1.0)
    write_json(visit.path(truth, "anat", "", ".json", desc="positions"), record)
    return participant_row(subject, config.simulation)
