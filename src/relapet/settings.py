"""The one kind of settings: frozen, checked for every caller, and refused in plain words.

    class TrainConfig(Settings):
        steps: int = Field(1000, ge=1, description="training steps at most")

`TrainConfig(steps=0)` raises InputError with one sentence. Within other settings pydantic checks them, and whoever
asks pydantic (``model_validate``) gets its ValidationError, which `fault` puts into a sentence.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Self, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from relapet.errors import InputError

_LARGEST = 2**63 - 1
"""The largest whole number that tensors and arrays hold."""


_NUMBERS = (int, float, int | None, float | None)
"""What takes no truth value, though pydantic would read one as 0 or 1."""


class Settings(BaseModel):
    """Base of every settings class."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InputError(fault(error, type(self))) from error

    # Within other settings pydantic must not call __init__: its own error knows where the fault lies.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode="before")
    @classmethod
    def _truth_is_no_number(cls, values: object) -> object:
        for name, value in values.items() if isinstance(values, Mapping) else ():
            if (
                isinstance(value, bool)
                and name in cls.model_fields
                and cls.model_fields[name].annotation in _NUMBERS
            ):
                raise ValueError(f"{name} is {str(value).lower()}; give a number")
        return values

    @field_validator("*")
    @classmethod
    def _fits_in_a_tensor(cls, value: object) -> object:
        if isinstance(value, int) and abs(value) > _LARGEST:
            raise ValueError("the number is too large; give a smaller one")
        return value

    def changed(self, **values: Any) -> Self:
        """The same with some settings replaced, checked anew; raises InputError."""
        return changed(self, values)


SomeSettings = TypeVar("SomeSettings", bound=BaseModel)
T = TypeVar("T", bound=Collection[Hashable])


def changed(settings: SomeSettings, values: Mapping[str, Any]) -> SomeSettings:
    """A copy with some settings replaced, checked anew; raises InputError, also for a name that there is not."""
    kind = type(settings)
    now = {name: getattr(settings, name) for name in kind.model_fields}
    try:
        return kind.model_validate(now | dict(values))
    except ValidationError as error:
        raise InputError(fault(error, kind)) from error


def _without_repeats(values: T) -> T:
    seen: set[Hashable] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{value} is named twice; name each once")
        seen.add(value)
    return values


Distinct = AfterValidator(_without_repeats)
"""Refuses repeats: ``tracers: Annotated[tuple[str, ...], Distinct]``."""


def fault(error: ValidationError, kind: type[BaseModel]) -> str:
    """The first fault of settings of a kind as one sentence, with the setting's dotted name and the mend."""
    first = error.errors(include_url=False)[0]
    key = _key(first["loc"], kind)
    if (
        first["type"] == "value_error"
    ):  # one of our own checks: it names the settings itself, or stands at one
        text = str(first["ctx"]["error"]).rstrip(".")
        return f"{_quoted(key)}: {text}." if key else f"{text}."
    if first["type"] in ("extra_forbidden", "invalid_key"):
        return _unknown(key, kind)
    if first["type"] == "missing":
        return f"The setting {_quoted(key)} is missing; give it."
    if first["type"].startswith("union_tag"):
        return _no_kind(key, first["ctx"])
    where = _quoted(key) if key else "What was given for the settings"
    return f"{where} {refusal(first)}"


def refusal(found: ErrorDetails) -> str:
    """What follows the name of a value that cannot be used, such as ``is 0; give 1 or more``."""
    words = _WORDS.get(found["type"])
    mend = "give another value" if words is None else words(found)
    return f"is {shortened(found['input'])}; {mend}."


def shortened(value: object) -> str:
    """A value as a reader needs it: at most some fifty characters, on one line."""
    if isinstance(value, Mapping):
        return "a group of settings"
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 200:
        return "a huge number"  # Python refuses to write these out
    brief = reprlib.Repr()
    brief.maxstring = brief.maxother = 50
    brief.maxlevel = 2
    return " ".join(brief.repr(value).split())


