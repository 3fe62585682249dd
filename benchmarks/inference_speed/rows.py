"""What is timed: the release's network, relapet's presets, and the closed form; each with random weights."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from monai.networks.schedulers import DDPMScheduler
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from inference_speed import made_up
from inference_speed.release import release_network
from relapet.data.volumes import suvr_to_model
from relapet.hardware import has_fast_bfloat16
from relapet.imaging.grid import Grid
from relapet.methods import build_method
from relapet.model.centre import Centre
from relapet.model.generator import keep_generators_in
from relapet.model.interface import Condition, DataFacts, Draws, Method
from relapet.model.samplers import SAMPLERS
from relapet.run_contents import tracer_slots
from relapet.setting_files import compose
from relapet.synthesis.openvino import OpenVinoGenerator
from relapet.synthesis.sample_config import SampleConfig
from relapet.synthesis.synthesizer import batches
from relapet.tracers import simulated_tracers

RELEASE_CALLS = 1000


@dataclass(frozen=True)
class Work:
    """One row, built and on its device."""

    calls: int
    """Network calls for all of its maps."""
    maps: str
    """What those calls give."""
    precision: str
    """Name of the torch type that the network computes in."""
    call: Callable[[], object] | None
    """One network call with what the method does around it; None for a closed form."""
    volume: Callable[[], object] | None
    """From the scaled MRI to the finished maps; None: as long as its calls."""
    flops: int | None
    """Of one network call; None for a closed form."""


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    build: Callable[[Grid, torch.device], Work]
    devices: tuple[str, ...] = ("cpu", "cuda")


def counted_flops(call: Callable[[], object]) -> int:
    """Floating-point operations of a call on tensors without contents (device meta), two for a multiply-add."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        call()
    return counter.get_total_flops()


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Arithmetic in a precision, as `relapet.synthesis.synthesizer` has it; float32 is left alone."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))


