"""Tracers: one .toml each, no code."""

from relapet.tracers.spec import TracerSpec, get_tracer, load_tracer, load_tracers, simulated_tracers

__all__ = ["TracerSpec", "get_tracer", "load_tracer", "load_tracers", "simulated_tracers"]
