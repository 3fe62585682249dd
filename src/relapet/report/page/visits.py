"""What a page shows of one visit: stacks of slices, volumes for the viewer and regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from relapet.errors import InputError
from relapet.imaging.bids import NATIVE_SPACE, Visit
from relapet.imaging.grid import SPACE
from relapet.messages import plain_text
from relapet.report.page.images import ScanImages, SyntheticMap, VisitImages, read_visit
from relapet.report.page.pictures import ColourScale, Picture, colour_scale, slices_picture
from relapet.report.page.regions import Regions, read_regions, regions_of_map
from relapet.report.page.volumes import near_brain, small_nifti
from relapet.report.panels import (
    AXES,
    DIFFERENCE_MAP,
    PET_MAP,
    PanelView,
    Slice,
    cut_plane,
    difference_reach,
    mri_window,
)
from relapet.report.style import method_label, minus, voi_label
from relapet.tracers import TracerSpec, load_tracers
from relapet.types import Json, Volume

_SD_MAP = "viridis"
_GREY = "gray"


@dataclass(frozen=True)
class Column:
    """One stack of slices with its caption and, where its values have a unit, its colour bar."""

    caption: str
    picture: Picture
    scale: ColourScale | None = None


@dataclass(frozen=True)
class MapView:
    """What one method made of a scan."""

    method: str
    columns: tuple[Column, ...]
    regions: Regions | None
    sidecar: Json

    @property
    def method_label(self) -> str:
        """The method's name for a reader; nothing where there is one alone."""
        return method_label(self.method)


@dataclass(frozen=True)
class ScanView:
    """One tracer of a visit: what was measured, and each method's map."""

    tracer: TracerSpec
    unit: str
    measured: Column | None
    maps: tuple[MapView, ...]

    @property
    def title(self) -> str:
        """The tracer's names."""
        return tracer_title(self.tracer)

    @property
    def rule(self) -> str:
        """What a probability of positivity is of."""
        rule = self.tracer.positivity
        return "" if rule is None else f"{voi_label(rule.composite)} above {rule.threshold:g} SUVr"


@dataclass
class Viewer:
    """Volumes of a page's viewer, each once, and what lies over what."""

    volumes: dict[str, str] = field(default_factory=dict)
    """Name to NIfTI in base64."""
    scans: list[dict[str, Any]] = field(default_factory=list)

    def add(self, text: str) -> str:
        """Keep a volume; returns its name."""
        name = f"volume-{len(self.volumes)}"
        self.volumes[name] = text
        return name

    def merge(self, other: Viewer) -> None:
        """Take over another viewer's volumes and scans under names of one's own."""
        names = {name: self.add(text) for name, text in other.volumes.items()}
        for scan in other.scans:
            layers = [{**layer, "volume": names[layer["volume"]]} for layer in scan["layers"]]
            self.scans.append({**scan, "mri": names[scan["mri"]], "layers": layers})


@dataclass(frozen=True)
class VisitView:
    """Everything of one visit."""

    visit: Visit
    mri: tuple[Column, ...]
    scans: tuple[ScanView, ...]
    viewer: Viewer
    slices: str
    """In words, which slices the pictures show, from above."""
    notes: tuple[str, ...]

    @property
    def anchor(self) -> str:
        """Its place within a page."""
        return self.visit.stem


def tracer_title(tracer: TracerSpec) -> str:
    """The names that stand in tables and in files: ``tau (trc-AV1451)``."""
    return f"{tracer.name} (trc-{tracer.label})"


def view_visit(visit: Visit, images: Path | None, trees: Mapping[str, Path]) -> VisitView:
    """What there is to show of a visit; arguments as of `read_visit`.

    What cannot be read is told in the notes, and the rest is shown. A visit that was synthesised in native space
    alone has regions and no pictures.
    """
    notes: list[str] = []
    there = read_visit(visit, images, trees, notes)
    if there is None:
        scans = tuple(_without_pictures(visit, trees, notes))
        return VisitView(visit, (), scans, Viewer(), "", tuple(dict.fromkeys(notes)))
    view = PanelView()
    cuts = [cut_plane(plane, mm, there.brain, there.affine) for plane, mm in view.slices]
    mri = tuple(
        Column(name, slices_picture(volume, cuts, _GREY, mri_window(volume, there.brain), _alt(visit, name)))
        for name, volume in there.mri.items()
    )
    shown = tuple(_scan(there, scan, cuts, trees, notes) for scan in there.scans)
    return VisitView(visit, mri, shown, _viewer(there), _in_words(cuts), tuple(dict.fromkeys(notes)))


def _alt(visit: Visit, what: str) -> str:
    return f"{what} of {visit.stem}, four slices"


