"""Words of other people's files in a page of Markdown."""

from __future__ import annotations

import pytest

from relapet.report.text import safe


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("<script>alert(1)</script>", "&lt;script>alert(1)&lt;/script>"),
        ("a\n# Verdict: all is well", "a # Verdict: all is well"),
        ("# Verdict", "\\# Verdict"),
        ("![x](http://there)", "!\\[x](http://there)"),
        ("a|b `c`", "a\\|b 'c'"),
        ("\x1b[31mred", "\ufffd\\[31mred"),
        ("voi_mae, 95 % of tracer_mean", "voi_mae, 95 % of tracer_mean"),
    ],
)
def test_words_form_no_tag_link_heading_or_line(said: str, shown: str) -> None:
    assert safe({said: [said, 1.5, None, (said,)]}) == {shown: [shown, 1.5, None, (shown,)]}
