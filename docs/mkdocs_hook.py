"""What makes the site of these pages: the project's pages that lie outside of docs/ are part of it, and links follow.

A hook of mkdocs (https://www.mkdocs.org/user-guide/configuration/#hooks).
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {
    "README.md": "readme.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
}
"""Pages outside of docs/, and where they stand in the site."""
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from outside, and the pictures that they show."""
    for source, page in OUTSIDE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
        for _, _, target in _LINK.findall(text):
            picture = (ROOT / source).parent / target
            if picture.suffix == ".png" and not picture.is_relative_to(ROOT / "docs"):
                files.append(File.generated(config, _picture(picture), abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrite the links of a page, as it lies in the project, to where their goals stand in the site."""
    places = {place: source for source, place in OUTSIDE.items()}
    own = places.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    parts = _FENCE.split(markdown)
    return "".join(
        part if part.startswith("```") else _LINK.sub(lambda m: _moved(m, own), part) for part in parts
    )


def _moved(found: re.Match[str], own: str) -> str:
    """A link of the page ``own`` (a path in the project); one to a file that is no page becomes its words."""
    mark, words, target = found.groups()
    path, _, heading = target.partition("#")
    if re.match(r"[a-z]+:", target):
        return found[0]
    heading = heading.strip("-")  # where GitHub's anchors keep a hyphen for what ends a heading
    if not path:
        return f"{mark}[{words}](#{heading})"
    goal = ((ROOT / own).parent / path).resolve()
    if not goal.is_relative_to(ROOT):
        return words
    source = goal.relative_to(ROOT).as_posix()
    if source in OUTSIDE:
        place = OUTSIDE[source]
    elif source.startswith("docs/") and goal.is_file() and goal.suffix in (".md", ".png"):
        place = source.removeprefix("docs/")
    elif goal.suffix == ".png" and goal.is_file():
        place = _picture(goal)
    else:
        return words
    here = PurePosixPath(OUTSIDE.get(own, own.removeprefix("docs/"))).parent
    up = "../" * len(here.parts)
    return f"{mark}[{words}]({up}{place}{'#' if heading else ''}{heading})"


def _picture(path: Path) -> str:
    """Where a picture from outside stands."""
    return "images/" + path.relative_to(ROOT).as_posix().replace("/", "_")
