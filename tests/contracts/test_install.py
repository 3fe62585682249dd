"""What `make install` brings: all that the commands of the README need, in pinned versions."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def plain(requirement: str) -> str:
    """A package's name as pip compares it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~; \[]", requirement)[0]).lower()


def test_the_tools_bring_all_that_raw_scans_need() -> None:
    extras = PROJECT["optional-dependencies"]
    assert set(map(plain, extras["preprocess"])) == {"antspyx", "deepbet"} <= set(map(plain, extras["dev"]))
    versions = {r.split(";")[0].strip() for r in extras["dev"] if plain(r) in ("antspyx", "deepbet")}
    assert versions == set(extras["preprocess"])


def test_every_package_that_is_named_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {plain(line) for line in lines if "==" in line}
    named = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    assert not set(map(plain, named)) - pinned
