"""Score both methods against the measured maps, beside the floor and the ceilings.

python examples/04_evaluate.py example-output
"""

from __future__ import annotations

import sys
from pathlib import Path

import relapet
from relapet.evaluation.config import EvaluationConfig


def main(folder: Path) -> None:
    """Write ``evaluation`` and print the PSNR of every method and tracer."""
    result = relapet.evaluate(
        folder / "cohort",
        [folder / "synthetic_rela", folder / "synthetic_linear"],
        folder / "evaluation",
        EvaluationConfig(bootstrap=200),
    )
    scores = result.tables["image_metrics"].groupby(["tracer", "method"])["psnr"].mean().unstack("method")
    print(scores.round(2).to_string())


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "example-output"))
