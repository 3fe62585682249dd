"""Samples drawn together are those drawn one by one: a batch changes how long they take, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from relapet.imaging.bids import Visit
from relapet.imaging.grid import GRIDS
from relapet.synthesis import synthesizer as module
from relapet.synthesis.synthesizer import Synthesizer, batches, seed_of


def test_a_gpu_draws_as_many_voxels_at_a_time_as_memory_is_meant_for() -> None:
    seeds, gpu = list(range(9)), torch.device("cuda")
    assert [len(some) for some in batches(seeds, GRIDS["1mm"].shape, gpu)] == [1] * 9
    assert batches(seeds, GRIDS["3mm"].shape, gpu) == [seeds]
    parts = batches(list(range(40)), GRIDS["3mm"].shape, gpu)
    assert [seed for part in parts for seed in part] == list(range(40))
    assert len(parts) == 2
    assert batches(seeds, GRIDS["8mm"].shape, torch.device("cpu")) == [[seed] for seed in seeds]


def test_samples_drawn_together_are_those_drawn_one_by_one(
    toy_source: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, visit = Synthesizer.from_run(tiny_run, "cpu"), Visit("01")
    call = (visit.t1w(toy_source), visit.flair(toy_source), "tau")
    alone = opened(*call, samples=3, seed=5)

    def all_at_once(seeds: Sequence[int], *_: object) -> list[Sequence[int]]:
        return [seeds]

    monkeypatch.setattr(module, "batches", all_at_once)
    together = opened(*call, samples=3, seed=5)
    assert alone.seeds == together.seeds == tuple(seed_of(seed, "the subject") for seed in (5, 6, 7))
    assert np.ptp(np.stack(alone.samples), axis=0).max() > 0.05
    for one, other in zip(alone.samples, together.samples, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_no_two_visits_and_no_two_samples_share_their_noise() -> None:
    seeds = [seed_of(seed, name) for seed in range(20) for name in ("sub-01", "sub-02", "sub-02_ses-1")]
    assert len(set(seeds)) == len(seeds)
    assert seed_of(3, "sub-01") == seed_of(3, "sub-01")