def release(grid: Grid, device: torch.device, precision: str | None = None) -> Work:
    """The authors' network from MONAI core with the release's options, and its ancestral step (Yu et al. 2026).

    Attention without the matrix of tokens by tokens, of 20 GB at 1 mm: the same numbers, and kinder than the release.
    """
    precision = precision or ("float16" if device.type == "cuda" else "float32")

    def build() -> nn.Module:
        return release_network(flash=True).eval()

    def inputs(where: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        return (
            torch.zeros(1, 3, *grid.shape, device=where),
            torch.full((1,), 500, device=where),
            torch.full((1,), 2, device=where),
        )

    with torch.device("meta"):
        empty = build()
    x, t, label = inputs(torch.device("meta"))
    flops = counted_flops(lambda: empty(x, timesteps=t, class_labels=label))
    network = build().to(device)
    steps = DDPMScheduler(RELEASE_CALLS, "scaled_linear_beta", beta_start=5e-4, beta_end=1.95e-2)
    noisy, when, which = inputs(device)
    noisy[:, 1:] = torch.from_numpy(made_up.mri(grid))

    def call() -> Tensor:
        with torch.no_grad(), autocast(device, precision):
            eps = network(noisy, timesteps=when, class_labels=which)
            x_t, _ = steps.step(eps.float(), 500, noisy[:, :1])
        return x_t

    return Work(RELEASE_CALLS, "1 sample of 1 tracer", precision, call, None, flops)


@dataclass(frozen=True)
class PresetWork:
    """A preset's method on a device, with random weights, and all that it is told."""

    method: Method
    grid: Grid
    device: torch.device
    precision: str
    prior: Callable[[np.ndarray], np.ndarray] | None
    mri: np.ndarray
    tracers: list[int]

    @classmethod
    def of(cls, preset: str, grid: Grid, device: torch.device, openvino: bool = False) -> PresetWork:
        """Build a preset as `synthesize` would find it after a training."""
        settings, known = compose(preset), list(simulated_tracers().values())
        told = settings["data"].get("prior", "none") if "data" in settings else "none"
        method = build_method(settings["method"], facts_of(grid, told != "none"))
        prior = None
        if told == "linear":
            fitted = made_up.prior(grid, [tracer.name for tracer in known])

            def prior(mri: np.ndarray) -> np.ndarray:
                suvr = fitted.predict_all(mri)
                return np.stack([suvr_to_model(suvr[t.name], t.suvr_window) for t in known])

        indices = [tracer.index for tracer in known]
        if settings["method"].get("noise") == "shaped":
            found = made_up.noise_shapes(grid, indices)
            if settings["method"].get("centred"):
                found |= made_up.centre(grid, len(indices))
            method.load_fitted(found)
        for name in method.deployed:
            _randomise(method.networks[name])
        method.networks.to(device, memory_format=torch.channels_last_3d)
        method.networks.eval()
        half = settings.get("train", {}).get("precision") in ("auto", "bf16-mixed")
        precision = "bfloat16" if half and has_fast_bfloat16(device) else "float32"
        if openvino:
            network = method.networks["generator"]
            method.networks["generator"] = OpenVinoGenerator(
                network, facts_of(grid, told != "none"), precision == "bfloat16"
            )
        elif precision == "bfloat16":
            keep_generators_in(method.networks, torch.bfloat16)
        wanted = indices if method.targets == "all" else indices[:1]
        return cls(method, grid, device, precision, prior, made_up.mri(grid), wanted)

    def condition(self) -> Condition:
        """What the method is told, the prior computed from the MRI."""
        prior = None if self.prior is None else torch.from_numpy(self.prior(self.mri))[None]
        tracer = torch.tensor([self.tracers])
        return Condition(torch.from_numpy(self.mri)[None], prior, tracer).to(self.device)

    def call(self) -> Callable[[], object]:
        """One call of the network with random noise, and what the method does with its output."""
        condition, method = self.condition(), self.method
        if method.gives_mean:
            return lambda: self._within(lambda: method.expected(condition))
        one = SampleConfig(sampler="ddim", steps=1)
        draws = Draws((torch.Generator().manual_seed(0),))
        return lambda: self._within(lambda: method.sample(condition, one, draws))

    def maps(self, settings: SampleConfig | None) -> np.ndarray:
        """From MRI to the mean of every tracer and, where settings are given, samples about it, on the CPU."""
        condition, found = self.condition(), []
        mean = self._within(lambda: self.method.expected(condition))
        if mean is not None:
            found.append(mean)
        if settings is not None:
            told = replace(condition, mean=mean)
            for seeds in batches(range(settings.count), self.grid.shape, self.device):
                draws = Draws(tuple(torch.Generator().manual_seed(seed) for seed in seeds))
                many = told.repeated(len(seeds))
                found.append(self._within(lambda c=many, draws=draws: self.method.sample(c, settings, draws)))
        return torch.cat(found).float().cpu().numpy()

    def _within(self, work: Callable[[], Tensor | None]) -> Tensor | None:
        with torch.no_grad(), autocast(self.device, self.precision):
            return work()

    def flops(self, preset: str) -> int:
        """Of one network call."""
        with torch.device("meta"):
            facts = facts_of(self.grid, self.prior is not None)
            network = build_method(compose(preset)["method"], facts).networks["generator"].eval()
            if getattr(self.method.config, "centred", False):
                channels = 2 + len(self.tracers)
                network.centre = Centre(torch.zeros(channels, *self.grid.shape), torch.ones(channels))
            x = torch.zeros(1, len(self.tracers), *self.grid.shape)
            mri, t = torch.zeros(1, 2, *self.grid.shape), torch.zeros(1, dtype=torch.int64)
            label = torch.zeros(1, len(self.tracers), dtype=torch.int64)
            condition = Condition(mri, x if facts.prior else None, label)
        return counted_flops(lambda: network(x, t, condition))


def facts_of(grid: Grid, prior: bool) -> DataFacts:
    """What the size of a method's networks follows from, for the simulated tracers."""
    tracers = list(simulated_tracers().values())
    return DataFacts(len(tracers), tracer_slots(tracers), prior, grid.shape, grid.voxel_size)


def _randomise(network: nn.Module) -> None:
    """Fill the layers that start at 0, so that no product is with zeros only."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.copy_(0.01 * torch.randn(parameter.shape, generator=generator))


def paper(grid: Grid, device: torch.device) -> Work:
    """The preset `paper`: a thousand ancestral steps."""
    work, sample = PresetWork.of("paper", grid, device), SampleConfig(**compose("paper")["sample"])
    calls = SAMPLERS[sample.sampler].calls(sample.steps)
    return Work(calls, "1 sample of 1 tracer", work.precision, work.call(), None, work.flops("paper"))


def fast(grid: Grid, device: torch.device, steps: int = 0, count: int = 0, openvino: bool = False) -> Work:
    """The preset `fast`: the mean map of every tracer in one call and, with steps, samples about it."""
    work, settings, calls = PresetWork.of("fast", grid, device, openvino), None, 1
    maps = f"mean of {len(work.tracers)} tracers"
    if steps:
        settings = SampleConfig(**{**compose("fast")["sample"], "steps": steps, "count": count})
        calls += count * (SAMPLERS[settings.sampler].calls(steps) - work.method.knows_start)
        maps += f", {count} sample{'s' * (count > 1)}"
    volume = lambda: work.maps(settings)  # noqa: E731
    return Work(calls, maps, work.precision, work.call(), volume, work.flops("fast"))


def linear(grid: Grid, device: torch.device) -> Work:
    """The closed form alone: on the CPU, whatever the device."""
    work = PresetWork.of("linear", grid, torch.device("cpu"))
    maps = f"mean of {len(simulated_tracers())} tracers"
    return Work(0, maps, work.precision, None, lambda: work.prior(work.mri), None)


ROWS = {
    "release": Row("the authors' network and sampler; float16 on a GPU as theirs, float32 on a CPU", release),
    "release_bf16": Row(
        "the same in bfloat16, which its authors did not run",
        lambda grid, device: release(grid, device, "bfloat16"),
        devices=("cpu",),
    ),
    "paper": Row("the preset `paper`", paper),
    "fast_mean": Row("`fast`: the mean map in one call", fast),
    **{
        f"fast_{steps}": Row(
            f"`fast`: mean and one sample of {steps} step{'s' * (steps > 1)}",
            lambda grid, device, steps=steps: fast(grid, device, steps, 1),
        )
        for steps in (1, 2, 4, 10)
    },
    "fast_8x4": Row(
        "`fast`: mean and eight samples of 4 steps", lambda grid, device: fast(grid, device, 4, 8)
    ),
    "fast_mean_openvino": Row(
        "`fast_mean` computed by OpenVINO",
        lambda grid, device: fast(grid, device, openvino=True),
        devices=("cpu",),
    ),
    "fast_8x4_openvino": Row(
        "`fast_8x4` computed by OpenVINO",
        lambda grid, device: fast(grid, device, 4, 8, openvino=True),
        devices=("cpu",),
    ),
    "linear": Row("the closed-form prior alone, on the CPU", linear),
}
