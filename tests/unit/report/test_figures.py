from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from relapet.evaluation.scores.agreement import agreement
from relapet.evaluation.statistics import Sampling
from relapet.evaluation.uncertainty.coverage import UncertaintyConfig
from relapet.evaluation.uncertainty.reliability import reliability_table, score_probabilities
from relapet.evaluation.uncertainty.samples import sample_coverage, sample_mean_curve
from relapet.imaging.bids import Visit
from relapet.report.figures import (
    coverage_plot,
    downstream_plot,
    metric_boxes,
    reliability_plot,
    sample_mean_plot,
    spectrum_plot,
)
from relapet.report.regional import bland_altman, composite_correlations, voi_scatter
from relapet.report.style import alternative_text, method_looks, save_figure, voi_label
from relapet.report.subjects import choose_subjects
from relapet.tracers import get_tracer

TAU, PIB = get_tracer("tau"), get_tracer("pib")
METHODS = ("rela", "regression", "tracer_mean")
N = 12
CONFIG = UncertaintyConfig(bootstrap=50)


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(0)
    subjects = [f"sub-{i:02d}" for i in range(N)]
    voi, agreed, image = [], [], []
    for tracer in (TAU, PIB):
        names = list(tracer.composites)
        real = rng.normal(1.4, 0.2, (N, len(names)))
        for method in METHODS:
            synthetic = (
                np.full_like(real, 1.4) if method == "tracer_mean" else real + rng.normal(0, 0.1, real.shape)
            )
            keys = {"tracer": tracer.name, "method": method}
            table = agreement(real, synthetic).assign(voi=names, kind="composite", **keys)
            agreed.append(table)
            voi += [
                {
                    "subject": subject,
                    "voi": name,
                    "real_suvr": real[i, j],
                    "synth_suvr": synthetic[i, j],
                    **keys,
                }
                for i, subject in enumerate(subjects)
                for j, name in enumerate(names)
            ]
            image += [
                {"subject": s, "session": "n/a", "psnr": 20.0 + i, "gradient_ratio": 0.5 + 0.1 * i, **keys}
                for i, s in enumerate(subjects)
            ]
    return {
        "voi": pd.DataFrame(voi),
        "agreement": pd.concat(agreed, ignore_index=True),
        "image": pd.DataFrame(image),
    }


def pairs() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "subject": np.repeat([f"{i:02d}" for i in range(N)], 2),
            "session": "",
            "tracer": "tau",
            "voi": ["a", "b"] * N,
            "real_suvr": rng.normal(1, 0.2, 2 * N),
        }
    )
    samples = pd.DataFrame(rng.normal(1, 0.2, (2 * N, 8)), columns=[f"sample-{i}" for i in range(8)])
    return pd.concat([frame, samples], axis=1)


def downstream_table() -> pd.DataFrame:
    rows = [
        {
            "outcome": "memory",
            "method": "rela",
            "model": model,
            "features": features,
            "metric": metric,
            "n": 40,
            "value": 0.1 * i,
            "ci_low": 0.1 * i - 0.2,
            "ci_high": 0.1 * i + 0.1,
            "gain": 0.1 * i if i else np.nan,
            "p_holm": 0.04 if i else np.nan,
        }
        for model in ("ridge", "kernel_ridge")
        for i, features in enumerate(("mri", "mri+synthetic", "mri+real"))
        for metric in ("mae", "r2")
    ]
    return pd.DataFrame(rows)


def spectra_table() -> pd.DataFrame:
    frequency = np.linspace(0.01, 0.12, 12)
    parts = [
        pd.DataFrame(
            {
                "tracer": "tau",
                "method": method,
                "frequency_per_mm": frequency,
                "n": N,
                "power_db": 60 - 300 * frequency - lower,
            }
        )
        for method, lower in (("measured", 0.0), ("rela", 2.0), ("tracer_mean", 5.0))
    ]
    return pd.concat(parts, ignore_index=True)


