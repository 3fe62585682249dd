"""A user whom the system has no name for, as in a container that runs under one's own number."""

from __future__ import annotations

import getpass
import os
import pwd
import subprocess
import sys
from typing import Never

import pytest

from relapet.users import name_user

NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")


@pytest.mark.parametrize("error", [KeyError, OSError])
def test_a_number_without_a_name_becomes_the_name(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def unknown(number: int) -> Never:
        raise error(f"getpwuid(): uid not found: {number}")

    for name in NAMES:
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    name_user()
    assert getpass.getuser() == str(os.getuid())


def test_a_name_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LOGNAME", "ada")
    name_user()
    assert "USER" not in os.environ


def test_the_networks_import_without_a_name() -> None:
    code = (
        "import pwd\n"
        "def unknown(number): raise KeyError(number)\n"
        "pwd.getpwuid = unknown\n"
        "import relapet.model.generator\n"
    )
    named = {key: value for key, value in os.environ.items() if key not in NAMES}
    done = subprocess.run(
        [sys.executable, "-c", code], env=named, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
