"""Writing synthetic maps in one space: images, sidecars and VOI tables, under names of BIDS-Derivatives."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import nibabel as nib
import numpy as np
import pandas as pd

from relapet.imaging.bids import Visit, sidecar_path, write_image, write_table
from relapet.imaging.grid import SPACE, Grid
from relapet.imaging.template import Atlas, load_atlas
from relapet.synthesis.synthesizer import Synthesis
from relapet.tracers import TracerSpec
from relapet.types import Affine, Json, Volume

_DESCRIPTIONS = ("synth", "synthstd", "synthsamples")
"""desc- of all that is written of a visit and tracer."""
_COLUMNS: Json = {
    "index": {"Description": "Label of the region in the atlas (Desikan-Killiany and FreeSurfer's subcortical labels); "
              "n/a for the composite"},
    "name": {"LongName": "Region"},
    "mean": {"Description": "Mean of the expected map within the region, whatever the brain mask says"},
    "sd": {"Description": "Standard deviation of the region's mean over the samples; n/a for one sample"},
    "volume": {"Description": "Volume of the region on this grid", "Units": "mm^3"},
}  # fmt: skip
"""What the JSON beside a table says of the columns that every table has."""


class AddIntervals(Protocol):
    """Adds columns to the VOI table of a synthesis, and says what its JSON holds of them."""

    def add(self, synthesis: Synthesis, table: pd.DataFrame) -> tuple[pd.DataFrame, Json]:
        """The table with its new columns, and the content of the JSON beside it (empty for none)."""
        ...


@dataclass(frozen=True)
class Place:
    """A space and a grid that maps are written on, with the atlas's labels there."""

    space: str
    """BIDS label of the space."""
    affine: Affine
    atlas: Atlas
    code: int
    """NIfTI's code of the affine: 4 MNI, 1 scanner."""
    reference: str
    """What SpatialReference says: the space's name, or the URI of the image that defines it."""
    resolution: str


def template_place(grid: Grid) -> Place:
    """The model's own grid in template space."""
    return Place(SPACE, grid.affine, load_atlas(grid), 4, SPACE, f"{grid.voxel_size} mm isotropic")


def write_synthesis(
    out: Path,
    visit: Visit,
    synthesis: Synthesis,
    place: Place,
    sidecar: Json,
    intervals: AddIntervals | None = None,
) -> set[Path]:
    """Write the mean map, the SD map of several samples, their sidecars and the VOI tables; returns their paths."""
    tracer = synthesis.tracer
    written: set[Path] = set()
    sidecar = {**sidecar, "SpatialReference": place.reference, "Resolution": place.resolution}
    maps: dict[str, tuple[nib.Nifti1Image, str, Json]] = {
        "synth": (synthesis.mean, f"synthetic {sidecar['Measure']}, not an acquisition", {})
    }
    if synthesis.sd is not None:
        more = {"Description": "Standard deviation over the samples"}
        maps["synthstd"] = (synthesis.sd, f"SD of synthetic {sidecar['Measure']} over samples", more)
    for desc, (image, description, more) in maps.items():
        path = visit.pet(out, tracer, desc, place.space)
        data = np.asarray(image.dataobj)
        write_image(path, data, place.affine, {**sidecar, **more}, description, place.code)
        written |= {path, sidecar_path(path)}
    table, samples = voi_tables(synthesis, place)
    origin: Json = {"TrainedOn": sidecar["TrainedOn"]} if "TrainedOn" in sidecar else {}
    columns: Json = {}
    if intervals is not None:
        table, columns = intervals.add(synthesis, table)
    tables = {"synth": (table, {**origin, **_described(table, sidecar["Measure"]), **columns})}
    if len(synthesis.samples) > 1:
        tables["synthsamples"] = (samples, {**origin, **_described(samples, sidecar["Measure"])})
    for desc, (rows, about) in tables.items():
        path = visit.voi_table(out, tracer, desc, place.space)
        write_table(path, rows, about, "%.6g")
        written |= {path, sidecar_path(path)}
    return written


def _described(table: pd.DataFrame, measure: str) -> Json:
    """What each of a table's columns is, those of intervals aside; ``measure`` is what the map holds."""
    unit = {"Units": "SUVr" if measure == "SUVR" else "arbitrary"}
    told: Json = {name: about for name, about in _COLUMNS.items() if name in table.columns}
    told |= {name: told[name] | unit for name in ("mean", "sd") if name in told}
    samples = [name for name in table.columns if str(name).startswith("sample-")]
    return told | {name: {"Description": f"Mean of {name} within the region", **unit} for name in samples}


def remove_stale(out: Path, visit: Visit, tracer: TracerSpec, written: Collection[Path]) -> None:
    """Delete what an earlier call wrote of a visit and tracer and this one did not: maps, tables, intervals."""
    for desc in _DESCRIPTIONS:
        for path in visit.made_of(out, tracer, desc):
            if path not in written:
                path.unlink(missing_ok=True)


def voi_tables(synthesis: Synthesis, place: Place) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The VOI table (of the mean map, with the SD over samples), and each sample's VOI means.

    A VOI is every voxel of its label, whatever the brain mask says, as in `relapet.evaluation.scores.voi`: a mask that
    differs from person to person must not move the mean. The last row, without an index, is the composite that the
    tracer's threshold is for.
    """
    atlas, rule = place.atlas, synthesis.tracer.positivity
    indices = atlas.indices()
    names = [atlas.names[index] for index in indices]
    voxel_mm3 = abs(float(np.linalg.det(place.affine[:3, :3])))
    volumes = [*atlas.volumes_mm3(voxel_mm3).values()]
    inside = None if rule is None else atlas.mask(synthesis.tracer.composites[rule.composite])
    if rule is not None and inside is not None and inside.any():
        names.append(rule.composite)
        volumes.append(int(inside.sum()) * voxel_mm3)
    else:
        inside = None

    def means(volume: Volume) -> list[float]:
        of_composite = [] if inside is None else [float(volume[inside].mean(dtype=np.float64))]
        return [*atlas.means(volume).values(), *of_composite]

    per_sample = pd.DataFrame({f"sample-{i}": means(v) for i, v in enumerate(synthesis.samples)})
    index = pd.Series([*indices, *([] if inside is None else [pd.NA])], dtype="Int64")
    head = pd.DataFrame({"index": index, "name": names})
    many = len(synthesis.samples) > 1
    table = head.assign(
        mean=means(np.asarray(synthesis.mean.dataobj)),
        sd=per_sample.std(axis=1, ddof=1) if many else float("nan"),
        volume=volumes,
    )
    return table, pd.concat([head, per_sample], axis=1)
