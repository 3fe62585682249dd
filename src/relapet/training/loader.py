"""Training batches, loaded ahead in threads; which volumes and which augmentation depends on (seed, step, slot) alone.

A step has ``batch_size x processes x accumulate`` slots. Whatever way they are shared out, each holds the volume
and the random numbers that it would hold in one process with one large batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import numpy as np
import torch

from relapet.data.augment import AugmentConfig, Items, vary
from relapet.data.items import TrainingItem
from relapet.data.visits import pick
from relapet.model.interface import Batch, Condition, Pairing
from relapet.training.train_config import TrainConfig


@dataclass(frozen=True)
class Source:
    """What batches are made from."""

    items: Items
    augment: AugmentConfig
    pairing: Pairing = "paired"
    """unpaired: the PET is of another item of the same tracer than the MRI."""


class Loader:
    """A context in which `take` gives this process's part of each step, in the order of the steps."""

    def __init__(self, source: Source, config: TrainConfig, rank: int = 0, processes: int = 1) -> None:
        self.source, self.config = source, config
        self.rank, self.processes = rank, processes
        self._ahead: deque[tuple[int, Future[list[Batch]]]] = deque()

    @property
    def slots(self) -> int:
        """Volumes a step, over all processes."""
        return self.config.batch_size * self.processes * self.config.accumulate

    def own_slots(self, part: int) -> range:
        """The slots of this process in one of the parts that are accumulated."""
        first = (part * self.processes + self.rank) * self.config.batch_size
        return range(first, first + self.config.batch_size)

    def names(self, step: int) -> list[str]:
        """Visit and tracers in each slot of a step, over all processes."""
        return [self.source.items.name(self._index(step, slot)) for slot in range(self.slots)]

    def __enter__(self) -> Self:
        self._threads = ThreadPoolExecutor(max_workers=self.config.loader_threads)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._ahead.clear()

    def take(self, step: int) -> list[Batch]:
        """The batches of a step, one for each part that is accumulated; the next steps are loaded meanwhile."""
        following = self._ahead[-1][0] + 1 if self._ahead else step
        for number in range(following, step + self.config.loader_threads + 1):
            self._ahead.append((number, self._threads.submit(self._load, number)))
        number, batches = self._ahead.popleft()
        assert number == step, "steps are taken in order"
        return batches.result()

    def _index(self, step: int, slot: int) -> int:
        return pick(step, slot, self.slots, len(self.source.items), self.config.seed)

    def _load(self, step: int) -> list[Batch]:
        return [self._batch(step, self.own_slots(part)) for part in range(self.config.accumulate)]

    def _batch(self, step: int, slots: range) -> Batch:
        return collate([self._item(step, slot) for slot in slots])

    def _item(self, step: int, slot: int) -> TrainingItem:
        items, augment = self.source.items, self.source.augment
        rng = np.random.default_rng((self.config.seed, step, slot))
        index = self._index(step, slot)
        item = vary(items, index, augment, rng)
        if self.source.pairing == "paired":
            return item
        # PET of any visit with this tracer, in a variation of its own: nothing ties it to the MRI.
        other = vary(items, int(rng.choice(items.same_tracer(index))), augment, rng)
        return replace(
            item, name=f"{item.name} with PET of {other.name}", pet=other.pet, present=other.present
        )


def collate(items: Sequence[TrainingItem]) -> Batch:
    """Training items as one batch of tensors."""
    priors = [item.prior for item in items if item.prior is not None]
    condition = Condition(
        mri=torch.from_numpy(np.stack([item.mri for item in items])),
        prior=torch.from_numpy(np.stack(priors)) if priors else None,
        tracer=torch.tensor([[tracer.index for tracer in item.tracers] for item in items]),
    )
    return Batch(
        pet=torch.from_numpy(np.stack([item.pet for item in items])),
        present=torch.tensor([item.present for item in items]),
        condition=condition,
        names=tuple(item.name for item in items),
    )
