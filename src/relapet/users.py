"""Who runs this: in a container that may be a number without a name, at which libraries fail. Needs no torch."""

from __future__ import annotations

import getpass
import os


def name_user() -> None:
    """Give a user whom the system has no name for his number as one, before MONAI asks for it as it is imported.

    Containers run under any user's number (``docker run --user``), and few of these stand in their list of users.
    """
    try:
        getpass.getuser()
    except (
        KeyError,
        OSError,
        ImportError,
    ):  # the first up to Python 3.12; the last where there are no numbers
        os.environ["USER"] = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