def probabilities() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Reliability and scores of 40 subjects a tracer, calibrated; none in the bin from 0.4 to 0.6."""
    rng = np.random.default_rng(2)
    bins, scores = [], []
    for tracer in (TAU, PIB):
        stated = np.concatenate([rng.uniform(0, 0.4, 20), rng.uniform(0.6, 1, 20)])
        positive = rng.random(40) < stated
        key = {"tracer": tracer.name, "method": "rela"}
        bins.append(reliability_table(stated, positive).assign(**key))
        scores.append(key | score_probabilities(stated, positive, stated > 0.5, Sampling(50, 0)))
    return pd.concat(bins, ignore_index=True), pd.DataFrame(scores)


def every_figure(tables: dict[str, pd.DataFrame]) -> dict[str, Figure]:
    table = sample_coverage(pairs(), CONFIG)
    return {
        "scatter": voi_scatter(tables["voi"], tables["agreement"], TAU, "rela"),
        "bland_altman": bland_altman(tables["voi"], tables["agreement"], TAU, "rela"),
        "correlations": composite_correlations(tables["agreement"], [TAU, PIB]),
        "boxes": metric_boxes(tables["image"], "psnr", [TAU, PIB]),
        "coverage": coverage_plot({"samples": table}, [TAU], "rela"),
        "curve": sample_mean_plot(sample_mean_curve(pairs(), CONFIG), [TAU, PIB], "rela"),
        "spectra": spectrum_plot(spectra_table(), [TAU]),
        "reliability": reliability_plot(*probabilities(), [TAU, PIB], "rela"),
        "downstream": downstream_plot(downstream_table()),
    }


def panel_titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


@pytest.fixture(scope="module")
def drawn(tables, tmp_path_factory) -> dict[str, tuple[Figure, bytes]]:
    """Every figure, laid out and saved, with the bytes of its file."""
    folder = tmp_path_factory.mktemp("figures")
    return {
        name: (figure, save_figure(figure, folder / f"{name}.png").read_bytes())
        for name, figure in every_figure(tables).items()
    }


def test_every_figure_has_a_title_units_and_no_text_outside_or_on_other_text(drawn):
    for name, (figure, _) in drawn.items():
        assert alternative_text(figure)
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw(renderer)
        for axes in figure.axes:
            if axes.axison and axes.get_subplotspec().is_last_row():
                assert axes.get_xlabel(), name
            assert figure.bbox.fully_containsx(axes.get_tightbbox(renderer).x0), name
            assert figure.bbox.fully_containsx(axes.get_tightbbox(renderer).x1), name
        texts = [text for axes in figure.axes for text in (axes.title, axes.xaxis.label, axes.yaxis.label)]
        boxes = [t.get_window_extent(renderer) for t in [*texts, figure._suptitle] if t.get_text()]
        for i, one in enumerate(boxes):
            assert not any(one.overlaps(other) for other in boxes[i + 1 :]), name


def test_figures_are_reproducible(tables, drawn, tmp_path):
    for name, figure in every_figure(tables).items():
        assert save_figure(figure, tmp_path / f"{name}.png").read_bytes() == drawn[name][1], name


def test_figures_do_not_touch_pyplot_or_the_users_style():
    script = (
        "import sys, matplotlib\n"
        "before = matplotlib.rcParams.copy()\n"
        "import pandas as pd\n"
        "from relapet.report.figures import sample_mean_plot\n"
        "from relapet.tracers import get_tracer\n"
        "row = dict(tracer='tau', n_samples=1, n=3, mae=0.1, ci_low=0.0, ci_high=0.2)\n"
        "sample_mean_plot(pd.DataFrame([row]), [get_tracer('tau')], 'rela')\n"
        "assert matplotlib.rcParams.copy() == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


def test_scatter_shows_each_subject_and_the_tables_r(tables):
    figure = voi_scatter(tables["voi"], tables["agreement"], TAU, "rela", ("braak_1_2", "whole_cortex"))
    row = tables["agreement"].query("tracer == 'tau' and method == 'rela' and voi == 'whole_cortex'").iloc[0]
    assert (
        f"r = {row['r']:.2f} [{row['ci_low']:.2f}, {row['ci_high']:.2f}], n = {N}" in panel_titles(figure)[1]
    )
    assert panel_titles(figure)[0].startswith("Braak I–II")
    (points,) = figure.axes[1].collections
    expected = tables["voi"].query("tracer == 'tau' and method == 'rela' and voi == 'whole_cortex'")
    np.testing.assert_allclose(points.get_offsets(), expected[["real_suvr", "synth_suvr"]])
    (identity,) = figure.axes[1].lines
    np.testing.assert_array_equal(identity.get_xdata(), identity.get_ydata())
    flat = voi_scatter(tables["voi"], tables["agreement"], TAU, "tracer_mean")
    assert "no r: no variation over subjects" in panel_titles(flat)[0]
    with pytest.raises(ValueError, match="no nowhere of tau by rela"):
        voi_scatter(tables["voi"], tables["agreement"], TAU, "rela", ("nowhere",))


def test_bland_altman_draws_the_tables_lines(tables):
    figure = bland_altman(tables["voi"], tables["agreement"], PIB, "rela", ("whole_cortex",))
    row = tables["agreement"].query("tracer == 'pib' and method == 'rela' and voi == 'whole_cortex'").iloc[0]
    heights = {line.get_ydata()[0] for line in figure.axes[0].lines}
    assert heights == {0, row["bias"], row["loa_low"], row["loa_high"]}
    low, high = figure.axes[0].get_ylim()
    offsets = figure.axes[0].collections[0].get_offsets()
    assert ((low < offsets[:, 1]) & (offsets[:, 1] < high)).all()
    points = tables["voi"].query("tracer == 'pib' and method == 'rela' and voi == 'whole_cortex'")
    np.testing.assert_allclose(offsets[:, 1].mean(), (points["synth_suvr"] - points["real_suvr"]).mean())


def test_correlations_leave_out_methods_without_variation(tables):
    figure = composite_correlations(tables["agreement"], [TAU, PIB])
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["rela", "regression"]
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [voi_label(name) for name in TAU.composites]
    drawn = [line for line in figure.axes[0].lines if len(line.get_xdata()) == len(labels)]
    expected = tables["agreement"].query("tracer == 'tau' and method == 'rela'").set_index("voi")["r"]
    np.testing.assert_allclose(drawn[0].get_xdata(), expected.loc[list(TAU.composites)])


def test_boxes_average_sessions_and_count_infinite_values(tables):
    image = tables["image"].copy()
    second = image.assign(session="ses-2", psnr=image["psnr"] + 2)
    image = pd.concat([image, second])
    first = (image["subject"] == "sub-00") & (image["method"] == "rela")
    image.loc[first, "psnr"] = np.inf
    figure = metric_boxes(image, "psnr", [TAU, PIB])
    assert panel_titles(figure) == [f"tau, n = {N}", f"pib, n = {N}"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["1 infinite"]
    assert figure.axes[0].get_xlabel() == "PSNR (dB)"
    points = [line for line in figure.axes[0].lines if line.get_marker() == "s"]
    np.testing.assert_allclose(points[0].get_xdata(), 21.0 + np.arange(N))
    assert "higher is better" in alternative_text(figure)
    assert "1 is best" in alternative_text(metric_boxes(tables["image"], "gradient_ratio", [TAU]))


def test_coverage_shows_what_the_number_of_samples_allows():
    table = sample_coverage(pairs(), CONFIG)
    figure = coverage_plot({"samples": table, "conformal": table.drop(columns="attainable")}, [TAU], "rela")
    legend = {text.get_text() for text in figure.legends[0].get_texts()}
    assert legend == {"nominal", "samples", "conformal", "samples: attainable with N = 8"}
    assert f"samples: n = {N}" in panel_titles(figure)[0]


def test_reliability_shows_every_bin_that_has_subjects():
    bins, scores = probabilities()
    figure = reliability_plot(bins, scores, [TAU, PIB], "rela")
    there = bins[(bins["tracer"] == "tau") & (bins["n"] > 0)]
    assert len(there) == 4
    (marks,) = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    np.testing.assert_allclose(marks.get_xydata(), there[["predicted", "observed"]])
    assert [text.get_text() for text in figure.axes[0].texts] == [str(n) for n in there["n"]]
    assert f"Brier {scores['brier'].iloc[0]:.3f}" in panel_titles(figure)[0]
    legend = {text.get_text() for text in figure.legends[0].get_texts()}
    assert legend == {"calibrated", "bin", "share of positive subjects"}


def test_spectrum_difference_is_synthetic_minus_measured():
    figure = spectrum_plot(spectra_table(), [TAU])
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[1].lines}
    np.testing.assert_allclose(lines["measured"], 0)
    np.testing.assert_allclose(lines["rela"], -2)
    np.testing.assert_allclose(lines["tracer mean"], -5)


def test_downstream_prints_gains_and_their_p():
    figure = downstream_plot(downstream_table())
    assert [text.get_text() for text in figure.axes[0].texts] == [
        "gain +0.10, Holm p = 0.04",
        "gain +0.20, Holm p = 0.04",
    ]
    assert figure.axes[0].get_xlabel().startswith("R²")
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["MRI + demographics", "and synthetic PET", "and measured PET"]


def test_methods_are_told_apart_by_colour_or_marker():
    looks = method_looks([*(f"m{i}" for i in range(12)), "tracer_mean", "noise_ceiling", "visible_ceiling"])
    assert len({(look["color"], look["marker"], look["markerfacecolor"]) for look in looks.values()}) == 15


def test_best_median_and_worst_follow_the_metric(tables):
    chosen = choose_subjects(tables["image"], TAU, "rela", "psnr")
    assert {name: visit.subject for name, (visit, _) in chosen.items()} == {
        "best": "11",
        "median": "05",
        "worst": "00",
    }
    assert chosen["best"][1] == 31
    ratio = choose_subjects(tables["image"], TAU, "rela", "gradient_ratio")
    assert ratio["best"][0] == Visit("05")  # 1.0 is best, 1.6 is farther than 0.5 in log
    assert ratio["worst"][0] == Visit("00")
    sessions = tables["image"].assign(session="ses-x")
    assert choose_subjects(sessions, TAU, "rela", "psnr")["best"][0] == Visit("11", "x")
    with pytest.raises(ValueError, match="no psnr of tau by none"):
        choose_subjects(tables["image"], TAU, "none", "psnr")