def meant(word: object, known: Iterable[str]) -> str:
    """`` (did you mean 'X'?)`` where a word is nearly a known one, else nothing."""
    close = get_close_matches(str(word), list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def dotted_names(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every setting and group of settings of a kind by its dotted name, those of all members of a union included."""
    for name, field in kind.model_fields.items():
        yield f"{prefix}{name}"
        for part in _kinds_in(field.annotation):
            yield from dotted_names(part, f"{prefix}{name}.")


def _quoted(key: str) -> str:
    # A bare name may be any word: quoted, a reader sees that it is a parameter, and so do the commands.
    return key if "." in key else f"`{key}`"


def _unknown(key: str, kind: type[BaseModel]) -> str:
    group, _, last = key.rpartition(".")
    there = list(dict.fromkeys(dotted_names(kind)))
    beside = {name.rpartition(".")[2]: name for name in there if name.rpartition(".")[0] == group}
    ends = {name.rpartition(".")[2]: name for name in reversed(there)}
    for names, likeness in ((beside, 0.6), (ends, 0.8)):
        close = get_close_matches(last, names, n=1, cutoff=likeness)
        if close:
            return f"There is no setting {_quoted(key)}; did you mean {_quoted(names[close[0]])}?"
    return f"There is no setting {_quoted(key)}; choose among {', '.join(beside.values() or there)}."


def _no_kind(key: str, found: Mapping[str, Any]) -> str:
    name = f"{key}.{found['discriminator'].strip(chr(39))}"
    if "tag" not in found:
        return f"The setting {_quoted(name)} is missing; give it."
    return f"{_quoted(name)} is {shortened(found['tag'])}; give one of {found['expected_tags']}."


def _kinds_in(annotation: Any) -> list[type[BaseModel]]:
    """The settings classes in an annotation such as ``Annotated[A | B, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [kind for part in get_args(annotation) for kind in _kinds_in(part)]


def _key(where: tuple[int | str, ...], kind: type[BaseModel]) -> str:
    """The dotted name of what pydantic says where it is: without the tags that tell the kinds of a union apart."""
    kinds: list[type[BaseModel]] = [kind]
    parts: list[str] = []
    for place, part in enumerate(where):
        fields = [k.model_fields[str(part)] for k in kinds if str(part) in k.model_fields]
        if fields:
            parts.append(str(part))
            kinds = [k for field in fields for k in _kinds_in(field.annotation)]
        elif kinds and place == len(where) - 1:
            parts.append(str(part))  # a name that no kind has
        elif kinds:
            kinds = [k for k in kinds if _has_tag(k, str(part))] or kinds
    return ".".join(" ".join(part.split())[:50] for part in parts)


def _has_tag(kind: type[BaseModel], tag: str) -> bool:
    return any(tag in get_args(field.annotation) for field in kind.model_fields.values())


def _limit(name: str, text: str) -> Callable[[ErrorDetails], str]:
    def words(found: ErrorDetails) -> str:
        limit = found["ctx"][name]
        return text.format(f"{limit:g}" if isinstance(limit, float) else limit)

    return words


def _length(few_or_many: str, name: str) -> Callable[[ErrorDetails], str]:
    return lambda found: f"give {few_or_many} {found['ctx'][name]}"


def _constant(text: str) -> Callable[[ErrorDetails], str]:
    return lambda found: text


_WORD_IN_QUOTES = "'([^']*)'"


def _one_of(found: ErrorDetails) -> str:
    expected = str(found["ctx"]["expected"])
    return f"give one of {expected}{meant(found['input'], re.findall(_WORD_IN_QUOTES, expected))}"


_NUMBER, _WHOLE = _constant("give a number"), _constant("give a whole number")
_TEXT, _LIST = _constant("give a word"), _constant("give a list, such as [a, b]")
_GROUP = _constant("it is a group of settings, so give its parts as KEY.PART=VALUE")
_WORDS: dict[str, Callable[[ErrorDetails], str]] = {
    "greater_than_equal": _limit("ge", "give {} or more"),
    "greater_than": _limit("gt", "give more than {}"),
    "less_than_equal": _limit("le", "give {} or less"),
    "less_than": _limit("lt", "give less than {}"),
    "multiple_of": _limit("multiple_of", "give a multiple of {}"),
    "literal_error": _one_of,
    "enum": _limit("expected", "give one of {}"),
    "finite_number": _constant("give a finite number"),
    **dict.fromkeys(("float_type", "float_parsing"), _NUMBER),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), _WHOLE),
    **dict.fromkeys(("bool_type", "bool_parsing"), _constant("give true or false")),
    **dict.fromkeys(("string_type", "string_unicode"), _TEXT),
    **dict.fromkeys(("tuple_type", "list_type", "set_type", "frozen_set_type"), _LIST),
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type", "dataclass_type"), _GROUP),
    "too_short": _length("at least", "min_length"),
    "too_long": _length("at most", "max_length"),
    "string_too_short": lambda found: f"give at least {found['ctx']['min_length']} characters",
    "string_too_long": lambda found: f"give at most {found['ctx']['max_length']} characters",
}
"""The mend by pydantic's name of the fault; https://docs.pydantic.dev/latest/errors/validation_errors."""
