"""Training, synthesising and scoring the cases for equal seconds, each in a process of its own."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from equal_seconds.cases import cases_of, settings_of
from relapet import api
from relapet.config import RunConfig
from relapet.imaging.derivatives import index_measured
from relapet.messages import Silent
from relapet.methods import build_method
from relapet.runs import RunFolder
from relapet.training.distributed import make_fabric
from relapet.training.engine import Hooks, Trainer
from relapet.training.loader import Source, collate
from relapet.training.material import give_prior, prepare_material

ON_GPU = torch.cuda.is_available()
TIMED_STEPS = 5


def clock() -> float:
    """Seconds of this process: of the processor, or elapsed ones where a GPU does the work."""
    return time.perf_counter() if ON_GPU else time.process_time()


def measure_cost(config: RunConfig, run: Path, cohort: Path) -> dict[str, float]:
    """Seconds of the fit in closed form and of a step with every phase at work (0: none), on the cohort's volumes."""
    steps = TIMED_STEPS + 2
    train = config.train.changed(steps=steps, validate_every=steps + 1, checkpoint_every=steps + 1)
    timed = config.changed(train=train)
    if hasattr(config.method, "adversarial_start"):
        # Steps of the warm-up cost less than those with both players.
        timed = timed.changed(method=config.method.changed(adversarial_start=0))
    fabric = make_fabric(timed.train)
    material = prepare_material(timed, cohort, index_measured(cohort), RunFolder(run), Silent())
    started = clock()
    give_prior(material, timed.data, RunFolder(run), Silent())
    method = build_method(timed.method.model_dump(mode="json"), material.manifest.facts())
    if method.targets == "all":
        material.training.hold_together()
    method.fit(collate([item]) for item in material.training.whole_visits())
    cost = {"seconds_of_fit": clock() - started, "seconds_a_step": 0.0}
    if method.phases():
        stamps: list[float] = []
        source = Source(material.training, timed.data.augment, method.pairing)
        trainer = Trainer(method, source, timed.train, fabric)
        trainer.run(Hooks(on_step=lambda progress: stamps.append(clock())))
        cost["seconds_a_step"] = statistics.median(np.diff(stamps[1:]))
    return cost


def run_case(name: str, options: argparse.Namespace) -> None:
    """Train, synthesise and score one case in this process."""
    folder, cohort, case = options.out / name, options.out / "cohort", cases_of(options)[name]
    cost = measure_cost(settings_of(case, options, steps=10), folder / "timing", cohort)
    steps = max(10, int(options.seconds / cost["seconds_a_step"])) if cost["seconds_a_step"] else 1
    config = settings_of(case, options, steps)
    run = RunFolder(folder / "run")
    api.train(config, cohort, run.path, resume=run.path.exists())
    held_out = run.read_manifest().split["test"]
    started = time.process_time()
    api.synthesize(cohort, folder / "synthetic", run.path, split="test")
    synthesis = (time.process_time() - started) / len(held_out) / len(config.data.tracers)
    api.evaluate(cohort, [folder / "synthetic"], folder / "evaluation")
    trained = steps if cost["seconds_a_step"] else 0
    cost_record = cost | {"steps": trained, "cpu_seconds_a_volume": synthesis}
    (folder / "cost.json").write_text(json.dumps(cost_record))


def read_cost(name: str, out: Path) -> dict[str, float]:
    """What `run_case` noted of a case; nothing for one of evaluate's own methods."""
    path = out / name / "cost.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def is_done(folder: Path) -> bool:
    return (folder / "cost.json").is_file()


def run_cases(names: list[str], options: argparse.Namespace) -> list[str]:
    """Run what is not done, each case in a process of its own; the names of those that failed."""

    def one(name: str) -> str | None:
        arguments = [sys.executable, *sys.argv, "--one", name]
        threads = {} if ON_GPU else {"OMP_NUM_THREADS": "1"}
        (options.out / name).mkdir(exist_ok=True)
        with (options.out / name / "log.txt").open("a") as log:
            done = subprocess.run(arguments, env=os.environ | threads, stdout=log, stderr=log, check=False)
        print(f"{name}: {'done' if done.returncode == 0 else f'failed, see {log.name}'}", flush=True)
        return None if done.returncode == 0 else name

    waiting = [name for name in names if not is_done(options.out / name)]
    with ThreadPoolExecutor(options.processes) as pool:
        return [name for name in pool.map(one, waiting) if name]
