"""The version of relapet that is installed."""

from __future__ import annotations

from importlib.metadata import version

VERSION = version("relapet")
