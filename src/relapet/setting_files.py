"""Settings as users write them, before they are checked: presets, YAML files, ``key.key=value``. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from relapet.errors import InputError
from relapet.settings import meant, shortened

_DEPTH = 20
"""Levels of settings within settings, far more than there are: deeper text is no settings but an attack or a slip."""


def presets() -> dict[str, Path]:
    """The packaged presets by name."""
    folder = Path(str(files("relapet"))) / "presets"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def compose(
    preset: str | None = None, file: Path | None = None, settings: Sequence[str] = ()
) -> dict[str, Any]:
    """The preset, then the file over it, then ``key.key=value`` settings over both; not yet checked.

    A preset or a file may name another preset that it is ``based_on``. Raises InputError naming the preset, the
    file or the setting that cannot be read.
    """
    content: dict[str, Any] = {}
    if preset is not None:
        content = _read_preset(preset)
    if file is not None:
        content = _merge(content, _with_base(read_settings_file(Path(file))))
    return with_single(content, settings)


def with_single(content: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Settings with ``key.key=value`` settings over them; raises InputError for one that cannot be read."""
    changed = dict(content)
    for setting in settings:
        changed = _merge(changed, _parse(setting))
    return changed


class _Loader(yaml.SafeLoader):
    """YAML without references: settings need none, and a few lines of them can stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse a reference where it stands."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "references (*name) are not taken", mark)
        return super().compose_node(parent, index)


def _load(text: str) -> tuple[Any, str | None]:
    """The content of YAML text, or what is wrong with it."""
    try:
        content = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark and "\n" in text else ""
        return None, f"{error.problem or 'it breaks off'}{line}"
    except yaml.YAMLError:
        return None, "it has characters that no text has"
    except RecursionError:
        return None, "it is nested too deeply"
    except ValueError as error:  # numbers and dates that Python cannot hold
        return None, str(error).partition(";")[0]
    return (content, None) if _is_shallow(content) else (None, "it is nested too deeply")


def _is_shallow(content: Any, left: int = _DEPTH) -> bool:
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    return left > 0 and all(_is_shallow(part, left - 1) for part in parts)


def _read_preset(name: str) -> dict[str, Any]:
    known = presets()
    if name not in known:
        raise InputError(
            f"Unknown preset {shortened(name)}; there are: {', '.join(known)}{meant(name, known)}."
        )
    return _with_base(read_settings_file(known[name]))


def _with_base(content: dict[str, Any]) -> dict[str, Any]:
    base = content.pop("based_on", None)
    return content if base is None else _merge(_read_preset(str(base)), content)


def read_settings_file(path: Path) -> dict[str, Any]:
    """The settings in a YAML file, not yet checked; raises InputError for what is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{path} is not a readable file of settings ({error.strerror or error}); check the path."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a readable file of settings; save it as UTF-8 text.") from error
    content, wrong = _load(text)
    if wrong is not None:
        raise InputError(f"{path} is not a readable YAML file ({wrong}); correct it.")
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no settings; write them as key: value.")
    return content


def _parse(setting: str) -> dict[str, Any]:
    key, equals, value = setting.partition("=")
    parts = key.split(".")
    if not equals or not all(parts) or len(parts) > _DEPTH:
        raise InputError(
            f"The setting {shortened(setting)} is not of the form key=value, for example train.steps=2000."
        )
    content, wrong = _load(value)
    if wrong is not None:
        raise InputError(f"The value of {shortened(setting)} cannot be read ({wrong}); correct it.")
    for part in reversed(parts):
        content = {part: content}
    return dict(content)


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged
