"""One method with one seed: its cost, its training, its maps of the held-out people and their scores.

Everything lies in the case's folder, and what is done is not done again: cost.json, run/, synthetic/, evaluation/,
external/ and, when all is done, result.json. ``python -m relapet.benchmarking FOLDER PID`` does what the folder's
job.json says, and ends where the process PID does.
"""

from __future__ import annotations

import sys
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from relapet import api
from relapet.benchmarking.config import for_steps, volumes_a_step
from relapet.benchmarking.cost import Cost, clock, measure_cost
from relapet.benchmarking.shared import SharedMaterial
from relapet.config import RunConfig
from relapet.errors import RelapetError
from relapet.evaluation.config import EvaluationConfig
from relapet.files import read_json, write_json
from relapet.hardware import device_name, find_device
from relapet.imaging.bids import index_derivative
from relapet.messages import plain_text
from relapet.model.samplers import SAMPLERS
from relapet.processes import end_with
from relapet.runs import RunFolder
from relapet.settings import Settings
from relapet.synthesis.synthesizer import Synthesizer
from relapet.training.memory import peak_memory_gib


class Job(Settings):
    """What a case is."""

    name: str = Field(description="of the method in every table")
    seed: int = Field(description="of the training")
    derivatives: str = Field(description="what is trained and judged on")
    external: str | None = Field(None, description="another derivative, on which it is judged too")
    settings: RunConfig = Field(description="its settings, but for the number of steps")
    budget_seconds: float | None = Field(description="training time, or")
    budget_samples: int | None = Field(description="training volumes seen")
    bootstrap: int = Field(description="bootstrap samples of subjects")


@dataclass(frozen=True)
class CaseFolder:
    """The paths inside a case's folder."""

    path: Path

    @property
    def job(self) -> Path:
        """What is to be done."""
        return self.path / "job.json"

    @property
    def cost(self) -> Path:
        """What a step costs, and how many there are."""
        return self.path / "cost.json"

    @property
    def run(self) -> RunFolder:
        """The training."""
        return RunFolder(self.path / "run")

    @property
    def trained(self) -> Path:
        """Written when the training is whole."""
        return self.path / "trained.json"

    @property
    def synthetic(self) -> Path:
        """Maps of the held-out participants."""
        return self.path / "synthetic"

    @property
    def evaluation(self) -> Path:
        """Their scores."""
        return self.path / "evaluation"

    @property
    def external(self) -> Path:
        """Maps of the other derivative, and their scores."""
        return self.path / "external"

    @property
    def shared(self) -> Path:
        """What is handed on to the other cases of the comparison."""
        return self.path.parent.parent / ".shared"

    @property
    def result(self) -> Path:
        """Written when all is done."""
        return self.path / "result.json"

    @property
    def log(self) -> Path:
        """What the process said."""
        return self.path / "log.txt"

    def read_job(self) -> Job:
        """What is to be done; raises InputError where it cannot be read."""
        return Job(**read_json(self.job))

    def is_done(self) -> bool:
        """Whether all is done."""
        return self.result.is_file()


def run_case(folder: CaseFolder) -> None:
    """Do what is not done yet of the folder's job; raises RelapetError."""
    job = folder.read_job()
    derivatives = Path(job.derivatives)
    cost, steps = _cost(folder, job)
    if not folder.trained.is_file():
        config = for_steps(job.settings, steps, job.seed)
        api.train(config, derivatives, folder.run.path, resume=folder.run.manifest.is_file())
        write_json(folder.trained, {"steps": steps, "peak_memory_gib": peak_memory_gib(find_device())})
    names = EvaluationConfig(names=(job.name,), bootstrap=job.bootstrap)
    seconds = _synthesize(folder, derivatives)
    api.evaluate(derivatives, [folder.synthetic], folder.evaluation, names, report=False, figures=False)
    if job.external is not None:
        synthetic = folder.external / "synthetic"
        api.synthesize(job.external, synthetic, folder.run.path, report=False)
        told = names.changed(internal=folder.evaluation)
        api.evaluate(
            job.external, [synthetic], folder.external / "evaluation", told, report=False, figures=False
        )
    write_json(folder.result, {**_record(folder, job, cost, steps), "synthesis_seconds": seconds})


def _cost(folder: CaseFolder, job: Job) -> tuple[Cost, int]:
    """What the method costs, and the steps that its budget allows."""
    if not folder.cost.is_file():
        cost = measure_cost(job.settings, Path(job.derivatives), folder.run, SharedMaterial(folder.shared))
        write_json(folder.cost, asdict(cost) | {"steps": _steps(job, cost)})
    found = read_json(folder.cost)
    steps = int(found.pop("steps"))
    return Cost(**found), steps


def _steps(job: Job, cost: Cost) -> int:
    if cost.step_seconds == 0:
        return 1
    if job.budget_seconds is not None:
        return max(1, int(job.budget_seconds / cost.step_seconds))
    assert job.budget_samples is not None
    return max(1, job.budget_samples // volumes_a_step(job.settings, cost.tracers))


def _synthesize(folder: CaseFolder, derivatives: Path) -> float:
    """Synthesize the held-out participants; seconds a map, all its samples included."""
    started = clock()
    api.synthesize(derivatives, folder.synthetic, folder.run.path, split="test", report=False)
    maps = sum(len(files.pet) for files in index_derivative(folder.synthetic, "synth"))
    return (clock() - started) / max(1, maps)


def _record(folder: CaseFolder, job: Job, cost: Cost, steps: int) -> dict[str, Any]:
    synthesizer = Synthesizer.from_run(folder.run.path)
    networks, deployed = synthesizer.method.networks, synthesizer.method.deployed
    parameters = {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}
    sample = synthesizer.sample
    calls = SAMPLERS[sample.sampler].calls(sample.steps) if synthesizer.takes_sampler else 1
    return {
        "name": job.name,
        "seed": job.seed,
        "method": job.settings.method.name,
        "prior": job.settings.data.prior,
        "device": str(synthesizer.device),
        "machine": device_name(synthesizer.device),
        "steps": steps if cost.step_seconds else 0,
        "volumes_seen": steps * volumes_a_step(job.settings, cost.tracers) if cost.step_seconds else 0,
        "step_seconds": cost.step_seconds,
        "fit_seconds": cost.fit_seconds,
        "parameters": sum(parameters[name] for name in deployed),
        "parameters_in_training": sum(parameters.values()),
        "network_calls": calls,
        "samples": sample.count if synthesizer.method.random else 1,
        "peak_memory_gib": read_json(folder.trained)["peak_memory_gib"],
        "test": synthesizer.manifest.split["test"],
    }


def main(arguments: list[str]) -> int:
    """Run the case of a folder for the process of a number; 1 where it fails, the reason last on standard error."""
    end_with(int(arguments[1]))
    try:
        run_case(CaseFolder(Path(arguments[0])))
    except RelapetError as error:
        print(plain_text(str(error)), file=sys.stderr)
        return 1
    except Exception as error:
        traceback.print_exc()
        print(plain_text(f"unexpected {type(error).__name__}: {error}"), file=sys.stderr)
        return 1
    return 0
