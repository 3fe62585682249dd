"""The commands: parse, call one function of a stage, say what was written. One file a group of commands."""

from __future__ import annotations

from relapet.cli import data, models, results
from relapet.cli.command import app, register
from relapet.cli.running import entry_point, main

__all__ = ["app", "entry_point", "main"]

for _command in (
    *(results.demo, data.simulate, data.preprocess, models.train, models.synthesize, models.export),
    *(data.import_layout, models.import_weights, results.evaluate, results.benchmark, results.report),
    results.info,
):
    register(_command)
