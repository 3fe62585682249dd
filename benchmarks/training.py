"""Time and memory of a training step: relapet's against one written to the settings of the published release.

    python benchmarks/training.py                     # 64 x 64 x 64, fp32, a few steps, on this machine
    python benchmarks/training.py --grid 1mm --cases fast_own --checkpointing --steps 1   # memory at full size
    python benchmarks/training.py --cases fast --busy 1                # also beside another process that is busy

Each case runs in a process of its own, so that its peak memory is its own, with the threads and the way of waiting
for each other that relapet's commands set (see `relapet.threads`); ratios are within one call.
The release's step is written from its published settings (Yu et al. 2026): MONAI's U-Net 16/32/64 with two residual
blocks a level and attention at the lowest, noise prediction, batch-norm PatchGAN on the PET alone, R1 + R2, Adam.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from inference_speed.release import release_network
from monai.networks.nets import PatchDiscriminator
from torch.nn import functional

from relapet.config import load_config
from relapet.data.items import TrainingItem
from relapet.data.volumes import suvr_to_model
from relapet.imaging.grid import GRIDS
from relapet.methods import build_method
from relapet.model.interface import DataFacts
from relapet.run_contents import tracer_slots
from relapet.threads import limit_threads, wait_passively
from relapet.tracers import simulated_tracers
from relapet.training.distributed import make_fabric
from relapet.training.engine import Hooks, Progress, Trainer
from relapet.training.loader import Source
from relapet.training.memory import peak_memory_gib

WARM_UP = 1
"""Steps that are not timed: the first one builds kernels and memory pools."""


class StoredItems:
    """Items of random volumes in memory-mapped float16 files, read and scaled as in training."""

    def __init__(self, folder: Path, shape: tuple[int, int, int], prior: bool, length: int = 4) -> None:
        self.folder, self.prior, self.length = folder, prior, length
        self.tracers = list(simulated_tracers().values())
        for index in range(length):
            rng = np.random.default_rng(index)
            np.save(folder / f"{index}-mri.npy", rng.uniform(-1, 1, (2, *shape)).astype(np.float16))
            np.save(folder / f"{index}-pet.npy", rng.uniform(0, 3, shape).astype(np.float16))

    def __len__(self) -> int:
        return self.length

    def name(self, index: int) -> str:
        """What messages call an item."""
        return f"random {index}"

    def same_tracer(self, index: int) -> list[int]:
        """The items of this one's tracer."""
        return list(range(index % len(self.tracers), self.length, len(self.tracers)))

    def __getitem__(self, index: int) -> TrainingItem:
        return self.item(index)

    def item(self, index: int, withheld: int | None = None) -> TrainingItem:
        """One item, its prior the PET itself."""
        tracer = self.tracers[index % len(self.tracers)]
        mri, pet = (np.load(self.folder / f"{index}-{kind}.npy", mmap_mode="r") for kind in ("mri", "pet"))
        scaled = suvr_to_model(pet.astype(np.float32), tracer.suvr_window)[None]
        return TrainingItem(
            name=self.name(index),
            mri=mri.astype(np.float32),
            prior=scaled.copy() if self.prior else None,
            prior_is_personal=False,
            pet=scaled,
            present=(True,),
            tracers=(tracer,),
            windows=(tracer.suvr_window,),
            voxel_mm=1.0,
        )


@dataclass(frozen=True)
class PresetCase:
    """A preset to time."""

    preset: str
    own_precision: bool = False
    """Whatever --precision says."""
    settings: tuple[str, ...] = ()


def time_preset(
    case: PresetCase, shape: tuple[int, int, int], options: argparse.Namespace
) -> dict[str, float]:
    """Seconds a step of a preset's training loop, every player at work, and the share spent waiting for data."""
    settings = [f"train.steps={WARM_UP + options.steps}", "train.lr_warmup=0"]
    settings += [] if case.own_precision else [f"train.precision={options.precision}"]
    settings += ["method.generator.checkpointing=true"] if options.checkpointing else []
    config = load_config(case.preset, settings=[*settings, *case.settings])
    if hasattr(config.method, "adversarial_start"):
        config = config.changed(method=config.method.changed(adversarial_start=0))
    tracers = list(simulated_tracers().values())
    prior = config.data.prior != "none"
    facts = DataFacts(len(tracers), tracer_slots(tracers), prior, shape, voxel_mm=1.0)
    stamps: list[Progress] = []
    with tempfile.TemporaryDirectory() as folder:
        source = Source(StoredItems(Path(folder), shape, prior), config.data.augment)
        fabric = make_fabric(config.train)
        method = build_method(config.method.model_dump(mode="json"), facts)
        Trainer(method, source, config.train, fabric).run(Hooks(on_step=stamps.append))
    timed = stamps[WARM_UP:]
    previous = stamps[WARM_UP - 1 : -1]
    seconds = [now.seconds - before.seconds for now, before in zip(timed, previous, strict=True)]
    waited = timed[-1].loader_seconds - previous[0].loader_seconds
    return {"seconds": statistics.median(seconds), "loader_share": waited / sum(seconds)}


