"""The documentation says what the commands say, and its links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import typer.main

from documented import documented_commands
from relapet.cli import app

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def build() -> ModuleType:
    """docs/build.py as a module."""
    spec = spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_of_commands_is_up_to_date(build: ModuleType) -> None:
    assert build.CLI.read_text(encoding="utf-8") == build.render_cli(), "run make docs"


def test_the_page_of_commands_names_every_command(build: ModuleType) -> None:
    text = build.render_cli()
    assert len(app.registered_commands) > 4
    for command in app.registered_commands:
        assert command.callback is not None
        assert f"\n## {command.callback.__name__.replace('_', '-')}\n" in text


def test_calls_are_found_in_every_part_of_the_documents() -> None:
    calls = documented_commands()
    assert len(calls) > 40
    assert {call.split()[1] for call in calls} == {
        command.callback.__name__.replace("_", "-")
        for command in app.registered_commands
        if command.callback is not None
    }


@pytest.mark.parametrize("call", documented_commands())
def test_every_documented_call_is_understood(call: str) -> None:
    """Its command, arguments and options exist; nothing is run."""
    name, *arguments = shlex.split(call.partition(" > ")[0], comments=True)[1:]
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    context = command.make_context(name, arguments)
    assert context.params


def test_every_relative_link_leads_somewhere(build: ModuleType) -> None:
    assert len(build.documents()) >= 4
    assert list(build.broken_links()) == []


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """Every page, also those from outside of docs/, in the menu, with the calls that the Python page promises."""
    site = tmp_path / "site"
    call = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)]
    quiet = {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        call, cwd=ROOT, env={**os.environ, **quiet}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    pages = {path.relative_to(site).with_suffix(".md").as_posix() for path in site.rglob("*.html")}
    written = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages - {"404.md"} == written | {"readme.md", "contributing.md", "changelog.md", "benchmarks.md"}
    python = (site / "python.html").read_text(encoding="utf-8")
    for name in (
        "relapet.api.synthesize",
        "relapet.synthesis.synthesizer.Synthesizer",
        "relapet.config.RunConfig",
    ):
        assert f'id="{name}"' in python
    for page in site.rglob("*.html"):  # nothing is fetched from elsewhere
        assert not re.search(
            r'<(script|link|img)[^>]*(src|href)="?https?://', page.read_text(encoding="utf-8")
        ), page


def test_broken_links_are_found(build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file, a heading and a picture that are not there are named; addresses and code are let be."""
    (tmp_path / "docs").mkdir()
    text = (
        "# Here it is\n[ok](#here-it-is) [ok](docs) [gone](docs/no.md) [gone](README.md#no)\n"
        '![gone](no.png) <img src="no.svg"> [far](https://example.org/x)\n```\n[code](no.md)\n```\n'
    )
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    monkeypatch.setattr(build, "ROOT", tmp_path)
    found = [line.split()[1] for line in build.broken_links()]
    assert found == ["docs/no.md", "README.md#no", "no.png", "no.svg"]
