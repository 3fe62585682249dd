"""Train a run's network further on people who are simulated while it trains, all of them held on one device.

    python tools/streamed_training.py RUN OUT --seconds 450 --people 5000 --workers 14

RUN is a run folder of a simulated cohort, made by ``relapet train`` with `data.prior: linear` (one step is enough):
its prior and its noise stay as they are. No person who is simulated here was ever seen by either, so the prior errs on
them as on anyone new and nothing need be cross-fitted. OUT gets the network's averaged weights, a log, and
what the mean map gains over the prior on the first people, who are never trained on. `tools/take_weights.py` puts the
weights into a run folder.

Several cases (--case NAME SETTING ...) are trained side by side on the same batches and the same noise. A case is of
RUN's method and settings but for what is given; `preset=NAME` as its first setting takes a preset in their place, so
that another method is trained on the same people. One that predicts one tracer a call sees one of each person's.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from relapet.config import load_config, load_resumed
from relapet.data.volumes import scale_mri, suvr_to_model
from relapet.imaging.grid import get_grid
from relapet.imaging.template import load_atlas, load_template
from relapet.methods import build_method
from relapet.model.centre import CentreFinder
from relapet.model.interface import Batch, Condition, Draws
from relapet.runs import RunFolder
from relapet.simulation.scanner import SITES
from relapet.simulation.subject import SimulationConfig, simulate_subject
from relapet.synthesis.priors import Prior, read_prior
from relapet.synthesis.sample_config import SampleConfig
from relapet.types import Volume

_OTHER_SITE = 14, 11
"""Of so many people in turn, those from this one on are of the second site: three in fourteen."""
_CHANNELS = 8
"""Of a person: T1w, FLAIR, the prior of three tracers, their PET."""


@dataclass
class People:
    """Everyone simulated so far, ``(N, 8, X, Y, Z)`` in [-1, 1]: in shared memory, and as a copy on the device."""

    shared: np.memmap
    flags: np.memmap
    """1 for those who are there."""
    pool: Tensor
    held_out: int
    """How many of the first are never trained on."""
    there: list[int] = field(default_factory=list)

    def gather(self) -> None:
        """Copy those who came since the last call."""
        for i in sorted(set(np.flatnonzero(self.flags).tolist()) - set(self.there)):
            self.pool[i] = torch.from_numpy(self.shared[i]).to(self.pool.device)
            self.there.append(i)

    def training(self) -> list[int]:
        """Those that may be trained on."""
        return [i for i in self.there if i >= self.held_out]

    def validation(self) -> list[int]:
        """Those that may not."""
        return [i for i in self.there if i < self.held_out]


def simulate(run: RunFolder, seed: int, indices: range, shared: np.memmap, flags: np.memmap) -> None:
    """What one worker does: a person after another, with what the prior says of each."""
    torch.set_num_threads(1)
    manifest = run.read_manifest()
    prior, grid = read_prior(run, manifest), get_grid(manifest.grid)
    assert prior is not None
    tracers = sorted(manifest.tracers.items(), key=lambda row: row[1].index)
    sites = [
        SimulationConfig(grid=grid, seed=seed + k, site=SITES[site])
        for k, site in enumerate(("research", "adni"))
    ]
    for i in indices:
        if flags[i]:
            continue
        shared[i] = _person(sites[i % _OTHER_SITE[0] >= _OTHER_SITE[1]], i, prior, tracers)
        flags[i] = 1


def _person(config: SimulationConfig, i: int, prior: Prior, tracers: list[tuple[str, Any]]) -> Volume:
    one = simulate_subject(config, i)
    mri = np.stack([scale_mri(volume, one.anatomy.brain) for volume in (one.t1w, one.flair)])
    known = prior(mri, [name for name, _ in tracers])
    pairs = [(known[name], one.pet[name].measured, record.suvr_window) for name, record in tracers]
    priors = [suvr_to_model(before, window) for before, _, window in pairs]
    pets = [suvr_to_model(measured.astype(np.float32), window) for _, measured, window in pairs]
    return np.concatenate([mri, priors, pets]).astype(np.float16)


class Case:
    """One network in training."""

    def __init__(
        self, name: str, settings: list[str], options: argparse.Namespace, run: RunFolder, people: People
    ) -> None:
        self.name, device = name, torch.device(options.device)
        preset = settings[0].removeprefix("preset=") if settings[:1] and "preset=" in settings[0] else None
        self.config = (
            load_resumed(run, settings) if preset is None else load_config(preset, None, settings[1:])
        )
        self.means = _means(run).to(device)
        manifest = run.read_manifest()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            facts = replace(manifest.facts(), prior=self.config.data.prior != "none")
            self.method = build_method(self.config.method.model_dump(mode="json"), facts)
        fitted = run.read_fitted() if self.config.data.prior == "linear" else {}
        if getattr(self.method.config, "centred", False) and "centre.mean" not in fitted:
            finder = CentreFinder()
            for _ in finder.watch(as_batch(people.pool[i : i + 1]) for i in people.training()):
                pass
            fitted |= {f"centre.{name}": t.cpu() for name, t in finder.found().to_tensors().items()}
        if fitted and self.config.method.name == manifest.method:
            self.method.load_fitted(fitted)
        if options.go_on:
            self.network.load_state_dict({k: t.float() for k, t in run.read_weights("generator").items()})
        self.method.networks.to(device, memory_format=torch.channels_last_3d)
        self.phases = self.method.phases()
        self.optimizers = [p.optimizer(p.parameters(), options.lr * p.lr_ratio) for p in self.phases]
        self.average = {k: v.clone() for k, v in self.network.state_dict().items()}
        self.losses: list[Tensor] = []

    @property
    def network(self) -> torch.nn.Module:
        """The generator."""
        return self.method.networks["generator"]

    def told(self, batch: Batch, tracer: Tensor | None) -> Batch:
        """A batch with this case's prior; of its method's tracers: all, or of each person the one named."""
        condition = batch.condition
        if self.config.data.prior == "mean":
            condition = replace(condition, prior=self.means.expand_as(batch.pet))
        elif self.config.data.prior == "none":
            condition = replace(condition, prior=None)
        if tracer is None:
            return replace(batch, condition=condition)
        index = tracer.to(batch.pet.device)[:, None, None, None, None].expand(-1, 1, *batch.pet.shape[2:])
        prior = None if condition.prior is None else condition.prior.gather(1, index)
        one = Condition(condition.mri, prior, tracer[:, None].to(batch.pet.device))
        return Batch(batch.pet.gather(1, index), batch.present[:, :1], one)

    def step(self, batch: Batch, seeds: list[int], number: int, rate: float, cast: Any) -> None:
        """Train on a batch at a learning rate."""
        one = None
        if self.method.targets == "one":
            one = torch.tensor([seed % batch.pet.shape[1] for seed in seeds])
        batch = self.told(batch, one)
        device = batch.pet.device
        draws = Draws(tuple(torch.Generator(device).manual_seed(seed) for seed in seeds))
        with cast():
            shared = self.method.forward(batch, draws, number)
        for phase, optimizer in zip(self.phases, self.optimizers, strict=True):
            if not phase.runs_at(number):
                continue
            with cast():
                losses = phase.loss(shared)
            optimizer.zero_grad(set_to_none=True)
            parameters = list(phase.parameters())
            gradients = torch.autograd.grad(losses["total"], parameters, retain_graph=len(self.phases) > 1)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            for group in optimizer.param_groups:
                group["lr"] = rate * phase.lr_ratio
            optimizer.step()
        self.losses.append(losses["total"].detach())
        decay = min(0.999, (1 + number) / (10 + number))
        own = self.network.state_dict()
        with torch.no_grad():
            torch._foreach_lerp_([self.average[k] for k in own], list(own.values()), 1 - decay)

    @torch.no_grad()
    def gains(self, people: People, cast: Any, score: Score) -> dict[str, Any]:
        """What the averaged network's mean map is worth on the people held out."""
        keep = {k: v.clone() for k, v in self.network.state_dict().items()}
        self.network.load_state_dict(self.average)
        held = people.validation()
        rows = []
        for start in range(0, len(held), 8):
            batch = as_batch(people.pool[held[start : start + 8]])
            with cast():
                mean = self._mean(batch)
            assert batch.condition.prior is not None
            rows.append([score.of(volume.float(), batch.pet) for volume in (mean, batch.condition.prior)])
        self.network.load_state_dict(keep)
        return score.table(rows)

    def _mean(self, batch: Batch) -> Tensor:
        """The map of every tracer: the method's mean, or what one that draws nothing gives."""
        every: list[Tensor | None] = [None]
        if self.method.targets == "one":
            every = [torch.full((len(batch.pet),), k) for k in range(batch.pet.shape[1])]
        found = []
        for tracer in every:
            condition = self.told(batch, tracer).condition
            mean = self.method.expected(condition)
            if mean is None:
                seeds = tuple(torch.Generator().manual_seed(0) for _ in batch.pet)
                mean = self.method.sample(condition, SampleConfig(steps=1), Draws(seeds))
            found.append(mean)
        return torch.cat(found, dim=1)

    def save(self, folder: Path) -> None:
        """Write the averaged weights, what was fitted, and the settings."""
        (folder / f"{self.name}.settings.json").write_text(self.config.model_dump_json(), encoding="utf-8")
        save_file(self.method.fitted(), folder / f"{self.name}.fitted.safetensors")
        tensors = {name: tensor.contiguous().cpu() for name, tensor in self.average.items()}
        temporary = folder / f"{self.name}.part"
        save_file(tensors, temporary)
        temporary.replace(folder / f"{self.name}.generator_ema.safetensors")