def time_release(shape: tuple[int, int, int], options: argparse.Namespace) -> dict[str, float]:
    """Seconds a step written to the release's settings; data in memory already."""
    step = release_step(shape, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    seconds = []
    for number in range(WARM_UP + options.steps):
        started = time.perf_counter()
        step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if number >= WARM_UP:
            seconds.append(time.perf_counter() - started)
    return {"seconds": statistics.median(seconds), "loader_share": 0.0}


def release_step(shape: tuple[int, int, int], device: torch.device) -> Callable[[], None]:
    """One training step of both players on random volumes, batch 1."""
    generator = release_network().to(device)
    critic = PatchDiscriminator(spatial_dims=3, channels=4, in_channels=1, out_channels=1, num_layers_d=2).to(
        device
    )
    players = [torch.optim.Adam(generator.parameters(), 5e-5), torch.optim.Adam(critic.parameters(), 5e-6)]
    betas = torch.linspace(5e-4**0.5, 1.95e-2**0.5, 1000).square()
    alpha_bar = torch.cumprod(1 - betas, 0).to(device)
    x_0, mri = (
        torch.rand(1, 1, *shape, device=device) * 2 - 1,
        torch.rand(1, 2, *shape, device=device) * 2 - 1,
    )
    label = torch.tensor([2], device=device)

    def penalty(logits: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        (gradient,) = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
        return gradient.square().sum([1, 2, 3]).mean()

    def step() -> None:
        t = torch.randint(1000, (1,), device=device)
        eps = torch.randn_like(x_0)
        signal, noise = alpha_bar[t].sqrt(), (1 - alpha_bar[t]).sqrt()
        x_t = signal * x_0 + noise * eps
        eps_hat = generator(torch.cat([x_t, mri], 1), timesteps=t, class_labels=label)
        x0_hat = ((x_t - noise * eps_hat) / signal).clamp(-1, 1)
        real, fake = x_0.clone().requires_grad_(), x0_hat.detach().requires_grad_()
        d_real, d_fake = critic(real)[-1], critic(fake)[-1]
        loss_d = functional.softplus(d_fake - d_real).mean()
        loss_d = loss_d + 1e-3 / 2 * (penalty(d_real, real) + penalty(d_fake, fake))
        players[1].zero_grad()
        loss_d.backward()
        players[1].step()
        adversarial = functional.softplus(critic(x_0)[-1].detach() - critic(x0_hat)[-1]).mean()
        loss_g = functional.mse_loss(eps_hat, eps) + functional.l1_loss(x0_hat, x_0) + adversarial
        players[0].zero_grad()
        loss_g.backward()
        players[0].step()

    return step


CRITIC = ("method.adversarial_weight=0.01",)
"""Turns on the adversarial term, which `fast` has off, so that both players work as in the release's step."""
PRESET_CASES = {
    "released": PresetCase("released"),
    "paper": PresetCase("paper"),
    "paper_own": PresetCase("paper", own_precision=True),
    "fast_critic": PresetCase("fast", settings=CRITIC),
    "fast_critic_own": PresetCase("fast", own_precision=True, settings=CRITIC),
    "fast": PresetCase("fast"),
    "fast_own": PresetCase("fast", own_precision=True),
    "regression": PresetCase("regression"),
}
RELEASE = "release"
"""Written to the release's settings in this file; the others are relapet's presets, _own in their own precision."""
CASES = [RELEASE, *PRESET_CASES]


def in_own_process(case: str, busy: int) -> dict[str, float]:
    """One case's numbers, with as many other processes that keep a core busy all the while."""
    environment = dict(os.environ)
    wait_passively(environment)
    limit_threads(environment=environment)
    with busy_processes(busy):
        arguments = [sys.executable, *sys.argv, "--one", case]
        done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Processes that compute for as long as the context lasts."""
    # They end by themselves where this process is killed.
    work = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"
    running = [subprocess.Popen([sys.executable, "-c", work]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def main() -> None:
    """Run each case in its own process and print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shown = [case for case in CASES if case not in ("released", "paper_own")]
    parser.add_argument("--cases", nargs="+", choices=CASES, default=shown)
    parser.add_argument("--grid", choices=GRIDS, help="default: 64 x 64 x 64")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--precision", default="32-true", help="of cases that do not end in _own")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument(
        "--busy", type=int, default=0, help="time each case also beside so many busy processes"
    )
    parser.add_argument("--one", choices=CASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    shape = GRIDS[options.grid].shape if options.grid else (64, 64, 64)
    if options.one:
        preset = PRESET_CASES.get(options.one)
        result = time_preset(preset, shape, options) if preset else time_release(shape, options)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        print(json.dumps(result | {"peak_gib": peak_memory_gib(device)}))
        return
    quiet = {case: in_own_process(case, 0) for case in options.cases}
    shared = {case: in_own_process(case, options.busy) for case in options.cases if options.busy}
    reference = quiet[options.cases[0]]["seconds"]
    threads = limit_threads(environment=dict(os.environ))
    print(f"shape {shape}, precision {options.precision} (_own: the preset's), {threads} threads,")
    print(f"checkpointing {options.checkpointing}, median of {options.steps} steps after {WARM_UP}\n")
    beside = f" {f'beside {options.busy} busy':>14}" if shared else ""
    print(f"{'case':16} {'s/step':>8}{beside} {'times faster':>13} {'loader %':>9} {'peak GiB':>9}")
    for case, r in quiet.items():
        ratio, share = reference / r["seconds"], 100 * r["loader_share"]
        other = f" {shared[case]['seconds']:14.2f}" if shared else ""
        print(f"{case:16} {r['seconds']:8.2f}{other} {ratio:13.2f} {share:9.2f} {r['peak_gib']:9.2f}")


if __name__ == "__main__":
    main()
