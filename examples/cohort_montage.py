"""Draw six subjects of the simulated cohort: T1w, FLAIR and three PET tracers, axial and coronal.

    python examples/cohort_montage.py docs/images/cohort.png --grid 1mm

Three subjects come from each site, chosen among the first forty by their latents: healthy, inflamed, and with
tau and amyloid (research); healthy, with many white-matter lesions, and with advanced tau (adni).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from relapet.imaging.grid import Grid, get_grid
from relapet.simulation.cohort import SimulatedSubject, SimulationConfig, simulate_subject
from relapet.simulation.scanner import SITES
from relapet.tracers import simulated_tracers

SUBJECTS = (("research", 24), ("research", 3), ("research", 16), ("adni", 20), ("adni", 26), ("adni", 4))
AXIAL_MM, CORONAL_MM = 4.0, -14.0
TRACERS = ("tau", "pbr28", "pib")


def planes(image: np.ndarray, grid: Grid) -> np.ndarray:
    """The axial slice above the coronal one, seen from the feet and from the front (left is right)."""
    places = ((2, AXIAL_MM), (1, CORONAL_MM))
    index = [round((mm - grid.affine[axis, 3]) / grid.voxel_size) for axis, mm in places]
    axial, coronal = image[::-1, :, index[0]].T[::-1], image[::-1, index[1]].T[::-1]
    return np.vstack([axial, coronal])


def caption(subject: SimulatedSubject, site: str) -> str:
    """Who is shown, in four lines."""
    latents = subject.latents
    who = f"{site}, {latents.age:.0f} y {'M' if latents.male else 'F'}"
    burdens = [f"{name} {value:.2f}" for name, value in latents.burden.items()]
    return "\n".join([who, *burdens, f"lesions {latents.lesion_ml:.1f} ml"])


def main() -> None:
    """Simulate the six subjects and draw them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--grid", default="1mm")
    parser.add_argument("--noise-free", action="store_true", help="PET without noise")
    args = parser.parse_args()
    grid, tracers = get_grid(args.grid), simulated_tracers()
    figure, axes = plt.subplots(
        len(SUBJECTS), 5, figsize=(11.5, 26), facecolor="black", gridspec_kw={"wspace": 0.02, "hspace": 0.02}
    )
    for number, (row, (site, index)) in enumerate(zip(axes, SUBJECTS, strict=True)):
        subject = simulate_subject(SimulationConfig(site=SITES[site], grid=grid), index)
        for axis, image in zip(row[:2], (subject.t1w, subject.flair), strict=True):
            top = 1.08 * np.percentile(image[subject.anatomy.brain], 99.7)
            axis.imshow(planes(image, grid), cmap="gray", vmin=0, vmax=top, interpolation="bilinear")
        for axis, name in zip(row[2:], TRACERS, strict=True):
            pet = subject.pet[name]
            image = pet.noise_free if args.noise_free else pet.measured
            low, high = 0.0, tracers[name].display_window[1]
            shown = axis.imshow(
                planes(image, grid), cmap="nipy_spectral", vmin=low, vmax=high, interpolation="bilinear"
            )
            if number == len(SUBJECTS) - 1:
                bar = figure.colorbar(
                    shown, cax=axis.inset_axes((0.1, -0.06, 0.8, 0.025)), orientation="horizontal"
                )
                bar.set_label("SUVr", color="white")
                bar.ax.tick_params(colors="white")
        row[0].text(-3, image.shape[1] / 2, caption(subject, site), color="white", fontsize=8, ha="right")
    for axis, title in zip(
        axes[0], ("T1w", "FLAIR", *(f"{tracers[n].label} SUVr" for n in TRACERS)), strict=True
    ):
        axis.set_title(title, color="white", fontsize=11)
    for axis in axes.ravel():
        axis.axis("off")
    figure.suptitle("relapet simulated cohort: no image of a person", color="white", y=0.9)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=90, bbox_inches="tight", facecolor="black")


if __name__ == "__main__":
    main()
