"""A page as one HTML document: templates, style, scripts and the viewer's code, and a policy that forbids any network.

What comes from files (labels, paths, notes) is text: the templates escape it, and the page's Content-Security-Policy
lets no script run but the two whose SHA-256 it names (https://www.w3.org/TR/CSP3).
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import math
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from relapet.files import write_text
from relapet.report.page.pictures import colour_scale
from relapet.report.page.visits import Viewer
from relapet.report.panels import PET_MAP
from relapet.report.style import minus
from relapet.report.text import number
from relapet.version import VERSION

_ASSETS = files("relapet.report.page") / "assets"
VIEWER_TOLD = (
    "MRI with PET over it; drag or scroll to move, or use the sliders or, on the picture, the arrow keys, Page Up and "
    "Page Down. To keep the page small its volumes are in 255 steps and in voxels of 2 mm or more, and PET more than "
    "8 mm from the brain is left out: take numbers from the tables."
)


def write_document(path: Path, template: str, viewer: Viewer, content: Mapping[str, Any]) -> None:
    """Render a template and write it, atomically; ``viewer`` may be empty: the page is then without one."""
    write_text(path, render(template, viewer, content))


def render(template: str, viewer: Viewer, content: Mapping[str, Any]) -> str:
    """The page of a template: ``title``, ``cautions``, ``provenance`` and what the template asks for."""
    shown = bool(viewer.scans)
    return _templates().get_template(template).render(
        version=VERSION,
        policy=_policy(),
        style=Markup(_asset("report.css")),
        script=Markup(_asset("report.js")),
        viewer={"volumes": viewer.volumes, "scans": viewer.scans, "colours": _viewer_colours()} if shown else None,
        viewer_code=_packed_viewer() if shown else "",
        viewer_colours=colour_scale(PET_MAP, (0, 1), "").colours,
        viewer_told=VIEWER_TOLD,
        **content,
    )  # fmt: skip


def from_markdown(text: str) -> Markup:
    """Markdown of our own summaries as HTML; tags within it stay text."""
    reader = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "link", "autolink"])
    html = reader.render(text)
    # Tags within the text are escaped, so these are the reader's own.
    html = html.replace("<table>", '<div class="wide" tabindex="0" role="region" aria-label="Table"><table>')
    return Markup(html.replace("</table>", "</table></div>"))


def shown_number(value: float) -> str:
    """A number for a column of such: always three digits, so that they line up, with a minus sign; n/a for NaN."""
    text = number(value)
    return minus(f"{value:#.3g}" if text not in ("n/a", "0") and abs(value) < 10 else text)


def brief_number(value: float) -> str:
    """A number in few characters: two decimals, one from 10 on; n/a for NaN."""
    if math.isnan(value):
        return "n/a"
    return minus(f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}")


def is_known(value: float) -> bool:
    """Whether there is a number at all: not for NaN."""
    return not math.isnan(value)


def _sort_key(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


@lru_cache(maxsize=1)
def _templates() -> Environment:
    loader = PackageLoader("relapet.report.page", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"brief": brief_number, "decimals": shown_number, "key": _sort_key}
    environment.tests["known"] = is_known
    return environment


@lru_cache(maxsize=4)
def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _packed_viewer() -> str:
    """The viewer's code, gzipped, in base64: a third of its size; the page unpacks it."""
    return base64.b64encode(gzip.compress(_viewer_code().encode(), 9, mtime=0)).decode()


def _viewer_code() -> str:
    return (_ASSETS / "niivue" / "niivue.umd.js").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _policy() -> str:
    scripts = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"
        for code in (_asset("report.js"), _viewer_code())
    )
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


@lru_cache(maxsize=1)
def _viewer_colours() -> dict[str, list[int]]:
    """The PET's colours as the viewer takes them; its lowest value is not drawn."""
    places = np.linspace(0, 255, 32).astype(int)
    table = np.rint(matplotlib.colormaps[PET_MAP](places / 255) * 255).astype(int)
    table[0, 3] = 0
    channels = zip("RGBA", table.T.tolist(), strict=True)
    return dict(channels) | {"I": places.tolist()}