def _in_words(cuts: Sequence[Slice]) -> str:
    named = (f"{cut.plane} at {'xyz'[AXES[cut.plane][0]]} = {cut.mm:.0f} mm" for cut in cuts)
    return minus(", ".join(named))


def _scan(
    there: VisitImages, scan: ScanImages, cuts: Sequence[Slice], trees: Mapping[str, Path], notes: list[str]
) -> ScanView:
    name = tracer_title(scan.tracer)
    measured = None
    if scan.measured is not None:
        picture = slices_picture(
            scan.measured, cuts, PET_MAP, scan.window, _alt(there.visit, f"Measured {name} PET")
        )
        measured = Column("Measured", picture, colour_scale(PET_MAP, scan.window, scan.unit))
    maps = tuple(
        MapView(
            method,
            tuple(_columns(there, scan, method, made, cuts)),
            _regions(trees[method], there, scan, made, notes),
            made.sidecar,
        )
        for method, made in scan.maps.items()
    )
    return ScanView(scan.tracer, scan.unit, measured, maps)


def _columns(
    there: VisitImages, scan: ScanImages, method: str, made: SyntheticMap, cuts: Sequence[Slice]
) -> list[Column]:
    """Synthetic map, its difference to the measured one, and its SD over samples, as far as there are."""
    what = f"{tracer_title(scan.tracer)} PET" + (f" by {method_label(method)}" if method else "")
    reach = difference_reach(scan.window)
    drawn: list[tuple[str, Volume, str, tuple[float, float], str, bool]] = [
        ("Synthetic", made.mean, PET_MAP, scan.window, scan.unit, False)
    ]
    if scan.measured is not None:
        difference = made.mean - scan.measured
        drawn.append(
            ("Synthetic − measured", difference, DIFFERENCE_MAP, (-reach, reach), f"Δ{scan.unit}", True)
        )
    if made.sd is not None:
        drawn.append(("Uncertainty (SD)", made.sd, _SD_MAP, (0.0, 2 * reach), scan.unit, True))
    return [
        Column(
            caption,
            slices_picture(
                volume, cuts, colours, window, _alt(there.visit, f"{caption}, {what}"),
                there.brain if masked else None,
            ),
            colour_scale(colours, window, unit),
        )
        for caption, volume, colours, window, unit, masked in drawn
    ]  # fmt: skip


def _regions(
    tree: Path, there: VisitImages, scan: ScanImages, made: SyntheticMap, notes: list[str]
) -> Regions | None:
    found = _from_tables(tree, there.visit, scan, SPACE, notes)
    return found or regions_of_map(made.mean, there.affine, scan.tracer, scan.measured_sums)


def _from_tables(
    tree: Path, visit: Visit, scan: ScanImages | TracerSpec, space: str, notes: list[str]
) -> Regions | None:
    tracer, sums = (scan.tracer, scan.measured_sums) if isinstance(scan, ScanImages) else (scan, None)
    try:
        return read_regions(tree, visit, tracer, sums, space)
    except InputError as error:
        notes.append(plain_text(str(error)))
        return None


def _without_pictures(visit: Visit, trees: Mapping[str, Path], notes: list[str]) -> list[ScanView]:
    scans = []
    for tracer in load_tracers().values():
        found = {
            method: regions
            for method, tree in trees.items()
            if (regions := _from_tables(tree, visit, tracer, NATIVE_SPACE, notes)) is not None
        }
        if found:
            maps = tuple(MapView(method, (), regions, {}) for method, regions in found.items())
            scans.append(ScanView(tracer, "SUVr", None, maps))
    return scans


def _viewer(there: VisitImages) -> Viewer:
    """The viewer's volumes of a visit; without a T1w or FLAIR to lie on there is none."""
    viewer = Viewer()
    if not there.mri:
        return viewer
    name, base = next(iter(there.mri.items()))
    mri = viewer.add(small_nifti(base, there.affine, mri_window(base, there.brain)))
    near = near_brain(there.brain, there.affine)
    for scan in there.scans:
        layers = [("Measured", scan.measured)] if scan.measured is not None else []
        layers += [(_shown_as(method), made.mean) for method, made in scan.maps.items()]
        viewer.scans.append(
            {
                "label": f"{there.visit.stem}, {tracer_title(scan.tracer)}",
                "mri": mri,
                "base": name,
                "unit": scan.unit,
                "window": [float(end) for end in scan.window],
                "layers": [
                    {
                        "label": label,
                        "volume": viewer.add(
                            small_nifti(np.where(near, volume, 0), there.affine, scan.whole_window)
                        ),
                    }
                    for label, volume in reversed(layers)
                ],
            }
        )
    return viewer


def _shown_as(method: str) -> str:
    return f"Synthetic, {method_label(method)}" if method else "Synthetic"
