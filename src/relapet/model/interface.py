"""What a method, the training loop and the synthesizer agree on: conditions, batches, draws, phases and the method.

B volumes at a time, each of K tracers: K is 1 for a method that predicts one tracer a call, or the number of the
run's tracers for one that predicts them all at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from relapet.settings import Settings

Targets = Literal["one", "all"]
"""Whether a call predicts one tracer or all of the run's."""
Pairing = Literal["paired", "unpaired"]
"""Whether MRI and PET of a training batch are of the same visit."""


@dataclass(frozen=True)
class DataFacts:
    """What the size of a method's networks depends on, known before the first volume is seen."""

    tracers: int
    """Number of tracers of the run."""
    tracer_slots: int
    """Rows of a tracer embedding: the highest tracer index + 1, or more."""
    prior: bool
    """Whether conditions carry a prior."""
    shape: tuple[int, int, int]
    """Of the volumes, ``(X, Y, Z)``."""
    voxel_mm: float


@dataclass(frozen=True)
class Condition:
    """What is known of a person before their PET: all in [-1, 1], the brain's surroundings at -1."""

    mri: Tensor
    """T1w and FLAIR, ``(B, 2, X, Y, Z)``, relative to tissue; one that is absent is -1 everywhere."""
    prior: Tensor | None
    """What a closed form expects of the PET, ``(B, K, X, Y, Z)``, in the SUVr window; None for a model without."""
    tracer: Tensor
    """Index of each wanted tracer, ``(B, K)``, int64."""
    mean: Tensor | None = None
    """What `Method.expected` gave for it, where the caller has it: samples about it need not ask again."""
    own: Tensor | None = None
    """How MRI and prior differ from those of other people, ``(B, 2 + K, X, Y, Z)``, for a method that finds this."""

    def to(self, device: torch.device) -> Condition:
        """The same condition on another device."""
        volumes = (self.prior, self.mean, self.own)
        prior, mean, own = (None if volume is None else volume.to(device) for volume in volumes)
        return Condition(self.mri.to(device), prior, self.tracer.to(device), mean, own)

    def known(self) -> Tensor:
        """MRI, and prior and `own` where there are, as channels, ``(B, C, X, Y, Z)``."""
        there = [volume for volume in (self.mri, self.prior, self.own) if volume is not None]
        return torch.cat(there, dim=1) if len(there) > 1 else self.mri

    def repeated(self, count: int) -> Condition:
        """The condition of one person, for so many volumes of theirs; nothing is copied."""

        def many(volumes: Tensor) -> Tensor:
            return volumes.expand(count, *volumes.shape[1:])

        prior, mean = (None if volumes is None else many(volumes) for volumes in (self.prior, self.mean))
        return Condition(many(self.mri), prior, many(self.tracer), mean)

    def volumes(self) -> Tensor:
        """Zeros of the shape of the wanted PET, ``(B, K, X, Y, Z)``."""
        shape = (*self.tracer.shape, *self.mri.shape[2:])
        return torch.zeros(shape, dtype=self.mri.dtype, device=self.mri.device)


@dataclass(frozen=True)
class Batch:
    """Training volumes; PET in [-1, 1] by its SUVr window."""

    pet: Tensor
    """``(B, K, X, Y, Z)``; -1 where the visit lacks the tracer."""
    present: Tensor
    """Whether the visit has the tracer, ``(B, K)``, bool: a missing one has no loss."""
    condition: Condition
    names: tuple[str, ...] = ()
    """Visit and tracers of each volume, for messages."""

    def weight(self) -> Tensor:
        """Of voxels in a loss: 1 where the PET is there, ``(B, K, 1, 1, 1)``."""
        return self.present[:, :, None, None, None].to(self.pet)

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return replace(
            self,
            pet=self.pet.to(device),
            present=self.present.to(device),
            condition=self.condition.to(device),
        )


@dataclass(frozen=True)
class Draws:
    """The random numbers of one step: one generator a volume, all on one device.

    So a volume's numbers do not depend on which process, or with which others in a batch, it is drawn.
    """

    generators: tuple[torch.Generator, ...]

    def integers(self, high: int) -> Tensor:
        """Integers in ``0 .. high - 1``, ``(B,)``."""
        return torch.cat([torch.randint(high, (1,), generator=g, device=g.device) for g in self.generators])

    def uniform(self) -> Tensor:
        """Uniform in [0, 1), ``(B,)``: a continuous time, or a choice."""
        return torch.cat([torch.rand((1,), generator=g, device=g.device) for g in self.generators])

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal volumes of the shape, type and device of ``like``, ``(B, C, X, Y, Z)``."""
        shape = like.shape[1:]
        volumes = [
            torch.randn(shape, generator=g, dtype=like.dtype, device=g.device) for g in self.generators
        ]
        return torch.stack(volumes).to(like.device)

    def vector(self, length: int) -> Tensor:
        """Standard normal latent vectors, ``(B, length)``."""
        return torch.stack([torch.randn((length,), generator=g, device=g.device) for g in self.generators])

    def keep(self, like: Tensor, probability: float) -> Tensor:
        """Ones with this probability, else zeros, in the shape of ``like``: dropout that a resumed run repeats."""
        shape = like.shape[1:]
        kept = [torch.rand(shape, generator=g, device=g.device) < probability for g in self.generators]
        return torch.stack(kept).to(like)


Losses = Mapping[str, Tensor]
"""Named scalar terms; ``total`` is what is minimised, the others are logged."""
OptimizerOf = Callable[[Sequence[nn.Parameter], float], torch.optim.Optimizer]
"""Makes the optimiser of some parameters at a learning rate."""


def adam(betas: tuple[float, float] = (0.9, 0.999)) -> OptimizerOf:
    """Adam (Kingma and Ba 2015) with these decay rates."""
    return partial(_adam, betas=betas)


def _adam(parameters: Sequence[nn.Parameter], lr: float, betas: tuple[float, float]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=lr, betas=betas)


_ADAM = adam()


@dataclass(frozen=True)
class Phase:
    """One player's turn in a training step: which networks, with which optimiser, on which loss, from when to when."""

    name: str
    networks: tuple[nn.Module, ...]
    loss: Callable[[Any], Losses]
    """Takes what `Method.forward` returned."""
    lr_ratio: float = 1.0
    """Learning rate as a multiple of train.lr."""
    optimizer: OptimizerOf = _ADAM
    first_step: int = 0
    """First step at which the phase runs."""
    last_step: int | None = None
    """Last step at which it runs; None: to the end."""
    detached: bool = False
    """Whether the loss sends no gradient into `Method.forward`, so that it may run without a graph."""

    def runs_at(self, step: int) -> bool:
        """Whether the phase has a turn at this step, counted from 0."""
        return self.first_step <= step and (self.last_step is None or step <= self.last_step)

    def parameters(self) -> list[nn.Parameter]:
        """What the phase trains."""
        return [p for network in self.networks for p in network.parameters() if p.requires_grad]


