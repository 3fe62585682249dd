"""Settings of the training loop."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from relapet.settings import Settings


class TrainConfig(Settings):
    """Settings of the training loop; they mean the same for every method."""

    steps: int = Field(100_000, ge=1, description="training steps at most")
    seconds: float | None = Field(
        None,
        gt=0,
        description="training time at most, seconds; where it ends before steps, runs are not bitwise repeatable",
    )
    seed: int = Field(0, ge=0, description="seed of weights, data order, timesteps and noise")
    lr: float = Field(
        5e-4,
        gt=0,
        description="learning rate; of each player (generator, critic) this times its own ratio",
    )
    lr_schedule: Literal["constant", "cosine"] = Field("cosine", description="course of the learning rate")
    lr_warmup: int = Field(100, ge=0, description="steps over which the learning rate rises from 0")
    batch_size: int = Field(1, ge=1, le=4096, description="volumes at a time on each device")
    accumulate: int = Field(
        1,
        ge=1,
        description="batches whose gradients are averaged before a step; as a larger batch, in less memory",
    )
    devices: int = Field(1, ge=1, le=1024, description="GPUs (or processes, without a GPU) on each machine")
    nodes: int = Field(1, ge=1, le=1024, description="machines, under torchrun or SLURM")
    loader_threads: int = Field(2, ge=1, le=64, description="steps that are loaded ahead, one a thread")
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = Field(
        "auto",
        description="arithmetic of the networks; auto: bf16-mixed where the processor has instructions for it, else "
        "32-true; 16-mixed (fp16 with loss scaling) needs a GPU",
    )
    ema_decay: float = Field(
        0.999, ge=0, lt=1, description="decay of the weights' moving average; 0 turns it off"
    )
    clip_norm: float = Field(1.0, ge=0, description="largest gradient norm; 0 does not clip")
    checkpoint_every: int = Field(1000, ge=1, description="steps between checkpoints")
    keep_checkpoints: int = Field(2, ge=1, description="checkpoints that are kept")
    validate_every: int = Field(1000, ge=1, description="steps between validations")
    validation_steps: int = Field(10, ge=1, description="network calls a sample at validation, at most")
    calibrate: bool = Field(
        True, description="synthesise the validation subjects at the end, for intervals of regional SUVr"
    )
    log_every: int = Field(50, ge=1, description="steps between rows of log.tsv")
    tensorboard: bool = Field(
        False, description="also log for TensorBoard, into the run's tensorboard/; needs relapet[tensorboard]"
    )
