"""One look for every figure, and saving so that the same input gives the same bytes.

Matplotlib is used through its object-oriented interface alone: figures are values, and no window, no pyplot
state and no user style file touches them.
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from relapet.files import atomic_path

DOUBLE_COLUMN_INCHES = 7.2
"""Width of a figure over two columns of a journal page (183 mm)."""
SINGLE_COLUMN_INCHES = 3.5
"""Width of a figure in one column (89 mm)."""
DOTS_PER_INCH = 200

# Okabe & Ito, "Color Universal Design" (2008): told apart with every common colour vision deficiency.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
# A second cue beside colour, for print in grey and for more methods than colours.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # shipped with matplotlib: the same on every machine
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "figure.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


def house_style() -> AbstractContextManager[None]:
    """Context in which figures are built and saved: matplotlib's own defaults plus the house style."""
    defaults = {key: value for key, value in matplotlib.rcParamsDefault.items() if key != "backend"}
    context: AbstractContextManager[None] = matplotlib.rc_context({**defaults, **_STYLE})
    return context


def new_figure(width_inches: float, height_inches: float, title: str) -> Figure:
    """An empty figure with a title; the title is also the text alternative of the saved file."""
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    figure.suptitle(title)
    return figure


def method_label(method: str) -> str:
    """A method's name as figures print it."""
    return method.replace("_", " ")


def minus(text: str) -> str:
    """Numbers in a text with the minus sign that the axes have, not a hyphen."""
    return re.sub(r"-(?=\d)", "−", text)


def voi_label(name: str) -> str:
    """A VOI's or composite's name as figures print it; Braak stages in their Roman numerals."""
    if match := re.fullmatch(r"braak_(\d)_(\d)", name):
        return "Braak " + "–".join(_ROMAN[int(stage)] for stage in match.groups())
    if name in _SPELLED:
        return _SPELLED[name]
    text = name.replace("_", " ")
    return text if text.startswith("ctx-") else text[:1].upper() + text[1:]


_SPELLED = {"temporal_meta_roi": "Temporal meta-ROI", "tau_sensitive_cortex": "Tau-sensitive cortex"}
_ROMAN = ("", "I", "II", "III", "IV", "V", "VI")


def method_looks(methods: list[str]) -> dict[str, dict[str, Any]]:
    """Colour and marker of each method; references (tracer mean, ceilings) are grey with open markers."""
    looks: dict[str, dict[str, Any]] = {}
    tested = [method for method in methods if method not in _REFERENCES]
    for method in methods:
        if method in _REFERENCES:
            colour, marker, fill = "0.45", _REFERENCES[method], "white"
        else:
            number = tested.index(method)
            colour, marker = PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)]
            fill = colour
        looks[method] = {"color": colour, "marker": marker, "markerfacecolor": fill}
        looks[method] |= {"linestyle": "none", "markersize": 3.5}
    return looks


_REFERENCES = {"tracer_mean": "o", "visible_ceiling": "v", "noise_ceiling": "^"}


def method_legend(figure: Figure, looks: dict[str, dict[str, Any]]) -> None:
    """A legend of methods below the axes."""
    handles = [Line2D([], [], label=method_label(method), **look) for method, look in looks.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4))


def alternative_text(figure: Figure) -> str:
    """The figure's title on one line, for an HTML alt attribute; raises ValueError where it has none."""
    text = " ".join(str(figure.get_suptitle()).split())
    if not text:
        raise ValueError("The figure has no title; give it one, it is the text alternative.")
    return text


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, atomically and byte for byte reproducibly, with its title as metadata.

    Raises ValueError for another suffix than .png and for a figure without a title.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"{path} is no .png name; figures are written as PNG.")
    metadata = {"Title": alternative_text(figure), "Software": None}  # None: leave the version out
    with house_style(), atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DOTS_PER_INCH, metadata=metadata)
    return path
