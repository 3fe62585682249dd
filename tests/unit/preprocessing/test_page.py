"""The page of pictures that a person looks through after preprocessing."""

from __future__ import annotations

from pathlib import Path

from page_checks import Page
from relapet.preprocessing.qc import write_page


def test_each_picture_says_what_to_look_for(tmp_path: Path) -> None:
    steps = ("1mask", "2template", "3flair", "4petAV1451")
    pictures = [
        (visit, step, tmp_path / visit / f"{step}.png") for visit in ("sub-01", "sub-02") for step in steps
    ]
    write_page(tmp_path / "preprocess.html", ["sub-01", "sub-02"], pictures, {"sub-02": [("warn", "a < b")]})
    page = Page(tmp_path / "preprocess.html")
    assert "Preprocessing, 2 visits" in page.said
    assert "a < b" in page.said
    alternatives = [image["alt"] for image in page.of("img")]
    assert len(set(alternatives)) == len(pictures)
    assert all(alt and alt.startswith("sub-0") for alt in alternatives)
    assert [image["src"] for image in page.of("img")][3] == "sub-01/4petAV1451.png"
    assert page.said.count("PET (trc-AV1451) in SUVr over the T1w") == 2
    assert not any(f">{step}<" in page.text for step in steps)


def test_one_visit_is_one(tmp_path: Path) -> None:
    write_page(tmp_path / "preprocess.html", ["sub-01"], [], {})
    assert "Preprocessing, 1 visit" in Page(tmp_path / "preprocess.html").words
