"""Everything public that a reader of docs/python.md meets says what it is."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import relapet
from relapet import api

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "python.md"


def named_modules() -> set[str]:
    """Modules of the page, those behind the names of the package and of its api, and those that they re-export from."""
    named = {
        _module(name) for name in re.findall(r"^::: (\S+)", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    }
    objects = [getattr(relapet, name) for name in relapet.__all__ if name != "__version__"]
    objects += [getattr(api, name) for name in api.__all__]
    for name in sorted(named):
        module = import_module(name)
        objects += [getattr(module, public) for public in getattr(module, "__all__", ())]
    behind = {found.__name__ for each in objects if (found := inspect.getmodule(each)) is not None}
    return {"relapet", "relapet.api"} | named | {name for name in behind if name.startswith("relapet")}


def _module(name: str) -> str:
    while True:
        try:
            if find_spec(name) is not None:
                return name
        except ModuleNotFoundError:  # a part before the last is no package
            pass
        name = name.rpartition(".")[0]


def undocumented(body: list[ast.stmt], place: str) -> Iterator[tuple[str, bool]]:
    """Each public function and class, methods and nested classes too, and whether it lacks a docstring."""
    for node in body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("_") and node.name != "__call__":
            continue
        yield f"{place}.{node.name}", not ast.get_docstring(node)
        if isinstance(node, ast.ClassDef):
            yield from undocumented(node.body, f"{place}.{node.name}")


def test_all_that_is_public_has_a_docstring() -> None:
    modules = sorted(named_modules())
    assert {"relapet.api", "relapet.errors", "relapet.tracers.spec", "relapet.released_run"} <= set(modules)
    found: dict[str, bool] = {}
    for name in modules:
        file = import_module(name).__file__
        assert file is not None
        tree = ast.parse(Path(file).read_text(encoding="utf-8"))
        found |= {name: not ast.get_docstring(tree), **dict(undocumented(tree.body, name))}
    assert len(found) > 100
    assert [name for name, lacks in found.items() if lacks] == []


def test_the_page_names_every_call() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in {*relapet.__all__, *api.__all__} - {"__version__"} if name not in text] == []
