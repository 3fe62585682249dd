"""What any report page must be: whole in itself, and readable without seeing it."""

from __future__ import annotations

from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

_SHUT = {"img", "meta", "link", "br", "hr", "input"}
"""Elements without an end."""


class Page(HTMLParser):
    """The elements of a page: name, attributes, and the words within."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)
        assert not self.open, f"{self.open} not ended"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _SHUT:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    @property
    def said(self) -> str:
        """All words that a reader sees, on one line."""
        return " ".join(" ".join(self.words).split())

    def of(self, *tags: str) -> list[dict[str, str | None]]:
        """Attributes of all elements of some kinds."""
        return [attributes for tag, attributes in self.elements if tag in tags]


def check_page(path: Path) -> Page:
    """A page that loads nothing, runs no script of others, and has words for every picture."""
    page = Page(path)
    (policy,) = [
        str(m["content"]) for m in page.of("meta") if m.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            target = attributes.get(name)
            if target is not None:
                assert target.startswith(("data:", "#", "../report.html", "report/sub-")), (tag, target[:80])
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
    assert all(image.get("alt") for image in page.of("img"))
    assert not page.of("iframe", "object", "embed", "base", "form", "video", "audio")
    identities = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(identities)) == len(identities)
    links = {str(a["href"])[1:] for a in page.of("a") if str(a.get("href")).startswith("#")}
    assert links <= set(identities)
    headings = [int(tag[1]) for tag, _ in page.elements if tag in ("h1", "h2", "h3", "h4")]
    assert headings.count(1) == 1
    assert all(low - high <= 1 for high, low in pairwise(headings))
    assert "Not for clinical use." in page.said
    return page