def _means(run: RunFolder) -> Tensor:
    """The training means of every tracer as the model is told them, ``(1, K, X, Y, Z)``."""
    manifest = run.read_manifest()
    tracers = sorted(manifest.tracers.items(), key=lambda row: row[1].index)
    found = run.read_training_mean()
    maps = [suvr_to_model(found[name], record.suvr_window) for name, record in tracers]
    return torch.from_numpy(np.stack(maps).astype(np.float32))[None]


class Score:
    """Squared error in the template's brain, and regional means, of volumes on the device."""

    def __init__(self, grid_name: str, device: torch.device) -> None:
        grid = get_grid(grid_name)
        self.brain = torch.from_numpy(load_template(grid).brain).to(device)
        labels = load_atlas(grid).labels
        kept = [k for k in np.unique(labels) if k > 0]
        flat = torch.from_numpy(labels.astype(np.int64)).to(device).flatten()
        rows = torch.stack([(flat == int(k)).float() for k in kept])
        self.regions = rows / rows.sum(dim=1, keepdim=True)

    def of(self, volumes: Tensor, pet: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean squared error ``(B, K)``, and regional means of both ``(B, K, R)``, on the CPU."""
        error = ((volumes - pet)[..., self.brain] / 2).square().mean(dim=-1)
        return (
            error.cpu(),
            (volumes.flatten(2) @ self.regions.T).cpu(),
            (pet.flatten(2) @ self.regions.T).cpu(),
        )

    def table(self, rows: list[Any]) -> dict[str, Any]:
        """Gain over the prior in dB with its standard error, and the median regional r of both, by tracer."""
        found: dict[str, Any] = {}
        levels = []
        for k, name in enumerate(("network", "prior")):
            error, regional, real = (torch.cat([row[k][j] for row in rows]) for j in range(3))
            levels.append(-10 * torch.log10(error))
            x, y = (v - v.mean(dim=0) for v in (regional, real))
            r = (x * y).sum(dim=0) / (x.square().sum(dim=0) * y.square().sum(dim=0)).sqrt()
            found[f"r_{name}"] = [round(v, 4) for v in r.nanmedian(dim=-1).values.tolist()]
        gain = levels[0] - levels[1]
        found["n"] = len(gain)
        found["gain_db"] = [round(v, 4) for v in gain.mean(dim=0).tolist()]
        found["se"] = [round(v, 4) for v in (gain.std(dim=0) / math.sqrt(len(gain))).tolist()]
        return found


def as_batch(block: Tensor) -> Batch:
    """People ``(B, 8, X, Y, Z)`` as a batch; tracer indices stay on the CPU, where they are read without waiting."""
    x = block.float()
    condition = Condition(x[:, :2], x[:, 2:5], torch.arange(3).expand(len(x), 3))
    return Batch(x[:, 5:], torch.ones(len(x), 3, dtype=torch.bool, device=x.device), condition)


def drawn(people: People, options: argparse.Namespace) -> Iterator[tuple[Batch, list[int]]]:
    """Batches of people drawn at random, mirrored half of the time, and the seeds of their noise."""
    rng = np.random.default_rng(options.seed)
    while True:
        chosen = rng.choice(people.training(), options.batch)
        block = people.pool[torch.from_numpy(chosen).to(people.pool.device)]
        turned = torch.from_numpy(rng.random(options.batch) < 0.5).to(block.device)
        block = torch.where(turned[:, None, None, None, None], block.flip(2), block)
        yield as_batch(block), [int(seed) for seed in rng.integers(2**62, size=options.batch)]


def train(people: People, cases: list[Case], options: argparse.Namespace, grid_name: str) -> None:
    """Train every case until the time is up; writes weights and log.tsv as it goes."""
    device = torch.device(options.device)
    score = Score(grid_name, device)

    def cast() -> Any:
        return torch.autocast(device.type, dtype=torch.bfloat16) if options.half else nullcontext()

    def tell(number: int, seconds: float) -> None:
        for case in cases:
            loss = torch.stack(case.losses).mean().item() if case.losses else float("nan")
            case.losses.clear()
            head = {"case": case.name, "step": number, "seconds": round(seconds), "loss": round(loss, 4)}
            line = json.dumps(head | {"people": len(people.there)} | case.gains(people, cast, score))
            print(line, flush=True)
            log.write(line + "\n")
            case.save(options.out)

    started, number, told = time.monotonic(), 0, 0.0
    with (options.out / "log.jsonl").open("w", buffering=1) as log:
        for batch, seeds in drawn(people, options):
            seconds = time.monotonic() - started
            used = seconds / options.seconds
            if used >= 1:
                break
            rate = options.lr * min(1, (number + 1) / 200) * 0.5 * (1 + math.cos(math.pi * used))
            for case in cases:
                case.step(batch, seeds, number, rate, cast)
            number += 1
            if number % 20 == 0:
                people.gather()
            if used >= told:
                told += 1 / options.validations
                tell(number, seconds)
        tell(number, time.monotonic() - started)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--case", action="append", nargs="+", metavar=("NAME", "SETTING"), default=[])
    parser.add_argument("--seconds", type=float, default=450, help="of training; 0: only simulate")
    parser.add_argument("--go-on", action="store_true", help="from the run's own weights, not from new ones")
    parser.add_argument("--people", type=int, default=5000)
    parser.add_argument(
        "--pool", default="/dev/shm/relapet", help="where they are kept; what is there is used"
    )
    parser.add_argument("--workers", type=int, default=14, help="processes that simulate; 0: others do")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=7001, help="of the people; the second site's is one more")
    parser.add_argument("--validations", type=int, default=8)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--held-out", type=int, default=96, help="first people, who are never trained on")
    parser.add_argument(
        "--least", type=int, default=300, help="people who must be there before training begins"
    )
    options = parser.parse_args()
    run = RunFolder(options.run)
    manifest = run.read_manifest()
    options.half = load_resumed(run).train.precision != "32-true"
    options.out.mkdir(parents=True, exist_ok=True)
    shape = (options.people, _CHANNELS, *get_grid(manifest.grid).shape)
    shared, flags = (
        np.memmap(
            f"{options.pool}.{kind}",
            dtype,
            "r+" if Path(f"{options.pool}.{kind}").exists() else "w+",
            shape=of,
        )
        for kind, dtype, of in (("people", np.float16, shape), ("flags", np.uint8, shape[:1]))
    )
    context = multiprocessing.get_context("fork")
    shares = [range(k, options.people, options.workers) for k in range(options.workers)]
    workers = [
        context.Process(target=simulate, args=(run, options.seed, share, shared, flags), daemon=True)
        for share in shares
    ]
    for worker in workers:
        worker.start()
    if options.seconds <= 0:
        for worker in workers:
            worker.join()
        return
    # Only now may CUDA begin: it does not survive a fork.
    torch.backends.cudnn.benchmark = True
    people = People(
        shared, flags, torch.empty(shape, dtype=torch.float16, device=options.device), options.held_out
    )
    begun = time.monotonic()
    people.gather()
    while len(people.there) < options.least:
        if workers and not any(worker.is_alive() for worker in workers):
            sys.exit("The workers ended before enough people were simulated.")
        time.sleep(0.2)
        people.gather()
    print(f"{len(people.there)} people after {time.monotonic() - begun:.0f} s", flush=True)
    cases = []
    for name, *more in options.case or [["run"]]:
        cases.append(Case(name, more, options, run, people))
    train(people, cases, options, manifest.grid)
    for worker in workers:
        worker.terminate()


if __name__ == "__main__":
    main()
