"""``python -m relapet.benchmarking FOLDER PID``: one case of a comparison, for the process that started it."""

from __future__ import annotations

import sys

from relapet.benchmarking.case import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
