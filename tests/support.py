"""Small data and settings that several tests build on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from relapet.config import load_config
from relapet.data.items import TrainingItem
from relapet.imaging.bids import Visit, write_dataset_description
from relapet.imaging.grid import GRIDS
from relapet.imaging.nifti import save_volume
from relapet.imaging.template import load_template
from relapet.methods import build_method
from relapet.model.interface import Batch, Condition, DataFacts
from relapet.runs import RunFolder
from relapet.tracers import TracerSpec, simulated_tracers
from relapet.training.checkpoint import checkpoints, load_latest_checkpoint
from relapet.training.distributed import make_fabric
from relapet.training.engine import Trainer
from relapet.training.loader import Source

DATA = Path(__file__).parent / "data"
TOY_GRID = GRIDS["8mm"]
"""24 x 24 x 24 voxels: a training step takes milliseconds."""


def bids_errors(root: Path) -> list[str]:
    """What the BIDS validator calls an error in a data set; skips the test where the validator is not installed."""
    if find_spec("bids_validator_deno") is None:
        pytest.skip("bids-validator-deno is not installed")
    call = "from bids_validator_deno import cli; raise SystemExit(cli())"
    done = subprocess.run(
        [sys.executable, "-c", call, "--json", str(root)], capture_output=True, text=True, check=False
    )
    assert done.stdout, done.stderr
    issues = json.loads(done.stdout)["issues"]["issues"]
    return [f"{i['code']} {i.get('location')}" for i in issues if i["severity"] == "error"]


def write_toy_derivative(
    root: Path, subjects: int, seed: int = 0, tracers: Sequence[TracerSpec] | None = None
) -> Path:
    """Write T1w, FLAIR, mask and PET for some subjects: the template with a subject's own contrast.

    The PET's level follows the FLAIR's, so that there is something to learn.
    """
    grid = TOY_GRID
    template = load_template(grid)
    for number in range(1, subjects + 1):
        rng = np.random.default_rng((seed, number))
        visit, level = Visit(f"{number:02d}"), rng.uniform(0.8, 1.2)
        noise = rng.normal(0, 0.02, (2, *grid.shape))
        t1w = (0.5 * template.grey + 0.9 * template.white + 0.1 * template.csf + noise[0]) * template.brain
        flair = (
            level * template.grey + 0.6 * template.white + 0.1 * template.csf + noise[1]
        ) * template.brain
        save_volume(visit.t1w(root), 700 * np.maximum(t1w, 0), grid.affine)
        save_volume(visit.flair(root), 300 * np.maximum(flair, 0), grid.affine)
        save_volume(visit.mask(root), template.brain, grid.affine, dtype=np.uint8)
        for tracer in simulated_tracers().values() if tracers is None else tracers:
            suvr = level * template.grey + 0.8 * template.white + rng.normal(0, 0.02, grid.shape)
            save_volume(visit.pet(root, tracer), np.maximum(suvr, 0), grid.affine)
    write_dataset_description(root, "toy", [])
    return root


TINY = DATA / "tiny.yaml"
"""Settings of what most tests train: diffusion on the training mean, both players at work."""
TINY_SETTINGS = (
    "method.generator.channels=[8,8]",
    "method.generator.residual_blocks=1",
    "method.discriminator.channels=4",
    "method.discriminator.layers=2",
    "method.adversarial_start=1",
    "data.test_fraction=0.2",
    "train.seconds=null",
    "train.log_every=1",
    "train.precision=32-true",
)
"""A model so small that a step takes a fraction of a second."""


SHAPE = (8, 12, 16)


def facts(
    prior: bool = False, shape: tuple[int, int, int] = SHAPE, tracers: int = 3, slots: int = 4
) -> DataFacts:
    """What a method is told of the small random volumes."""
    return DataFacts(tracers, slots, prior, shape, 4.0)


def condition_of(mri: torch.Tensor, tracer: Sequence[int], prior: torch.Tensor | None = None) -> Condition:
    """A condition of one tracer a volume."""
    return Condition(mri, prior, torch.tensor(tracer)[:, None])


def batch_of(pet: torch.Tensor, mri: torch.Tensor, prior: torch.Tensor | None = None) -> Batch:
    """A batch of the tracers 0, 1, 2 ..., all there."""
    condition = condition_of(mri, range(len(pet)), prior)
    return Batch(pet, torch.ones(pet.shape[:2], dtype=torch.bool), condition)


class RandomItems:
    """Small training items of random numbers, (8, 12, 16); each depends on its index alone."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def name(self, index: int) -> str:
        return f"sub-{index:02d} random"

    def same_tracer(self, index: int) -> list[int]:
        return list(range(index % 3, self.length, 3))

    def item(self, index: int, withheld: int | None = None) -> TrainingItem:
        rng = np.random.default_rng(index)
        mri, prior, pet = (rng.uniform(-1, 1, (n, *SHAPE)).astype(np.float32) for n in (2, 1, 1))
        tracer = list(simulated_tracers().values())[index % 3]
        window = tracer.suvr_window
        return TrainingItem(self.name(index), mri, prior, False, pet, (True,), (tracer,), (window,), 4.0)


