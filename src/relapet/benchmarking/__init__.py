"""Methods side by side: trained on one derivative for an equal budget, judged on the same held-out people."""

from __future__ import annotations

from relapet.benchmarking.config import BenchmarkConfig
from relapet.benchmarking.run import Benchmark, benchmark

__all__ = ["Benchmark", "BenchmarkConfig", "benchmark"]
