"""Whether bfloat16 is fast here, by the processor's own words."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch

from relapet import hardware
from relapet.errors import InputError
from relapet.hardware import device_name, find_device, has_fast_bfloat16, names_bfloat16

AVX2 = "flags\t\t: fpu vme sse4_2 avx avx2 bmi1 bmi2 sha_ni\n"


@pytest.mark.parametrize(
    ("text", "fast"),
    [
        (AVX2, False),
        (AVX2.replace("avx2", "avx2 avx512f avx512_bf16"), True),
        (AVX2.replace("avx2", "avx2 amx_bf16 amx_tile amx_int8"), True),
        (AVX2.replace("avx2", "avx512_bf16_not"), False),
        ("Features\t: fp asimd sve bf16 i8mm\n", True),
        ("Features\t: fp asimd\n", False),
        (AVX2.replace("avx2", "avx512_bf16") + AVX2, False),  # some of the cores only
        ("", False),
    ],
)
def test_the_flags_of_the_processor(text: str, fast: bool) -> None:
    assert names_bfloat16(text) is fast


def test_the_gpu_decides_where_there_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(AVX2)
    monkeypatch.setattr(hardware, "_CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert has_fast_bfloat16() is False
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for supported in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True, s=supported: s)
        assert has_fast_bfloat16() is supported


def test_elsewhere_than_on_linux_torch_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hardware, "_CPU_INFO", tmp_path / "none")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("avx512_bf16", "amx_tile"):
        monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda: False, raising=False)
    assert has_fast_bfloat16() is False
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert has_fast_bfloat16() is True


def test_a_device_is_taken_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device() == find_device("cpu") == torch.device("cpu")
    for name in ("cuda", "cuda:0"):
        with pytest.raises(
            InputError, match=f"`device` is {name}, but torch finds no GPU here; give another one"
        ):
            find_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert (find_device(), find_device("cpu")) == (torch.device("cuda"), torch.device("cpu"))
    assert find_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(InputError, match="finds 2 GPUs, counted from cuda:0 here"):
        find_device("cuda:2")


@pytest.mark.parametrize(
    "name", ["gpu", "cuda:", "cuda:-1", "cuda:01", "cuda:4321", "cuda:\u0661", "CPU", "", "meta"]
)
def test_what_names_no_device_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="give cpu, cuda or"):
        find_device(name)


def test_a_cpu_beside_a_gpu_is_asked_for_its_own_instructions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cpuinfo").write_text(AVX2)
    monkeypatch.setattr(hardware, "_CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert has_fast_bfloat16() is True
    assert has_fast_bfloat16(torch.device("cpu")) is False


def test_a_processor_is_named_as_it_names_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_CPU_INFO", tmp_path / "cpuinfo")
    cpu = torch.device("cpu")
    assert device_name(cpu) == platform.machine()  # no such file
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name\t: Some CPU @ 3 GHz \nmodel : 1\n")
    assert device_name(cpu) == "Some CPU @ 3 GHz"