class SampleSettings(Protocol):
    """How a volume is synthesised, as far as methods care."""

    @property
    def sampler(self) -> str:
        """One of `relapet.model.samplers.SAMPLERS`."""
        ...

    @property
    def steps(self) -> int:
        """Steps a sample."""
        ...

    @property
    def eta(self) -> float:
        """How much noise `relapet.model.samplers.ddim` draws anew; 0 for every other sampler."""
        ...


OnStep = Callable[[int, int], None]
"""Called with the network calls done, and how many there will be."""


Beta = Annotated[float, Field(ge=0, lt=1)]
"""Of Adam: the decay of a moving average."""


class MethodConfig(Settings):
    """Settings of a method; each method's own class adds to these."""

    name: str

    @property
    def priors(self) -> tuple[str, ...]:
        """The settings of data.prior that the method can work with."""
        return ("none", "mean", "linear")

    @property
    def most_sample_steps(self) -> int | None:
        """The largest number of steps that a sample can be drawn in; None where there is no limit."""
        return None

    @property
    def least_participants(self) -> int:
        """The smallest number of training participants that can teach it a tracer."""
        return 1

    @property
    def least_steps(self) -> int:
        """The smallest number of training steps in which every network has a turn."""
        return 1


class Method(ABC):
    """A synthesis method: the loop, the run folder and the synthesizer know nothing else of it.

    A method gives `sample` and what else it has: phases (learnt step by step), or `fit` (a closed form), or both.
    Within a step the phases run in order on what one `forward` call returned; a phase must not update a network
    whose graph a later phase still needs. Where gradients are accumulated, `forward` runs anew for each phase
    with the same random numbers.
    """

    Config: ClassVar[type[MethodConfig]]
    """Its settings; constructed as ``Method(config, facts)``."""
    networks: nn.ModuleDict
    """Every network by name; empty for a closed form."""
    deployed: tuple[str, ...] = ()
    """Networks that synthesis needs: these get a moving average, and are saved and loaded."""
    targets: Targets = "one"
    pairing: Pairing = "paired"
    random: bool = True
    """Whether samples of one condition differ; if not, there is no use in several."""
    by_steps: bool = True
    """Whether a random method draws a sample by a sampler, in the steps that are set."""

    def fit(self, training: Iterable[Batch]) -> None:  # noqa: B027  # most methods have nothing in closed form
        """Learn in closed form from one batch a visit (B = 1, all tracers, not augmented), before any phase runs."""

    def fitted(self) -> dict[str, Tensor]:
        """What `fit` found and synthesis needs, by name."""
        return {}

    def load_fitted(self, found: Mapping[str, Tensor]) -> None:
        """Take what `fitted` gave; raises KeyError or ValueError where it is another method's."""
        if found:
            raise ValueError(f"{type(self).__name__} has nothing in closed form")

    def phases(self) -> Sequence[Phase]:
        """The players in the order of their turns; none for a closed form."""
        return ()

    def forward(self, batch: Batch, draws: Draws, step: int) -> Any:
        """Draw what is random and run what the phases share."""
        raise NotImplementedError(f"{type(self).__name__} has no phases to train")

    @abstractmethod
    def sample(
        self, condition: Condition, settings: SampleSettings, draws: Draws, on_step: OnStep | None = None
    ) -> Tensor:
        """Synthetic PET in [-1, 1] by the SUVr window, ``(B, K, X, Y, Z)``, float32."""

    @property
    def gives_mean(self) -> bool:
        """Whether `expected` gives a volume."""
        return False

    @property
    def knows_start(self) -> bool:
        """Whether the first step of a sample needs no network call, since the conditional mean says what it would."""
        return False

    def expected(self, condition: Condition) -> Tensor | None:
        """The conditional mean in one call, as `sample` gives a draw; None where the method only draws."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """What an exact resume needs besides networks and optimisers (an image pool, say): tensors and numbers."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken; raises KeyError or ValueError where it is another method's."""
        if state:
            raise ValueError(f"{type(self).__name__} has no state of its own")
