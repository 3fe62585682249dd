"""Is the information really in the simulated images? Ceilings, invisible share, and what ridge reaches.

    python benchmarks/cohort.py --subjects 200 --site research

Simulates subjects in memory at 4 mm. Per tracer and region of the template's atlas (both sides pooled):
Pearson r over subjects of the measured regional SUVr with (a) the noise-free map, (b) the map expected from
what the MRI can show, (c) ten-fold cross-validated ridge of plain MRI features, (d) the same of T1w alone.
The features are measured in the images (signal per region, a three-class grey fraction, lesion and ventricle
volume), never taken from the latents.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage
from sklearn.cluster import KMeans
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from relapet.imaging.grid import get_grid
from relapet.imaging.template import load_atlas
from relapet.simulation.cohort import SimulatedSubject, SimulationConfig, simulate_subject
from relapet.simulation.regions import base_name, lobe_of_label
from relapet.simulation.scanner import get_site
from relapet.tracers import simulated_tracers

_SMALL = ("unknown", "vessel", "Optic-Chiasm", "hypointensities", "CC_", "choroid-plexus")


@dataclass(frozen=True)
class Regions:
    """The template's labels on one grid, both sides pooled."""

    labels: np.ndarray
    names: list[str]
    of_index: np.ndarray
    """Atlas index to position in ``names``, from 1; 0 for a label left out."""


def pooled_regions(grid_name: str) -> Regions:
    atlas = load_atlas(get_grid(grid_name))
    lobes = lobe_of_label()
    names = sorted(
        {
            base_name(name)
            for i, name in atlas.names.items()
            if lobes[i] != "csf" and not any(s in name for s in _SMALL)
        }
    )
    of_index = np.zeros(max(atlas.names) + 1, dtype=np.int32)
    for index, name in atlas.names.items():
        if base_name(name) in names:
            of_index[index] = names.index(base_name(name)) + 1
    return Regions(of_index[atlas.labels], names, of_index)


def region_means(image: np.ndarray, regions: Regions) -> np.ndarray:
    return np.asarray(ndimage.mean(image, regions.labels, np.arange(1, len(regions.names) + 1)))


def tissue_classes(t1w: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Soft membership (3, X, Y, Z) of fluid, grey, white: linear between the means of three classes."""
    signal = t1w[brain].reshape(-1, 1)
    fit = KMeans(3, n_init=1, init=np.percentile(signal, [5, 40, 85]).reshape(-1, 1)).fit(signal)
    csf, grey, white = np.sort(fit.cluster_centers_.ravel())
    whiteness = np.clip((t1w - grey) / (white - grey), 0, 1)
    fluidness = np.clip((grey - t1w) / (grey - csf), 0, 1)
    return np.stack([fluidness, 1 - whiteness - fluidness, whiteness]) * brain


def mri_features(
    subject: SimulatedSubject, regions: Regions, ventricles: np.ndarray
) -> dict[str, np.ndarray]:
    """Plain features of the images: signal and grey fraction per region, lesion and ventricle volume."""
    brain, t1w, flair = subject.anatomy.brain, subject.t1w, subject.flair
    classes = tissue_classes(t1w, brain)
    white = ndimage.binary_erosion(classes[2] > 0.8)
    white_flair = flair[white]
    spread = 1.4826 * np.median(np.abs(white_flair - np.median(white_flair)))
    bright = (flair > np.median(white_flair) + 4 * spread) & ndimage.binary_erosion(
        classes[1] + classes[2] > 0.8
    )
    bright &= np.isin(regions.labels, [regions.names.index("Cerebral-White-Matter") + 1])
    volumes = np.log([bright.sum() + 1.0, (classes[0] * ventricles).sum() + 1.0])
    t1 = [region_means(t1w, regions) / np.median(t1w[brain]), region_means(classes[1], regions), volumes[1:]]
    return {
        "t1": np.concatenate(t1),
        "all": np.concatenate([*t1, region_means(flair, regions) / np.median(flair[brain]), volumes[:1]]),
    }


def predict(features: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Ten-fold cross-validated ridge regression, its strength chosen inside each fold."""
    folds = KFold(10, shuffle=True, random_state=0)
    model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 5, 11)))
    return np.column_stack([cross_val_predict(model, features, target, cv=folds) for target in targets.T])


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson r over subjects of each column."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    return (a * b).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))


