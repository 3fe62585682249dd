"""The documentation says what the commands say, and its links lead somewhere."""

from __future__ import annotations

import re
import shlex
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import typer.main

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


def documented_commands() -> list[str]:
    """Every full relapet call in the README (indented lines) and in the commands' own examples."""
    readme = re.findall(r"^    (relapet .*)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    commands = typer.main.get_command(app).commands.values()  # type: ignore[attr-defined]
    return readme + [
        call for command in commands for call in re.findall(r"`(relapet .*?)`", command.epilog or "")
    ]


@pytest.mark.parametrize("call", documented_commands())
def test_every_documented_call_is_understood(call: str) -> None:
    """Its command, arguments and options exist; nothing is run."""
    name, *arguments = shlex.split(call)[1:]
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    context = command.make_context(name, arguments)
    assert context.params


def test_every_relative_link_leads_somewhere(build: ModuleType) -> None:
    assert len(build.documents()) >= 4
    assert list(build.broken_links()) == []


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
