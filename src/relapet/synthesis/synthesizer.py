"""A trained run as a callable: MRI in, SUVr maps out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage

from relapet.data.volumes import BACKGROUND, MODALITIES, model_to_suvr, scale_mri, templates_of
from relapet.errors import InputError, SubjectError
from relapet.imaging.grid import Grid, get_grid
from relapet.imaging.nifti import load_volume
from relapet.imaging.template_space import ReadyImages, bring_to_grid
from relapet.methods import build_method
from relapet.model.interface import Method
from relapet.model.samplers import SAMPLERS, OnStep
from relapet.runs import Manifest, RunFolder
from relapet.synthesis.config import SampleConfig
from relapet.tracers import TracerSpec, get_tracer
from relapet.types import Affine, Mask, Volume

_RIM_MM = 12.0
"""PET's spill-out reaches this far beyond the brain; a synthetic map is 0 farther out."""


@dataclass(frozen=True)
class Synthesis:
    """Synthetic SUVr of one visit and tracer."""

    samples: tuple[Volume, ...]
    """Each sample, SUVr, ``(X, Y, Z)``."""
    seeds: tuple[int, ...]
    """Seed of each sample's noise."""
    tracer: TracerSpec
    affine: Affine
    """Voxel index to mm."""

    @property
    def mean(self) -> nib.Nifti1Image:
        """Mean over samples, SUVr."""
        return nib.Nifti1Image(np.mean(self.samples, axis=0, dtype=np.float32), self.affine)

    @property
    def sd(self) -> nib.Nifti1Image | None:
        """SD over samples (n - 1), SUVr; None for one sample."""
        if len(self.samples) < 2:
            return None
        return nib.Nifti1Image(np.std(self.samples, axis=0, ddof=1, dtype=np.float32), self.affine)


