"""Every method that is trained learns two people by heart, at 24 x 24 x 24, in seconds: its parts work together."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from relapet.data.augment import AugmentConfig
from relapet.data.items import TrainingItem
from relapet.data.volumes import scale_mri, suvr_to_model
from relapet.imaging.template import load_template
from relapet.methods import METHODS
from relapet.model.interface import Condition, DataFacts, Draws, Method
from relapet.synthesis.sample_config import SampleConfig
from relapet.tracers import get_tracer
from relapet.training.ema import averaged
from relapet.training.engine import Hooks, Trainer
from relapet.training.loader import Source, collate
from relapet.training.train_config import TrainConfig
from support import TOY_GRID

TRACER = get_tracer("tau")


@dataclass(frozen=True)
class Case:
    """A method's settings, how long it trains, and the PSNR over the brain that it must reach, dB."""

    psnr: float
    steps: int = 200
    lr: float = 3e-3
    settings: dict[str, Any] = field(default_factory=dict)
    sample: dict[str, Any] = field(default_factory=dict)
    channels: tuple[int, ...] = (16, 32)
    packed: bool = True
    prior: bool = False


CRITIC = {"channels": 4, "layers": 2}
EIGHT = {"timesteps": 8}
BETAS = {"beta_first": 0.05, "beta_last": 0.9}
CASES = {
    "regression": Case(24),
    "crps": Case(23),
    "pix2pix": Case(22.5, settings={"discriminator": CRITIC}),
    # Without pairs nothing says whose PET is whose: less than the mean of the two gets (20.8 dB) is asked, but more
    # than the middle of the window does (10.6 dB).
    "cyclegan": Case(17, settings={"discriminator": CRITIC}),
    "ddpm": Case(
        24,
        200,
        3e-3,
        EIGHT | BETAS | {"prediction": "x0"},
        {"sampler": "ddim", "steps": 8},
        (8, 16),
        packed=False,
    ),
    "ficd": Case(24, 200, 3e-3, EIGHT | BETAS | {"prediction": "x0"}, {"sampler": "ddim", "steps": 8}),
    "ddgan": Case(
        23, 200, 3e-3, {"image_weight": 10, "discriminator": CRITIC}, {"sampler": "ddpm", "steps": 4}
    ),
    "rectified_flow": Case(22, 350, 1e-2, EIGHT, {"sampler": "ddim", "steps": 8}, (8, 16), packed=False),
    "bridge": Case(
        23, 350, 1e-2, EIGHT | {"variance": 0.05}, {"sampler": "ddpm", "steps": 8}, (8, 8), packed=False
    ),
    "latent": Case(
        27,
        800,
        3e-3,
        EIGHT | BETAS | {"autoencoder_steps": 400, "image_weight": 10},
        {"sampler": "ddim", "steps": 8},
        (16, 16),
        packed=False,
    ),
}
"""In few timesteps, so that many steps of training see pure noise, from which alone the MRI must tell who it is.

The mean of both gets 20.8 dB, so what is above has been learnt of each."""


@cache
def two_people(prior: bool) -> tuple[TrainingItem, ...]:
    """The template with grey matter of two levels; where there is a prior it is the mean of both."""
    template, mri, pets = load_template(TOY_GRID), [], []
    for number, level in enumerate((0.4, 1.6)):
        noise = np.random.default_rng(number).normal(0, 0.02, (3, *TOY_GRID.shape))
        t1w = 0.5 * template.grey + 0.9 * template.white + 0.1 * template.csf + noise[0]
        flair = level * template.grey + 0.6 * template.white + noise[1]
        mri.append(np.stack([scale_mri(image * template.brain, template.brain) for image in (t1w, flair)]))
        suvr = (level * template.grey + 0.8 * template.white + noise[2]) * template.brain
        pets.append(suvr_to_model(np.maximum(suvr, 0).astype(np.float32), TRACER.suvr_window)[None])
    mean = np.mean(pets, axis=0) if prior else None
    return tuple(
        TrainingItem(f"{n}", mri[n].astype(np.float32), mean, False, pets[n], (True,), (TRACER,),
                     (TRACER.suvr_window,), TOY_GRID.voxel_size)
        for n in range(2)
    )  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """`two_people` as training items."""

    prior: bool

    def __len__(self) -> int:
        return 2

    def name(self, index: int) -> str:
        return f"person {index}"

    def same_tracer(self, index: int) -> list[int]:
        return [0, 1]

    def item(self, index: int, withheld: int | None = None) -> TrainingItem:
        return two_people(self.prior)[index]


def learnt(name: str, case: Case) -> tuple[Method, float]:
    """The method after its training, and its PSNR over the brain for both people."""
    people = [collate([item]) for item in two_people(case.prior)]
    facts = DataFacts(1, 4, case.prior, TOY_GRID.shape, TOY_GRID.voxel_size)
    kind = METHODS[name]
    small = {"channels": case.channels, "residual_blocks": 1, "packed": case.packed}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = {"generator": small} if "generator" in kind.Config.model_fields else {}
        method: Method = kind(kind.Config.model_validate(generator | case.settings), facts)
    method.fit(people)
    train = TrainConfig(steps=case.steps, lr=case.lr, lr_warmup=10, ema_decay=0.9, batch_size=2)
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    trainer = Trainer(method, Source(Pair(case.prior), AugmentConfig(), method.pairing), train, fabric)
    trainer.run(Hooks())
    with averaged(method, trainer.averages):
        errors = [_error(method, batch.condition, batch.pet, case) for batch in people]
    return method, 10 * math.log10(4 / float(np.mean(errors)))


def _error(method: Method, condition: Condition, pet: torch.Tensor, case: Case) -> float:
    """Mean square over the brain of a sample's error; PET spans 2."""
    draws = Draws((torch.Generator().manual_seed(5),))
    found = method.sample(condition, SampleConfig.model_validate(case.sample), draws)
    brain = torch.from_numpy(load_template(TOY_GRID).brain)
    return float((found - pet)[0, 0][brain].square().mean())


def test_the_mean_of_both_is_what_must_be_beaten() -> None:
    first, second = (torch.from_numpy(item.pet) for item in two_people(prior=False))
    brain = torch.from_numpy(load_template(TOY_GRID).brain)
    error = ((first - second) / 2)[0][brain].square().mean()
    assert 10 * math.log10(4 / float(error)) == pytest.approx(20.8, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_it_learns_two_people_by_heart(name: str) -> None:
    _, psnr = learnt(name, CASES[name])
    assert psnr > CASES[name].psnr