def collect(config: SimulationConfig, regions: Regions) -> dict[str, np.ndarray]:
    """Regional SUVr (subjects, regions) by 'tracer/kind' and features by 'features/set'."""
    ventricles = ndimage.binary_dilation(
        np.isin(load_atlas(config.grid).labels, [4, 43, 31, 63]),
        iterations=max(1, round(6 / config.grid.voxel_size)),
    )
    rows: dict[str, list[np.ndarray]] = {}
    for index in range(config.subjects):
        subject = simulate_subject(config, index)
        own = Regions(regions.of_index[subject.anatomy.dseg], regions.names, regions.of_index)
        for name, pet in subject.pet.items():
            for kind in ("measured", "noise_free", "visible"):
                image = getattr(pet, kind)
                rows.setdefault(f"{name}/{kind}", []).append(region_means(image, regions))
                rows.setdefault(f"{name}/{kind}/own", []).append(region_means(image, own))
        for name, values in mri_features(subject, regions, ventricles).items():
            rows.setdefault(f"features/{name}", []).append(values)
        if sys.stderr.isatty() or (index + 1) % 50 == 0:
            print(f"\r{index + 1} of {config.subjects} subjects", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return {name: np.stack(values) for name, values in rows.items()}


def table(data: dict[str, np.ndarray], regions: Regions, tracer: str) -> pd.DataFrame:
    """One row a region: mean, SD, hidden share, and r of the ceilings and both regressions."""
    measured, free, visible = (data[f"{tracer}/{kind}"] for kind in ("measured", "noise_free", "visible"))
    return pd.DataFrame(
        {
            "region": regions.names,
            "mean": measured.mean(axis=0),
            "sd": measured.std(axis=0, ddof=1),
            "hidden_share": 1 - correlation(visible, free) ** 2,
            "own_labels": 1
            - correlation(data[f"{tracer}/visible/own"], data[f"{tracer}/noise_free/own"]) ** 2,
            "noise_ceiling": correlation(free, measured),
            "visible_ceiling": correlation(visible, measured),
            "ridge": correlation(predict(data["features/all"], measured), measured),
            "ridge_t1w": correlation(predict(data["features/t1"], measured), measured),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--subjects", type=int, default=24)
    parser.add_argument("--site", default="research")
    parser.add_argument("--grid", default="4mm")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--regions", action="store_true", help="print every region, not the medians alone")
    args = parser.parse_args()
    config = SimulationConfig(
        subjects=args.subjects, site=get_site(args.site), grid=get_grid(args.grid), seed=args.seed
    )
    regions = pooled_regions(args.grid)
    start = time.perf_counter()
    data = collect(config, regions)
    print(f"{args.site}, {args.subjects} subjects at {args.grid}, {time.perf_counter() - start:.0f} s")
    summary = []
    for name, tracer in simulated_tracers().items():
        rows = table(data, regions, name)
        rows = rows[rows["sd"] > 0.02]  # the reference region does not vary
        if args.regions:
            print(f"\n{name}\n{rows.round(3).to_string(index=False)}")
        median = rows.drop(columns=["region", "mean", "sd"]).median()
        ratio = float((rows["ridge"] / rows["visible_ceiling"]).median())
        summary.append(
            {
                "tracer": name,
                "stated_share": tracer.how_simulated().invisible_share,
                **median,
                "ridge/visible": ratio,
            }
        )
    print(f"\nmedian over regions\n{pd.DataFrame(summary).round(3).to_string(index=False)}")


if __name__ == "__main__":
    main()
