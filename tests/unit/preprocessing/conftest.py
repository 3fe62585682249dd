"""A small raw BIDS data set made of the template, with every true position known."""

import json
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from relapet.imaging.grid import GRIDS
from relapet.imaging.template import load_atlas, load_template

GRID = GRIDS["3mm"]


def rigid(degrees, shift_mm):
    a = np.deg2rad(degrees)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    matrix[:3, 3] = shift_mm
    return matrix


def moved(data, move):
    """The volume on the template's grid with its content moved by ``move`` (RAS mm)."""
    to_source = np.linalg.inv(GRID.affine) @ np.linalg.inv(move) @ GRID.affine
    return ndimage.affine_transform(data, to_source[:3, :3], to_source[:3, 3], order=1)


@dataclass(frozen=True)
class RawTree:
    root: object
    flair_move: object
    """Where the FLAIR's header puts what the T1w's header puts at a point."""
    pet_move: object
    suvr: object
    """True SUVr on the template's grid, before any movement."""


def write_pet(root, subject, label, frames, affine, **sidecar):
    folder = root / f"sub-{subject}" / "pet"
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"sub-{subject}_trc-{label}_pet"
    data = np.stack(frames, axis=-1).astype(np.float32)
    nib.save(nib.Nifti1Image(data, affine), f"{stem}.nii.gz")
    fields = {
        "Units": "Bq/mL",
        "InjectionStart": 0,
        "FrameTimesStart": [(80 + 5 * i) * 60 for i in range(len(frames))],
        "FrameDuration": [300] * len(frames),
        "ImageDecayCorrected": True,
        **sidecar,
    }
    stem.with_suffix(".json").write_text(json.dumps({k: v for k, v in fields.items() if v is not None}))


def write_mri(root, subject, name, data, affine):
    folder = root / f"sub-{subject}" / "anat"
    folder.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data.astype(np.float32), affine), folder / f"sub-{subject}_{name}.nii.gz")


@pytest.fixture(scope="session")
def raw_tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("raw")
    (root / "dataset_description.json").write_text(
        json.dumps({"Name": "made of the template", "BIDSVersion": "1.10.0"})
    )
    template, atlas = load_template(GRID), load_atlas(GRID)
    t1w = np.where(template.brain, template.t1, 0)
    flair = np.where(template.brain, 30 * template.csf + 150 * template.grey + 118 * template.white, 0)
    uptake = 0.2 + 0.9 * template.white + 1.0 * template.grey
    index = {name: i for i, name in atlas.names.items()}
    hot = np.isin(atlas.labels, [i for name, i in index.items() if "temporal" in name or "fusiform" in name])
    uptake = ndimage.gaussian_filter(np.where(hot & (template.grey > 0.3), 1.9, uptake) * template.brain, 1.0)
    flair_move, pet_move = rigid(6, (5, -7, 4)), rigid(-9, (-8, 12, 15))
    head = rigid(4, (3, 2, -6)) @ GRID.affine
    write_mri(root, "01", "T1w", t1w, head)
    write_mri(root, "01", "FLAIR", flair, flair_move @ head)
    still, last = np.eye(4), rigid(3, (3, -3, 3))
    middle = rigid(2, (2, -2, 3))
    frames = [
        9000 * fade * moved(uptake, motion)
        for fade, motion in (
            (1.05, still),
            (1.0, still),
            (0.95, middle),
            (0.9, last),
        )
    ]
    write_pet(root, "01", "AV1451", frames, pet_move @ head)
    # The scan's reference is its third frame, whose head has moved within the scan's own grid.
    in_voxels = np.linalg.inv(GRID.affine) @ middle @ GRID.affine
    pet_move = pet_move @ head @ in_voxels @ np.linalg.inv(head)
    # Another subject without any T1w.
    write_mri(root, "03", "FLAIR", flair, head)
    labels = [index["Left-Cerebellum-Cortex"], index["Right-Cerebellum-Cortex"]]
    heights = GRID.affine[2, 2] * np.arange(GRID.shape[2]) + GRID.affine[2, 3]
    reference = np.isin(atlas.labels, labels) & (heights < -35)
    return RawTree(root, flair_move, pet_move, uptake / uptake[reference].mean())
