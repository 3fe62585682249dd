"""relapet: quantitative synthetic brain PET from T1w + FLAIR MRI.

Everything the commands do is a call: ``relapet.simulate(...)``, ``relapet.train(...)``,
``relapet.Synthesizer.from_run(path)(t1w, flair, tracer="pib")``. Heavy parts (torch) load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from relapet.version import VERSION

__version__ = VERSION
__all__ = [
    "Synthesizer",
    "__version__",
    "benchmark",
    "demo",
    "evaluate",
    "export",
    "import_layout",
    "import_weights",
    "preprocess",
    "simulate",
    "synthesize",
    "train",
    "write_report",
]

_ELSEWHERE = {"benchmark": "relapet.benchmarking"}
"""What is no call of `relapet.api` but stands on these."""


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(_ELSEWHERE.get(name, "relapet.api")), name)
    raise AttributeError(f"module 'relapet' has no attribute {name!r}")
