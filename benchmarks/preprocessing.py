"""Does preprocessing find again what is known? Simulates an as-scanned cohort, preprocesses it, prints one table.

    python benchmarks/preprocessing.py OUT --subjects 12

Median distance inside the brain between found and true mapping (FLAIR and PET to T1w: aim 1.5 mm; T1w to
template: aim 3 mm), and relative error of noise-free SUVr per VOI (aim 3 % median, 15 % at worst).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from relapet.cohort.as_scanned import AsScannedConfig, noise_free_path, truth_root, write_as_scanned
from relapet.cohort.bids import Visit, find_visits
from relapet.cohort.grid import GRIDS
from relapet.cohort.nifti import load_volume
from relapet.cohort.simulated_subject import SimulationConfig
from relapet.cohort.template import Atlas, load_atlas
from relapet.files import read_json
from relapet.preprocessing.names import Names
from relapet.preprocessing.pipeline import PreprocessConfig, preprocess
from relapet.preprocessing.spatial import load_ants
from relapet.tracers import simulated_tracers

LPS = np.array([-1.0, -1.0, 1.0])
LEAST_MM3 = 1500.0
"""Smaller VOIs are left out: their mean is noise at PET's resolution."""


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
    anat = visit.folder(truth, "anat")
    positions = read_json(anat / f"{visit.stem}_desc-positions.json")
    brain = nib.load(anat / f"{visit.stem}_desc-brain_mask.nii.gz")
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
    field = nib.load(anat / f"{visit.stem}_desc-templatemm_map.nii.gz")
    where = affine(np.linalg.inv(field.affine), own).T
    true = np.stack(
        [ndimage.map_coordinates(np.asarray(field.dataobj[..., i]), where, order=1) for i in range(3)], 1
    )
    rows["T1w to template"] = distance(through(names.warp.inverse, t1w), true)
    return rows


def true_labels(raw: Path, visit: Visit, template: Atlas) -> np.ndarray:
    """The template's atlas in the subject's anatomy by the true mapping: the same VOIs on both sides."""
    grid = GRIDS["1mm"]
    field = nib.load(visit.folder(truth_root(raw), "anat") / f"{visit.stem}_desc-templatemm_map.nii.gz")
    coarse = np.linalg.inv(field.affine) @ grid.affine
    to_voxel = np.linalg.inv(grid.affine)
    where = [
        ndimage.affine_transform(
            np.asarray(field.dataobj[..., i]),
            coarse[:3, :3],
            coarse[:3, 3],
            grid.shape,
            order=1,
            mode="nearest",
        )
        * to_voxel[i, i]
        + to_voxel[i, 3]
        for i in range(3)
    ]
    return ndimage.map_coordinates(template.labels, where, order=0)


def suvr_errors(raw: Path, out: Path, visit: Visit) -> dict[str, float]:
    """Median and worst relative error of VOI means, percent."""
    template = load_atlas(GRIDS["1mm"])
    own = Atlas(true_labels(raw, visit, template), template.names)
    large = {i for i, volume in own.volumes_mm3(1.0).items() if volume > LEAST_MM3}
    rows = {}
    for tracer in simulated_tracers().values():
        if not visit.pet(out, tracer).is_file():
            continue
        true = own.means(np.asarray(load_volume(noise_free_path(raw, visit, tracer)).dataobj))
        found = template.means(np.asarray(load_volume(visit.pet(out, tracer)).dataobj))
        error = np.array([100 * abs(found[i] / true[i] - 1) for i in large if i in found])
        rows[f"SUVr {tracer.name}, median %"] = float(np.median(error))
        rows[f"SUVr {tracer.name}, worst %"] = float(error.max())
    return rows


def main() -> None:
    """Simulate, preprocess, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--subjects", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n-procs", type=int, default=1)
    args = parser.parse_args()
    raw, derived = args.out / "raw", args.out / "derivatives"
    if not raw.is_dir():
        cohort = SimulationConfig(subjects=args.subjects, seed=args.seed)
        write_as_scanned(AsScannedConfig(cohort, noise_free_pet=True), raw)
    outcome = preprocess(raw, derived, PreprocessConfig(n_procs=args.n_procs))
    for visit, reason in outcome.failed.items():
        print(f"{visit} failed: {reason}")
    rows = {
        visit.stem: {**mapping_errors(raw, derived, visit), **suvr_errors(raw, derived, visit)}
        for visit in find_visits(raw)
        if visit.stem not in outcome.failed
    }
    table = pd.DataFrame(rows).T
    summary = pd.DataFrame({"median": table.median(), "worst": table.max()})
    print(summary.round(2).to_string())
    table.to_csv(args.out / "preprocessing.tsv", sep="\t", index_label="visit")


if __name__ == "__main__":
    main()
