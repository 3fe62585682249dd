"""How sharp can `latent` be? PSNR of measured PET that its autoencoder coded and decoded, and what a call costs.

    python benchmarks/latent_ceiling.py                      # a look: simulates 12 subjects at 4 mm, trains for minutes
    python benchmarks/latent_ceiling.py RUN COHORT           # of relapet train COHORT RUN --preset latent
    python benchmarks/latent_ceiling.py RUN COHORT --split validation

PSNR in each subject's brain over the tracer's SUVr window: the ceiling of the run's samples. Beside it
the prior, where the run has one: what the autoencoder must beat. A call of the U-Net on latents, and the decoder that
a sample needs once, against a call of `fast` on the same grid, which gives every tracer at once.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from inference_speed.rows import PresetWork, autocast, counted_flops
from inference_speed.timing import repeated
from torch import Tensor

from relapet import api
from relapet.config import load_config
from relapet.data.volumes import load_mri, load_pet, model_to_suvr, suvr_to_model
from relapet.errors import InputError
from relapet.evaluation.scores.image_metrics import ScanPair, psnr
from relapet.imaging.bids import VisitFiles
from relapet.imaging.derivatives import index_measured
from relapet.imaging.grid import GRIDS
from relapet.methods import build_method
from relapet.methods.latent import Latent
from relapet.model.interface import Condition
from relapet.simulation.cohort import SimulationConfig
from relapet.synthesis.synthesizer import Synthesizer

STEPS, CODER_STEPS = 300, 150
"""Of the training that is made where none is given."""


def example(folder: Path) -> tuple[Path, Path]:
    """A run and its derivative, small and short."""
    cohort = api.simulate(folder / "cohort", SimulationConfig(subjects=12, grid=GRIDS["4mm"]))
    short = (
        *(f"train.steps={STEPS}", f"method.autoencoder_steps={CODER_STEPS}", "train.lr=2e-3"),
        *("train.ema_decay=0.95", "train.calibrate=false", "data.prior=mean", "data.test_fraction=0.3"),
    )
    return api.train(load_config("latent", settings=short), cohort, folder / "run").path, cohort


def method_of(synthesizer: Synthesizer) -> Latent:
    """The run's method; raises InputError for another than `latent`."""
    if not isinstance(synthesizer.method, Latent):
        raise InputError(
            f"{synthesizer.run.path} is a run of {synthesizer.manifest.method}; give one of latent."
        )
    return synthesizer.method


def people(synthesizer: Synthesizer, derivative: Path, split: str) -> list[VisitFiles]:
    """The visits of a part of the run's participants; raises InputError where there is none."""
    names = synthesizer.manifest.split.get(split, [])
    visits = [files for files in index_measured(derivative) if files.visit.subject in names]
    if not visits:
        raise InputError(
            f"{derivative} has no {split} participant of {synthesizer.run.manifest}; see --split."
        )
    return visits


def scans(synthesizer: Synthesizer, visits: list[VisitFiles]) -> Iterator[tuple[str, float, float | None]]:
    """Tracer, PSNR of the reconstruction and that of the prior, for each measured PET."""
    method, grid = method_of(synthesizer), synthesizer.grid
    for files in visits:
        mri = load_mri(files, grid, synthesizer.manifest.mri_scaling)
        brain = (mri > -1).any(axis=0)
        for name in sorted(set(files.pet) & set(synthesizer.manifest.tracers)):
            tracer = synthesizer.tracer(name)
            real = load_pet(files.pet[name], tracer, grid)
            prior = None if synthesizer.prior is None else synthesizer.prior(mri, [name])[name]
            told = None if prior is None else volume(suvr_to_model(prior, tracer.suvr_window))
            condition = Condition(volume(mri[0], mri[1]), told, torch.tensor([[tracer.index]]))
            device = synthesizer.device
            with torch.no_grad(), autocast(device, "bfloat16" if synthesizer.half else "float32"):
                pet = volume(suvr_to_model(real, tracer.suvr_window)).to(device)
                coded = method.reconstruct(pet, condition.to(device))[0, 0].float().cpu().numpy()
            found = [model_to_suvr(coded, tracer.suvr_window), prior]
            scores = [m if m is None else psnr(ScanPair(real, m, brain, tracer.suvr_window)) for m in found]
            assert scores[0] is not None
            yield name, scores[0], scores[1]


def volume(*channels: np.ndarray) -> Tensor:
    """``(1, C, X, Y, Z)``."""
    return torch.from_numpy(np.stack(channels).astype(np.float32))[None]


def calls(synthesizer: Synthesizer) -> Iterator[tuple[str, int, float]]:
    """What is called, its floating-point operations, and the median of its seconds."""
    device, precision = synthesizer.device, "bfloat16" if synthesizer.half else "float32"
    facts = synthesizer.manifest.facts()
    with torch.device("meta"):
        settings = synthesizer.run.read_settings()["method"]
        shapes = build_method(settings, facts)
        shapes.networks.eval()
        empty = [*_parts(shapes, _nothing(facts.shape, facts.prior))]
    ready = _parts(synthesizer.method, _nothing(facts.shape, facts.prior).to(device))
    for (name, count), (_, work) in zip(empty, ready, strict=True):

        def timed(work=work) -> Tensor:
            with torch.no_grad(), autocast(device, precision):
                return work()

        yield name, counted_flops(count), statistics.median(repeated(timed, device, 5, 60))
    fast = PresetWork.of("fast", synthesizer.grid, device)
    seconds = statistics.median(repeated(fast.call(), device, 5, 60))
    yield "`fast`, all tracers", fast.flops("fast"), seconds


def _nothing(shape: tuple[int, int, int], prior: bool) -> Condition:
    return Condition(
        torch.zeros(1, 2, *shape),
        torch.zeros(1, 1, *shape) if prior else None,
        torch.zeros(1, 1, dtype=torch.int64),
    )


def _parts(method: Latent, condition: Condition):
    latents = method.no_latents(condition)
    t = torch.zeros(1, dtype=torch.int64, device=condition.mri.device)
    yield "U-Net on latents, one tracer", lambda: method.generator(latents, t, condition)
    yield "decoder, once a sample", lambda: method.autoencoder.decode(latents)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, nargs="?", help="a run folder of latent; made unless given")
    parser.add_argument("derivative", type=Path, nargs="?", help="what it was trained on")
    parser.add_argument("--split", choices=["validation", "test", "train"], default="test")
    options = parser.parse_args()
    if options.run is not None and options.derivative is None:
        parser.error("give the derivative beside the run")
    with tempfile.TemporaryDirectory() as folder:
        run, derivative = options.run, options.derivative
        if run is None:
            run, derivative = example(Path(folder))
        synthesizer = Synthesizer.from_run(run)
        rows = list(scans(synthesizer, people(synthesizer, derivative, options.split)))
        print(
            f"\n| tracer | {options.split} scans | reconstruction, dB (lowest) | prior, dB |\n|---|---|---|---|"
        )
        for name in sorted({name for name, _, _ in rows}):
            coded = [score for tracer, score, _ in rows if tracer == name]
            prior = [score for tracer, _, score in rows if tracer == name and score is not None]
            beside = f"{statistics.mean(prior):.2f}" if prior else ""
            print(f"| {name} | {len(coded)} | {statistics.mean(coded):.2f} ({min(coded):.2f}) | {beside} |")
        print(f"\n| call at {synthesizer.grid.name} | Gflop | s |\n|---|---|---|")
        for name, flops, seconds in calls(synthesizer):
            print(f"| {name} | {flops / 1e9:.2f} | {seconds:.4f} |", flush=True)


if __name__ == "__main__":
    main()
