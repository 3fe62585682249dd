"""Python callers are checked as the command line's are, and told in Python's words."""

from __future__ import annotations

from pathlib import Path

import pytest

import relapet
from relapet.errors import InputError


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": 0}, "`steps` is 0; give 1 or more"),
        ({"count": -2}, "`count` is -2; give 1 or more"),
        ({"stps": 3}, "no setting `stps`; did you mean `steps`"),
        ({"seed": 1.5}, "`seed` is 1.5; give a whole number"),
    ],
)
def test_synthesize_checks_its_settings(
    settings: dict[str, int], words: str, toy_source: Path, tiny_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError) as refused:
        relapet.synthesize(toy_source, out, tiny_run, settings=settings)
    assert words in str(refused.value)
    assert not out.exists()
