"""Does preprocessing find again what is known? Simulates an as-scanned cohort, preprocesses it, prints one table.

    python benchmarks/preprocessing.py OUT --subjects 12

Rows: median distance inside the brain between found and true mapping (FLAIR and PET to T1w: aim 1.5 mm; T1w to
template: aim 3 mm), relative error of noise-free SUVr per VOI (aim 3 % median, 15 % at worst), change of VOI means
of a 1 mm PET from native to template space and back (aim 2 %), time and peak memory (aim 5 minutes on 2 cores,
6 GiB). Every VOI's error is in OUT/vois.tsv. Without an argument one subject goes to a temporary folder.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from relapet.files import read_json
from relapet.imaging.bids import Visit, find_visits
from relapet.imaging.derivatives import find_way_back
from relapet.imaging.grid import GRIDS
from relapet.imaging.nifti import load_volume
from relapet.imaging.resample import sample
from relapet.imaging.template import Atlas, load_atlas
from relapet.imaging.transforms import Step, apply, bring_back, load_ants
from relapet.preprocessing.names import Names
from relapet.preprocessing.pipeline import PreprocessConfig, preprocess
from relapet.simulation.as_scanned import (
    AsScannedConfig,
    noise_free_path,
    sample_moved,
    truth_root,
    write_as_scanned,
)
from relapet.simulation.subject import SimulationConfig
from relapet.tracers import simulated_tracers

LPS = np.array([-1.0, -1.0, 1.0])
SMALL_MM3 = 1500.0
"""VOIs below this are counted apart: at 6 mm resolution most of their signal comes from their neighbours."""


def through(path: Path, points: np.ndarray) -> np.ndarray:
    """Where a resampling transform looks for each point (N, 3), RAS mm."""
    frame = pd.DataFrame(points * LPS, columns=["x", "y", "z"])
    moved = load_ants().apply_transforms_to_points(3, frame, [str(path)], whichtoinvert=[False])
    return moved[["x", "y", "z"]].to_numpy() * LPS


def distance(found: np.ndarray, true: np.ndarray) -> float:
    return float(np.median(np.linalg.norm(found - true, axis=1)))


def affine(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def mapping_errors(raw: Path, out: Path, visit: Visit) -> dict[str, float]:
    """Median distances, mm, over the brain of one visit."""
    names, truth = Names(out, visit), truth_root(raw)
    positions = read_json(visit.path(truth, "anat", "", ".json", desc="positions"))
    brain = nib.load(visit.mask(truth, None))
    own = affine(brain.affine, np.argwhere(np.asarray(brain.dataobj) > 0)[::501])
    head = np.array(positions["AnatomyToT1w"])
    t1w = affine(head, own)
    rows = {
        "FLAIR to T1w": distance(
            through(names.flair_to_t1w, t1w), affine(np.array(positions["AnatomyToFlair"]), own)
        )
    }
    for tracer in simulated_tracers().values():
        moves = positions.get(f"AnatomyToPet_{tracer.label}")
        if moves is not None:
            index = read_json(names.provenance)["Pet"][tracer.name]["Frames"]
            true = affine(np.array(moves[index[len(index) // 2]]), own)
            rows[f"PET {tracer.name} to T1w"] = distance(through(names.pet_to_t1w(tracer), t1w), true)
    field = nib.load(visit.path(truth, "anat", "map", desc="templatemm"))
    where = affine(np.linalg.inv(field.affine), own).T
    true = np.stack(
        [ndimage.map_coordinates(np.asarray(field.dataobj[..., i]), where, order=1) for i in range(3)], 1
    )
    rows["T1w to template"] = distance(through(names.warp.inverse, t1w), true)
    return rows


def true_labels(raw: Path, visit: Visit, template: Atlas) -> np.ndarray:
    """The template's atlas in the subject's anatomy by the true mapping: the same VOIs on both sides."""
    grid = GRIDS["1mm"]
    field = nib.load(visit.path(truth_root(raw), "anat", "map", desc="templatemm"))
    coarse = np.linalg.inv(field.affine) @ grid.affine
    to_voxel = np.linalg.inv(grid.affine)
    where = [
        sample(np.asarray(field.dataobj[..., i]), coarse, grid.shape, mode="nearest") * to_voxel[i, i]
        + to_voxel[i, 3]
        for i in range(3)
    ]
    return ndimage.map_coordinates(template.labels, where, order=0)


def suvr_errors(raw: Path, out: Path, visit: Visit) -> pd.DataFrame:
    """Relative error of each VOI's mean, percent: columns visit, tracer, voi, mm3, true, error."""
    template = load_atlas(GRIDS["1mm"])
    own = Atlas(true_labels(raw, visit, template), template.names)
    rows = []
    for tracer in simulated_tracers().values():
        if not visit.pet(out, tracer).is_file():
            continue
        true = own.means(np.asarray(load_volume(noise_free_path(raw, visit, tracer)).dataobj))
        found = template.means(np.asarray(load_volume(visit.pet(out, tracer)).dataobj))
        rows += [
            (visit.stem, tracer.name, own.names[i], mm3, true[i], 100 * (found[i] / true[i] - 1))
            for i, mm3 in own.volumes_mm3(1.0).items()
            if i in found
        ]
    return pd.DataFrame(rows, columns=["visit", "tracer", "voi", "mm3", "true", "error"])


