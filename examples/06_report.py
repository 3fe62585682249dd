"""Make the report pages: of a training, of a derivative, of an evaluation.

python examples/06_report.py example-output
"""

from __future__ import annotations

import sys
from pathlib import Path

import relapet


def main(folder: Path) -> None:
    """Write a page of each into ``pages`` and say how large it is."""
    for name in ("run_rela", "synthetic_rela", "evaluation"):
        page = relapet.write_report(folder / name, folder / "pages" / f"{name}.html")
        print(f"{page}: {page.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "example-output"))
