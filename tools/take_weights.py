"""Make a run folder of one that was trained and of weights that were trained elsewhere from it.

    python tools/take_weights.py RUN OUT --weights NAME.generator_ema.safetensors --fitted NAME.fitted.safetensors \
        --settings NAME.settings.json --origin "where they are from" --derivatives DERIVATIVES

The prior, the training mean and the split are RUN's. What the model adds to its prior, the spread of its samples and
the intervals are then fitted to RUN's validation participants, who are read from DERIVATIVES where they are given.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from safetensors.torch import load_file

from relapet.adjustment import fit_adjustment
from relapet.calibration import calibrate_run
from relapet.config import RunConfig
from relapet.console import Terminal
from relapet.files import read_json
from relapet.runs import RunFolder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--fitted", type=Path, required=True)
    parser.add_argument("--origin", required=True)
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--derivatives", type=Path)
    options = parser.parse_args()
    run, made = RunFolder(options.run), RunFolder(options.out)
    made.weights.mkdir(parents=True)
    config = RunConfig.model_validate(read_json(options.settings))
    for path in (run.prior, run.training_mean) if config.data.prior == "linear" else (run.training_mean,):
        shutil.copy(path, made.weights)
    weights = {name: tensor.float() for name, tensor in load_file(options.weights).items()}
    made.write_weights({"generator": weights}, {"generator": weights})
    if fitted := load_file(options.fitted):
        made.write_fitted(fitted)
    made.write_config(config.model_dump(mode="json"))
    told = {"origin": options.origin, "method": config.method.name, "prior": config.data.prior}
    made.write_manifest(run.read_manifest().model_copy(update=told))
    if options.derivatives is None:
        return
    messages = Terminal(quiet=False)
    fit_adjustment(made, options.derivatives, messages)
    calibrate_run(made, options.derivatives, messages)


if __name__ == "__main__":
    main()
