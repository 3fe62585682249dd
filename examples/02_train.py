"""Train two methods on the same people: the closed form, and a small diffusion model beside it.

python examples/02_train.py example-output
"""

from __future__ import annotations

import sys
from pathlib import Path

import relapet
from relapet.config import load_config

SPLIT = ("data.test_fraction=0.34", "data.validation_fraction=0.25", "data.linear.min_participants=3")
SMALL = ("method.generator.channels=[8,8]", "train.steps=20", "train.seconds=null", "sample.count=2")


def main(folder: Path) -> None:
    """Write the run folders ``run_linear`` and ``run_rela``, and say who was held out."""
    for name, preset, settings in (("linear", "linear", SPLIT), ("rela", "demo", (*SPLIT, *SMALL))):
        run = relapet.train(load_config(preset, settings=settings), folder / "cohort", folder / f"run_{name}")
        print(f"{run.path}: held out are {', '.join(run.read_manifest().split['test'])}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "example-output"))