def tiny_trainer(*settings: str, length: int = 5, fabric: Fabric | None = None) -> Trainer:
    """A trainer of a tiny model in float32 on `RandomItems`, with both players and their penalties at work."""
    base = ("train.precision=32-true", "method.adversarial_start=0", "method.adversarial_weight=1")
    config = load_config(file=TINY, settings=(*TINY_SETTINGS, *base, *settings))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        method = build_method(config.method.model_dump(mode="json"), facts(prior=True))
    fabric = fabric or make_fabric(config.train)
    return Trainer(method, Source(RandomItems(length), config.data.augment), config.train, fabric)


def assert_equal_runs(one: RunFolder, other: RunFolder) -> None:
    """All that was learnt, all that training would go on from, and the steps of the log are bitwise the same."""
    files = [sorted(path.name for path in run.weights.iterdir()) for run in (one, other)]
    assert files[0] == files[1]
    for name in files[0]:
        assert (one.weights / name).read_bytes() == (other.weights / name).read_bytes(), name
    assert one.log.is_file() == other.log.is_file() == bool(checkpoints(one.checkpoints))
    if not one.log.is_file():  # a closed form
        return
    states = [load_latest_checkpoint(run.checkpoints, pytest.fail) for run in (one, other)]
    assert states[0]["step"] == states[1]["step"]
    parts = ("networks", "averages", "players", "method")
    tensors = [_flat({part: state[part] for part in parts}) for state in states]
    assert tensors[0].keys() == tensors[1].keys()
    for name, tensor in tensors[0].items():
        assert torch.equal(tensor, tensors[1][name]), name
    steps = [[line.split("\t")[:2] for line in run.log.read_text().splitlines()] for run in (one, other)]
    assert steps[0] == steps[1]


def _flat(content: object, prefix: str = "") -> dict[str, torch.Tensor]:
    """The tensors within dictionaries and lists, by their dotted place."""
    if isinstance(content, torch.Tensor):
        return {prefix: content}
    items = dict(enumerate(content)) if isinstance(content, list | tuple) else content
    if not isinstance(items, dict):
        return {}
    return {name: t for key, value in items.items() for name, t in _flat(value, f"{prefix}.{key}").items()}


def recipe_weights(network: str) -> dict[str, torch.Tensor]:
    """The weights that tests/data/README.md describes, under the names of the published release."""
    layout = json.loads((DATA / "released_state_dict_layout.json").read_text())[network]
    rng = np.random.default_rng(layout["seed"])
    weights = {}
    for name, shape, kind in layout["keys"]:
        if kind == "int":
            weights[name] = torch.zeros(shape, dtype=torch.int64)
            continue
        w = rng.standard_normal(shape)
        if len(shape) > 1:
            w = w / np.sqrt(np.prod(shape[1:]))
        elif name.endswith("running_var"):
            w = 1 + 0.1 * np.abs(w)
        elif name.endswith(".weight"):
            w = 1 + 0.1 * w
        else:
            w = 0.1 * w
        weights[name] = torch.from_numpy(np.asarray(w, dtype=np.float32))
    return weights