@dataclass(frozen=True)
class Synthesizer:
    """A model with its weights, and what is known of how it was trained."""

    method: Method
    manifest: Manifest
    sample: SampleConfig
    run: RunFolder
    device: torch.device
    templates: dict[str, Volume]
    """Third condition channel by tracer name; empty for a model trained without."""
    half: bool
    """Whether the networks run in bfloat16, as they were trained; sampling itself is float32."""

    @classmethod
    def from_run(cls, path: str | Path, device: str | None = None) -> Synthesizer:
        """Load a run folder; raises InputError for what is none, is broken or is of a newer version."""
        run = RunFolder(Path(path))
        settings, manifest = run.read_settings(), run.read_manifest()
        method = build_method(settings["method"])
        try:
            method.networks["generator"].load_state_dict(run.read_weights())
        except RuntimeError as error:
            raise InputError(f"{run.weights} does not fit {run.config}; train again.") from error
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        method.networks.to(chosen, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        method.networks.eval()
        sample = SampleConfig.model_validate(settings["sample"])
        half = settings["train"]["precision"] == "bf16-mixed"
        templates = (
            templates_of(run.read_training_mean(), {n: r.suvr_window for n, r in manifest.tracers.items()})
            if settings["data"]["template"]
            else {}
        )
        return cls(method, manifest, sample, run, chosen, templates, half)

    @property
    def grid(self) -> Grid:
        """The grid that the model was trained on."""
        return get_grid(self.manifest.grid)

    @property
    def caution(self) -> str | None:
        """What a user must know before using the output; None for a model that gives SUVr."""
        if self.manifest.pet_scaling == "suvr_window":
            return None
        return (
            f"{self.run.path} was trained on volumes scaled by their own range (min-max), so its output is relative "
            "uptake and no SUVr; use a model trained with data.pet_scaling=suvr_window for quantitative maps."
        )

    def tracer(self, name: str) -> TracerSpec:
        """A tracer that this model knows; raises InputError listing those."""
        tracer = get_tracer(name)
        record = self.manifest.tracers.get(tracer.name)
        if record is None:
            known = ", ".join(self.manifest.tracers)
            raise InputError(f"{self.run.path} was not trained on {tracer.name}; it knows: {known}.")
        # The run's own window is what its output means, whatever the packaged table says by now.
        return tracer.model_copy(update={"suvr_window": record.suvr_window, "index": record.index})

    def __call__(
        self,
        t1w: nib.Nifti1Image | str | Path | None,
        flair: nib.Nifti1Image | str | Path | None,
        tracer: str,
        mask: nib.Nifti1Image | str | Path | None = None,
        samples: int | None = None,
        seed: int | None = None,
    ) -> Synthesis:
        """Synthesise one tracer from brain-extracted MRI in an MNI space.

        Raises SubjectError for images that cannot be used (see `bring_to_grid`).
        """
        if self.caution:
            warnings.warn(self.caution, stacklevel=2)
        ready = bring_to_grid(_loaded(t1w), _loaded(flair), _loaded(mask), self.grid, "the subject")
        update = {"count": samples, "seed": seed}
        sample = self.sample.model_copy(update={k: v for k, v in update.items() if v is not None})
        return self.synthesize(ready, self.tracer(tracer), sample)

    def condition(self, images: ReadyImages, tracer: TracerSpec, name: str) -> Volume:
        """The model's input, ``(2 or 3, X, Y, Z)``; raises SubjectError where a needed modality is missing."""
        channels = []
        for modality, given in zip(MODALITIES, (images.t1w, images.flair), strict=True):
            volume = given if modality in self.manifest.inputs else None
            if volume is None:
                if modality in self.manifest.required_inputs:
                    raise SubjectError(
                        f"{name} has no {modality}, which this model needs; add it, or use a model "
                        "trained with data.augment.drop_* above 0."
                    )
                channels.append(np.full(images.grid.shape, BACKGROUND, np.float32))
                continue
            try:
                channels.append(scale_mri(volume, images.mask, self.manifest.mri_scaling))
            except ValueError as error:
                raise SubjectError(f"{name}: {modality}: {error}; check the image and its mask.") from error
        if self.templates:
            channels.append(self.templates[tracer.name])
        return np.stack(channels)

    @torch.no_grad()
    def synthesize(
        self,
        images: ReadyImages,
        tracer: TracerSpec,
        sample: SampleConfig,
        name: str = "the subject",
        on_step: OnStep | None = None,
    ) -> Synthesis:
        """Draw ``sample.count`` SUVr maps of one tracer, one after another to keep memory low."""
        condition = torch.from_numpy(self.condition(images, tracer, name))[None].to(self.device)
        index = torch.tensor([tracer.index], device=self.device)
        rim = _within(images.mask, _RIM_MM / images.grid.voxel_size)
        seeds = tuple(sample.seed + i for i in range(sample.count))
        maps = [self._draw(condition, index, seed, sample, on_step) for seed in seeds]
        suvr = tuple(
            np.where(rim, np.maximum(model_to_suvr(m, tracer.suvr_window), 0), 0).astype(np.float32)
            for m in maps
        )
        return Synthesis(suvr, seeds, tracer, images.grid.affine)

    def _draw(
        self,
        condition: torch.Tensor,
        index: torch.Tensor,
        seed: int,
        sample: SampleConfig,
        on_step: Callable[[int, int], None] | None,
    ) -> Volume:
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn((1, 1, *condition.shape[2:]), generator=generator).to(self.device)

        def denoise(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.half):
                return self.method.denoise(x_t, t, condition, index)

        volume = SAMPLERS[sample.sampler](
            denoise,
            noise,
            self.method.schedule,
            sample.steps,
            generator,
            on_step,
        )
        array: Volume = volume[0, 0].float().cpu().numpy()
        return array


def _loaded(image: nib.Nifti1Image | str | Path | None) -> nib.Nifti1Image | None:
    return load_volume(Path(image)) if isinstance(image, str | Path) else image


def _within(mask: Mask, voxels: float) -> Mask:
    distance = ndimage.distance_transform_edt(~mask)
    return np.asarray(distance <= voxels)
