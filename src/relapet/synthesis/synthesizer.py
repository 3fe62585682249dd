"""A trained run as a callable: MRI in, SUVr maps out."""

from __future__ import annotations

import math
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from pydantic import BaseModel, ValidationError
from scipy import ndimage

from relapet.data.volumes import BACKGROUND, MODALITIES, model_to_suvr, scale_mri, suvr_to_model
from relapet.errors import InputError, SubjectError
from relapet.hardware import check_backend, find_device, has_fast_bfloat16
from relapet.imaging.grid import Grid, get_grid
from relapet.imaging.nifti import load_volume
from relapet.imaging.template_space import ReadyImages, bring_to_grid
from relapet.methods import build_method, find_method
from relapet.model.generator import Generator, keep_generators_in
from relapet.model.interface import Condition, Draws, Method, OnStep
from relapet.run_contents import Adjustment, Manifest
from relapet.runs import RunFolder
from relapet.settings import fault
from relapet.shipped import find_model
from relapet.synthesis.priors import Prior, read_prior
from relapet.synthesis.sample_config import SampleConfig
from relapet.tracers import TracerSpec, get_tracer
from relapet.types import Affine, Mask, Volume

_VOXELS_TOGETHER = 2**22
"""Voxels of the samples that a GPU draws at a time: about as many as one volume at 1 mm has."""
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
    expected: Volume | None = None
    """The conditional mean in one call, SUVr, ``(X, Y, Z)``; None for a method that only draws."""

    @property
    def mean(self) -> nib.Nifti1Image:
        """The conditional mean, SUVr: the method's own where it has one, else the mean over samples."""
        volume = np.mean(self.samples, axis=0, dtype=np.float32) if self.expected is None else self.expected
        return nib.Nifti1Image(volume, self.affine)

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
    prior: Prior | None
    """What the model is told of each PET beforehand; None for a model trained without."""
    adjustment: dict[str, Adjustment]
    """What validation said, by tracer; one that is not named is taken as the model gives it."""
    most_steps: int | None
    """The largest number of steps that a sample can be drawn in; None where there is no limit."""
    half: bool
    """Whether the networks run in bfloat16: as they were trained, where it is fast; sampling itself is float32."""
    backend: str = "torch"
    """Of `relapet.hardware.BACKENDS`: what computes the networks."""

    @classmethod
    def from_run(cls, path: str | Path, device: str | None = None, backend: str = "torch") -> Synthesizer:
        """Load a run folder or a shipped model onto a device: cpu, cuda, cuda:1; by default the GPU where there is one.

        ``backend``: torch, or openvino, which computes on the CPU. Raises InputError for what is no run folder, is
        broken or is of a newer version, for a device that is not here and for OpenVINO without its packages.
        """
        check_backend(backend, device)
        chosen = find_device("cpu" if backend == "openvino" else device)
        run = RunFolder(find_model(path))
        settings, manifest = run.read_settings(), run.read_manifest()
        sample, most_steps, method = _from_settings(run, settings, manifest)
        try:
            for name in method.deployed:
                method.networks[name].load_state_dict(run.read_weights(name))
            method.load_fitted(run.read_fitted())
        except (KeyError, ValueError, RuntimeError, TypeError) as error:
            raise InputError(f"{run.weights} does not fit {run.config}; train again.") from error
        _check_known(run, manifest)
        method.networks.to(chosen, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        method.networks.eval()
        half = settings["train"].get("precision") in ("auto", "bf16-mixed") and has_fast_bfloat16(chosen)
        if backend == "openvino":
            _use_openvino(method, manifest, half)
        elif half:
            keep_generators_in(method.networks, torch.bfloat16)
        prior, adjustment = read_prior(run, manifest), run.read_adjustment()
        return cls(method, manifest, sample, run, chosen, prior, adjustment, most_steps, half, backend)

    @property
    def grid(self) -> Grid:
        """The grid that the model was trained on."""
        return get_grid(self.manifest.grid)

    @cached_property
    def weights_sha256(self) -> str:
        """Checksum of the model's files, read once: sidecars ask for it map after map."""
        return self.run.weights_sha256()

    @property
    def takes_sampler(self) -> bool:
        """Whether samples are drawn as a sampler, its steps and its eta say."""
        return self.method.random and self.method.by_steps

    @property
    def gives_mean(self) -> bool:
        """Whether the model gives its conditional mean in one call, beside samples about it."""
        return self.method.random and self.method.gives_mean

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
        spec = self.tracer(tracer)
        return self.synthesize(ready, [spec], sample)[spec.name]

    def mri(self, images: ReadyImages, name: str) -> Volume:
        """The MRI as the model sees it, ``(2, X, Y, Z)``; raises SubjectError where a needed modality is missing."""
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
        return np.stack(channels)

    def synthesize(
        self,
        images: ReadyImages,
        tracers: Sequence[TracerSpec],
        sample: SampleConfig,
        name: str = "the subject",
        on_step: OnStep | None = None,
    ) -> dict[str, Synthesis]:
        """Draw ``sample.count`` SUVr maps of each tracer, few at a time to keep memory low; by tracer name."""
        mri = self.mri(images, name)
        rim = _within(images.mask, _RIM_MM / images.grid.voxel_size)
        count = sample.count if self.method.random else 1
        seeds = tuple(seed_of(sample.seed + i, name) for i in range(count))
        known = [self.tracer(tracer) for tracer in self.manifest.tracers]
        calls = [known] if self.method.targets == "all" else [[tracer] for tracer in tracers]
        found: dict[str, Synthesis] = {}
        for together in calls:
            condition = self._condition(mri, together)
            mean = self._expected(condition)
            told = replace(condition, mean=mean)
            some = batches(seeds, images.grid.shape, self.device)
            drawn = [maps for those in some for maps in self._draw(told, those, sample, on_step)]
            expected = None if mean is None else _as_array(mean)
            for k, tracer in enumerate(together):
                volumes, centre = [maps[k] for maps in drawn], None
                if expected is not None:
                    prior = None if condition.prior is None else condition.prior[0, k].cpu().numpy()
                    volumes, centre = _adjusted(volumes, expected[k], prior, self.adjustment.get(tracer.name))
                    centre = _suvr(centre, tracer, rim)
                maps = tuple(_suvr(volume, tracer, rim) for volume in volumes)
                found[tracer.name] = Synthesis(maps, seeds, tracer, images.grid.affine, centre)
        return {tracer.name: found[tracer.name] for tracer in tracers}

    def _condition(self, mri: Volume, tracers: Sequence[TracerSpec]) -> Condition:
        prior = None
        if self.prior is not None:
            suvr = self.prior(mri, [tracer.name for tracer in tracers])
            maps = [suvr_to_model(suvr[tracer.name], tracer.suvr_window) for tracer in tracers]
            prior = torch.from_numpy(np.stack(maps))[None]
        index = torch.tensor([[tracer.index for tracer in tracers]])
        return Condition(torch.from_numpy(mri)[None], prior, index).to(self.device)

    @torch.no_grad()
    def _expected(self, condition: Condition) -> torch.Tensor | None:
        """The conditional mean of every tracer of the condition, ``(1, K, X, Y, Z)``; None for a method that draws."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.half):
            return self.method.expected(condition)

    @torch.no_grad()
    def _draw(
        self, condition: Condition, seeds: Sequence[int], sample: SampleConfig, on_step: OnStep | None
    ) -> list[Volume]:
        """A sample of every tracer of the condition for each seed, ``(K, X, Y, Z)`` each."""
        draws = Draws(tuple(torch.Generator().manual_seed(seed) for seed in seeds))
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.half):
            volumes = self.method.sample(condition.repeated(len(seeds)), sample, draws, on_step)
        return list(volumes.float().cpu().numpy())


def seed_of(seed: int, name: str) -> int:
    """The seed of one visit's noise, another for each: what few draws are by chance must not be what all visits are."""
    return int(np.random.SeedSequence((seed, zlib.crc32(name.encode()))).generate_state(1)[0])


def batches(seeds: Sequence[int], shape: tuple[int, int, int], device: torch.device) -> list[Sequence[int]]:
    """Seeds of the samples that are drawn together: on a CPU one by one, since more at a time are no faster there."""
    together = 1 if device.type == "cpu" else max(1, _VOXELS_TOGETHER // math.prod(shape))
    return [seeds[start : start + together] for start in range(0, len(seeds), together)]


def _from_settings(
    run: RunFolder, settings: Mapping[str, Any], manifest: Manifest
) -> tuple[SampleConfig, int | None, Method]:
    """The sampler's settings, the most steps it can take, and the method; raises InputError naming the file."""
    kind: type[BaseModel] = SampleConfig
    try:
        sample = SampleConfig.model_validate(settings["sample"])
        kind = find_method(settings["method"].get("name")).Config
        most_steps: int | None = kind.model_validate(settings["method"]).most_sample_steps  # type: ignore[attr-defined]
        return sample, most_steps, build_method(settings["method"], manifest.facts())
    except ValidationError as error:
        raise InputError(f"{run.config}: {fault(error, kind)}") from error
    except InputError as error:
        raise InputError(f"{run.config}: {error}") from error
    except (KeyError, ValueError, RuntimeError, TypeError, MemoryError) as error:
        raise InputError(f"{run.config} describes no network that can be built; train again.") from error


def _use_openvino(method: Method, manifest: Manifest, half: bool) -> None:
    """Put OpenVINO's networks in place of torch's; raises InputError for a method that has none to convert."""
    from relapet.synthesis.openvino import (
        OpenVinoGenerator,
    )  # here, because it needs packages of relapet[export]

    names = [name for name in method.deployed if isinstance(method.networks[name], Generator)]
    if not names:
        raise InputError(f"The method {manifest.method} has no network for OpenVINO; leave `backend` out.")
    for name in names:
        network = method.networks[name]
        assert isinstance(network, Generator)
        method.networks[name] = OpenVinoGenerator(network, manifest.facts(), half)


def _check_known(run: RunFolder, manifest: Manifest) -> None:
    """Raise InputError where the training mean, which synthesis writes beside its maps, cannot be used."""
    if manifest.split.get("train"):
        run.read_training_mean(manifest)


def _adjusted(
    volumes: list[Volume], expected: Volume, prior: Volume | None, numbers: Adjustment | None
) -> tuple[list[Volume], Volume]:
    """Samples and mean map as validation says they should be, in [-1, 1] as given."""
    if numbers is None or prior is None:
        return volumes, expected
    mean = prior + numbers.trust * (expected - prior)
    return [mean + numbers.spread * (volume - expected) for volume in volumes], mean


def _as_array(volumes: torch.Tensor) -> Volume:
    array: Volume = volumes[0].float().cpu().numpy()
    return array


def _suvr(volume: Volume, tracer: TracerSpec, rim: Mask) -> Volume:
    """A volume of the model as SUVr, which is never below 0 and 0 outside ``rim``."""
    suvr = np.maximum(model_to_suvr(volume, tracer.suvr_window), 0)
    return np.where(rim, suvr, 0).astype(np.float32)


def _loaded(image: nib.Nifti1Image | str | Path | None) -> nib.Nifti1Image | None:
    return load_volume(Path(image)) if isinstance(image, str | Path) else image


def _within(mask: Mask, voxels: float) -> Mask:
    distance = ndimage.distance_transform_edt(~mask)
    return np.asarray(distance <= voxels)