def summarize(vois: pd.DataFrame) -> dict[str, float]:
    """Median and worst of one visit's VOIs, the small ones apart."""
    rows = {}
    for tracer, own in vois.groupby("tracer"):
        large = own[own.mm3 > SMALL_MM3].error.abs()
        rows[f"SUVr {tracer}, median %"] = float(large.median())
        rows[f"SUVr {tracer}, worst %"] = float(large.max())
        rows[f"SUVr {tracer}, worst of VOIs below 1.5 mL %"] = float(
            own[own.mm3 <= SMALL_MM3].error.abs().max()
        )
    return rows


def there_and_back(raw: Path, out: Path, visit: Visit) -> dict[str, float]:
    """Change of VOI means of a 1 mm PET from native to template space and back, percent."""
    grid, t1w = GRIDS["1mm"], load_volume(Names(out, visit).native_t1w)
    positions = read_json(visit.path(truth_root(raw), "anat", "", ".json", desc="positions"))
    way_back, to_template = find_way_back(out, visit), [Step(Names(out, visit).warp.forward)]
    atlas = load_atlas(grid)
    labels = bring_back(nib.Nifti1Image(atlas.labels.astype(np.float32), grid.affine), way_back, 0)
    native = Atlas(np.asarray(labels.dataobj).astype(np.int32), atlas.names)
    rows = {}
    for tracer in simulated_tracers().values():
        path = noise_free_path(raw, visit, tracer)
        if not path.is_file():
            continue
        data = np.asarray(load_volume(path).dataobj)
        before = sample_moved(data, grid, np.array(positions["AnatomyToT1w"]), t1w.shape, t1w.affine)
        there = apply(nib.Nifti1Image(before, t1w.affine), grid.shape, grid.affine, to_template)
        back = np.asarray(bring_back(nib.Nifti1Image(there, grid.affine), way_back).dataobj)
        was, now = native.means(before), native.means(back)
        change = [
            100 * abs(now[i] / was[i] - 1) for i, mm3 in native.volumes_mm3(1.0).items() if mm3 > SMALL_MM3
        ]
        rows[f"There and back {tracer.name}, median %"] = float(np.median(change))
        rows[f"There and back {tracer.name}, worst %"] = float(np.max(change))
    return rows


def preprocess_one(raw: Path, out: Path, visit: Visit) -> tuple[str, dict[str, float]]:
    """Preprocess one visit in this process, which has done nothing else; returns what went wrong and its cost."""
    start = time.monotonic()
    outcome = preprocess(raw, out, PreprocessConfig(), [visit.subject])
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cost = {
        "Minutes": (time.monotonic() - start) / 60,
        "CPU minutes": sum(u.ru_utime + u.ru_stime for u in used) / 60,
        "Peak memory, GiB": max(u.ru_maxrss for u in used) / 2**20,
    }
    return outcome.failed.get(visit.stem, ""), {} if outcome.unchanged else cost


def measure(raw: Path, out: Path, visit: Visit) -> tuple[dict[str, float], pd.DataFrame]:
    """All rows of one visit, and its VOIs."""
    vois = suvr_errors(raw, out, visit)
    return {**mapping_errors(raw, out, visit), **summarize(vois), **there_and_back(raw, out, visit)}, vois


def main() -> None:
    """Simulate, preprocess, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--subjects", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n-procs", type=int, default=1, help="visits at a time; times are fair with one")
    args = parser.parse_args()
    out = args.out or Path(tempfile.mkdtemp(prefix="relapet-preprocessing-"))
    raw, derived = out / "raw", out / "derivatives"
    if not raw.is_dir():
        cohort = SimulationConfig(subjects=args.subjects, seed=args.seed)
        write_as_scanned(AsScannedConfig(simulation=cohort, noise_free_pet=True), raw)
    visits = find_visits(raw)
    rows, vois = {}, []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.n_procs, mp_context=context, max_tasks_per_child=1) as pool:
        for visit, (failed, cost) in zip(
            visits, pool.map(partial(preprocess_one, raw, derived), visits), strict=True
        ):
            if failed:
                print(f"{visit.stem} failed: {failed}")
                continue
            found, own = measure(raw, derived, visit)
            rows[visit.stem] = {**found, **cost}
            vois.append(own)
            print(
                f"{visit.stem}: " + ", ".join(f"{k} {v:.2f}" for k, v in rows[visit.stem].items()), flush=True
            )
    table = pd.DataFrame(rows).T
    table.to_csv(out / "preprocessing.tsv", sep="\t", index_label="visit")
    every = pd.concat(vois)
    every.to_csv(out / "vois.tsv", sep="\t", index=False)
    print(pd.DataFrame({"median": table.median(), "worst": table.max()}).round(2).to_string())
    beyond = every[every.error.abs() > 15]
    print(f"VOIs off by more than 15 %: {len(beyond)} of {len(every)}")
    if len(beyond):
        print(beyond.round(2).to_string(index=False))


if __name__ == "__main__":
    main()
