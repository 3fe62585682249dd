"""Synthesise those who were held out, as a data set, and one of them as a call.

python examples/03_synthesize.py example-output
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import relapet
from relapet.imaging.bids import find_visits


def main(folder: Path) -> None:
    """Write the derivatives ``synthetic_linear`` and ``synthetic_rela``; print what one map says of its own doubt."""
    for name in ("linear", "rela"):
        outcome = relapet.synthesize(
            folder / "cohort", folder / f"synthetic_{name}", folder / f"run_{name}", split="test"
        )
        print(
            f"synthetic_{name}: {len(outcome.done)} visits written, {len(outcome.unchanged)} were done before"
        )
    visit = find_visits(folder / "synthetic_rela")[0]
    synthesizer = relapet.Synthesizer.from_run(folder / "run_rela")
    tau = synthesizer(visit.t1w(folder / "cohort"), visit.flair(folder / "cohort"), tracer="tau", samples=4)
    assert tau.sd is not None
    inside = np.asarray(tau.mean.dataobj) > 0.5
    print(
        f"{visit.stem} tau: SD over samples {np.asarray(tau.sd.dataobj)[inside].mean():.3f} SUVr on average"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "example-output"))
