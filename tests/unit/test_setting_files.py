"""Presets, YAML files and single settings, read before they are checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from relapet.config import load_config
from relapet.errors import InputError
from relapet.setting_files import compose


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("train.steps", "key=value"),
        ("=3", "key=value"),
        ("train..steps=3", "key=value"),
        ("train.steps=[1", "cannot be read"),
        ("train.steps={a: 1, a", "cannot be read"),
        ("train.steps=!!python/object/apply:os.system [x]", "cannot be read"),
        ("train.steps=!mine 3", "cannot be read"),
        ("train.steps=&a [*a]", "references"),
        ("train.steps=[&a [1,1], &b [*a,*a], &c [*b,*b]]", "references"),
        ("train.steps=" + "[" * 5000, "nested too deeply"),
        ("train.steps=" + "[" * 50 + "]" * 50, "nested too deeply"),
        (".".join("a" * 100) + "=1", "key=value"),
        ("train.steps=" + "9" * 5000, "cannot be read"),
        ("train.steps=2024-13-45", "cannot be read"),
        ("train.steps=\x00", "cannot be read"),
    ],
)
def test_a_setting_that_cannot_be_read_is_refused_in_one_sentence(setting: str, words: str) -> None:
    with pytest.raises(InputError) as refused:
        compose("demo", settings=[setting])
    said = str(refused.value)
    assert words in said
    assert "\n" not in said
    assert len(said) < 250


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"train: {steps: 3\n", "not a readable YAML file"),
        (b"a: &x [1]\nb: [*x, *x]\n", "references"),
        (b"train: !!python/name:os.system\n", "not a readable YAML file"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"- train\n", "holds no settings"),
        (b"3\n", "holds no settings"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(content: bytes, words: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"mine\.yaml") as refused:
        compose(file=file)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_later_settings_lie_over_earlier_ones(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("train: {steps: 5, seed: 2}\n")
    content = compose("demo", file, ["train.steps=7", "method.generator.channels=[8, 8]"])
    assert (content["train"]["steps"], content["train"]["seed"]) == (7, 2)
    assert content["method"]["name"] == "rela"
    assert content["method"]["generator"]["channels"] == [8, 8]


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("train.stps=3", "There is no setting train.stps; did you mean train.steps?"),
        ("train.steps=0", "train.steps is 0; give 1 or more."),
        (
            "method.name=foo",
            "method.name is 'foo'; give one of 'tracer_mean', 'linear', 'regression'",
        ),
        ("method=3", "`method` is 3; it is a group of settings"),
        (
            "data.grid=5mm",
            "data.grid is '5mm'; give one of '1mm', '2.5mm', '3mm', '4mm' or '8mm' (did you mean '2.5mm'?).",
        ),
    ],
)
def test_a_setting_that_is_wrong_is_told_without_the_checker_s_words(setting: str, sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        load_config("demo", settings=[setting])
    assert str(refused.value).startswith(sentence)
