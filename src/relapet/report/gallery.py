"""Every figure of an evaluation, drawn from the tables that it wrote: ``figures/`` beside them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from relapet.errors import VolumeError
from relapet.evaluation.evaluate import Evaluation
from relapet.evaluation.folder import FIGURES
from relapet.evaluation.tables import write_table
from relapet.report.figures import (
    coverage_plot,
    downstream_plot,
    metric_boxes,
    reliability_plot,
    sample_mean_plot,
    spectrum_plot,
)
from relapet.report.regional import bland_altman, composite_correlations, voi_scatter
from relapet.report.style import alternative_text, method_label, save_figure
from relapet.report.subjects import choose_subjects, panel_of_visit
from relapet.tracers import TracerSpec, load_tracers

BOXED = ("psnr", "ssim", "mae", "spectrum_distance", "gradient_ratio")
"""Image metrics that have a figure by method."""
CHOSEN_BY = "psnr"
"""Metric that the best, median and worst subject are chosen by."""

Drawn = tuple[str, str, Callable[[], Figure]]
"""File name, tables that its numbers are from, and the drawing."""


def draw_evaluation(
    result: Evaluation, on_progress: Callable[[int, int], None], on_skip: Callable[[str], None]
) -> list[Path]:
    """Draw all figures of an evaluation into its folder, and figures.tsv with what each is drawn from.

    Pictures of subjects are read from the trees that were evaluated; one that cannot be drawn, as where there is
    no MRI, is told to ``on_skip``.
    """
    folder = result.out / FIGURES
    drawings = list(_drawings(result))
    rows = []
    for done, (name, tables, draw) in enumerate(drawings, start=1):
        try:
            figure = draw()
        except VolumeError as error:
            on_skip(f"{name} is not drawn: {error}")
            continue
        save_figure(figure, folder / name)
        rows.append({"figure": name, "title": alternative_text(figure), "tables": tables})
        on_progress(done, len(drawings))
    write_table(folder / "figures.tsv", pd.DataFrame(rows, columns=["figure", "title", "tables"]))
    return [folder / row["figure"] for row in rows]


def _drawings(result: Evaluation) -> Iterator[Drawn]:
    scored = set(result.tables["image_metrics"]["tracer"])
    tracers = [tracer for tracer in load_tracers().values() if tracer.name in scored]
    yield from _of_methods(result, tracers)
    for method in result.summary["inputs"]["synthetic"]:
        for tracer in tracers:
            rows = result.tables["image_metrics"]
            if ((rows["tracer"] == tracer.name) & (rows["method"] == method)).any():
                yield from _of_one(result, tracer, method)
    yield from _uncertainty(result, tracers)
    yield from _probability(result, tracers)
    yield from _downstream(result)


def _of_methods(result: Evaluation, tracers: list[TracerSpec]) -> Iterator[Drawn]:
    """Figures with all methods side by side."""
    for metric in BOXED:
        yield f"boxes_{metric}.png", "image_metrics.tsv", _later(
            metric_boxes, result.tables["image_metrics"], metric, tracers
        )  # fmt: skip
    composites = result.tables["agreement"][result.tables["agreement"]["kind"] == "composite"].dropna(
        subset=["r"]
    )
    with_r = [tracer for tracer in tracers if tracer.name in set(composites["tracer"])]
    if with_r:
        yield "correlations.png", "agreement.tsv", _later(
            composite_correlations, result.tables["agreement"], with_r
        )  # fmt: skip
    there = [tracer for tracer in tracers if tracer.name in set(result.tables["spectra"]["tracer"])]
    if there:
        yield "spectra.png", "spectra.tsv", _later(spectrum_plot, result.tables["spectra"], there)


def _of_one(result: Evaluation, tracer: TracerSpec, method: str) -> Iterator[Drawn]:
    """Figures of one method and tracer."""
    end = f"tracer-{tracer.name}_method-{_plain(method)}.png"
    rows = result.tables["agreement"]
    rows = rows[(rows["tracer"] == tracer.name) & (rows["method"] == method)]
    if set(tracer.composites) & set(rows["voi"]):
        given = (result.tables["voi"], result.tables["agreement"], tracer, method)
        yield f"scatter_{end}", "voi.tsv, agreement.tsv", _later(voi_scatter, *given)
        yield f"bland-altman_{end}", "voi.tsv, agreement.tsv", _later(bland_altman, *given)
    real = Path(result.summary["inputs"]["real"])
    tree = Path(result.summary["inputs"]["synthetic"][method])
    chosen = choose_subjects(result.tables["image_metrics"], tracer, method, CHOSEN_BY)
    for place, (visit, value) in chosen.items():
        title = f"{place.capitalize()} PSNR ({value:.1f} dB) of {method_label(method)}: {visit.stem}"
        yield f"subject-{place}_{end}", "image_metrics.tsv", _later(
            panel_of_visit, real, tree, visit, tracer, title
        )  # fmt: skip


def _uncertainty(result: Evaluation, tracers: list[TracerSpec]) -> Iterator[Drawn]:
    coverage = result.tables.get("uncertainty_coverage")
    if coverage is not None:
        for method, rows in coverage.groupby("method", sort=False):
            by_interval = {str(name): part for name, part in rows.groupby("interval", sort=False)}
            there = [tracer for tracer in tracers if tracer.name in set(rows["tracer"])]
            yield f"coverage_method-{_plain(str(method))}.png", "uncertainty_coverage.tsv", _later(
                coverage_plot, by_interval, there, str(method)
            )  # fmt: skip
    curve = result.tables.get("uncertainty_sample_mean")
    if curve is not None:
        for method, rows in curve.groupby("method", sort=False):
            yield f"sample-mean_method-{_plain(str(method))}.png", "uncertainty_sample_mean.tsv", _later(
                sample_mean_plot, rows, tracers, str(method)
            )  # fmt: skip


def _probability(result: Evaluation, tracers: list[TracerSpec]) -> Iterator[Drawn]:
    scores = result.tables.get("positivity_probability")
    if scores is not None:
        bins = result.tables["positivity_reliability"]
        for method, rows in scores.groupby("method", sort=False):
            there = [tracer for tracer in tracers if tracer.name in set(rows["tracer"])]
            yield (
                f"reliability_method-{_plain(str(method))}.png",
                ("positivity_reliability.tsv, positivity_probability.tsv"),
                _later(reliability_plot, bins[bins["method"] == method], rows, there, str(method)),
            )


def _downstream(result: Evaluation) -> Iterator[Drawn]:
    table = result.tables.get("downstream")
    if table is not None:
        for key, rows in table.groupby(["outcome", "method"], sort=False):
            outcome, method = (_plain(str(name)) for name in key)
            yield f"downstream-{outcome}_method-{method}.png", "downstream.tsv", _later(
                downstream_plot, rows
            )  # fmt: skip


def _plain(name: str) -> str:
    """A name as part of a file's."""
    return re.sub(r"[^A-Za-z0-9+-]+", "-", name)


def _later(draw: Callable[..., Figure], *given: object) -> Callable[[], Figure]:
    return lambda: draw(*given)
