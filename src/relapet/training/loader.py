"""Training batches, loaded ahead in threads; which volumes and which augmentation depends on (seed, step, slot) alone.

A step has ``batch_size x processes x accumulate`` slots. Whatever way they are shared out, each holds the volume
and the random numbers that it would hold in one process with one large batch.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import torch

from relapet.data.augment import AugmentConfig
from relapet.data.dataset import Pair, augmented, pick
from relapet.model.interface import Batch
from relapet.training.config import TrainConfig


class Pairs(Protocol):
    """A random-access sequence of training pairs."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __getitem__(self, index: int) -> Pair:
        """One pair."""
        ...

    def name(self, index: int) -> str:
        """Visit and tracer of a pair."""
        ...


class Loader:
    """A context in which `take` gives this process's part of each step, in the order of the steps."""

    def __init__(
        self, data: Pairs, augment: AugmentConfig, config: TrainConfig, rank: int = 0, processes: int = 1
    ) -> None:
        self.data, self.augment, self.config = data, augment, config
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
        """Visit and tracer in each slot of a step, over all processes."""
        return [self.data.name(self._index(step, slot)) for slot in range(self.slots)]

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
        return pick(step, slot, self.slots, len(self.data), self.config.seed)

    def _load(self, step: int) -> list[Batch]:
        return [self._batch(step, self.own_slots(part)) for part in range(self.config.accumulate)]

    def _batch(self, step: int, slots: range) -> Batch:
        pairs = []
        for slot in slots:
            rng = np.random.default_rng((self.config.seed, step, slot))
            pairs.append(augmented(self.data[self._index(step, slot)], self.augment, rng))
        return Batch(
            pet=torch.from_numpy(np.stack([pair.pet[None] for pair in pairs])),
            condition=torch.from_numpy(np.stack([pair.condition for pair in pairs])),
            tracer=torch.tensor([pair.tracer.index for pair in pairs]),
            names=tuple(pair.name for pair in pairs),
        )
