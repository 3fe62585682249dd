"""The run folder: what training leaves behind and synthesis takes.

config.yaml        every setting, resolved
manifest.json      what it was trained on and with (see `Manifest`)
calibration.json   half-widths of VOI intervals and scale of positivity, from the validation subjects
adjustment.json    how much the model is trusted beyond its prior, and how far samples lie apart, from the same
weights/           of each network that synthesis needs NAME.safetensors (raw) and NAME_ema.safetensors (averaged);
                   fitted.safetensors (what the method found in closed form), prior.safetensors (the linear prior),
                   training_mean.safetensors (SUVr)
checkpoint/        what an exact resume needs
cache/             the training volumes, scaled
log.tsv, figures/
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save as save_arrays
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor

from relapet.errors import InputError
from relapet.files import atomic_path, read_json, sha256, write_json, write_text
from relapet.run_contents import (
    RUN_FORMAT,
    Adjustment,
    Manifest,
    check_finite,
    check_maps,
    fault_of_manifest,
)
from relapet.run_formats import present_manifest, present_settings
from relapet.setting_files import read_settings_file
from relapet.types import Volume


@dataclass(frozen=True)
class RunFolder:
    """The paths inside a run folder."""

    path: Path

    @property
    def config(self) -> Path:
        """Resolved settings."""
        return self.path / "config.yaml"

    @property
    def manifest(self) -> Path:
        """What it was trained on and with."""
        return self.path / "manifest.json"

    @property
    def calibration(self) -> Path:
        """Half-widths of VOI intervals, from the validation subjects."""
        return self.path / "calibration.json"

    @property
    def weights(self) -> Path:
        """Folder of all that was learnt."""
        return self.path / "weights"

    def raw_weights(self, network: str) -> Path:
        """A network as trained."""
        return self.weights / f"{network}.safetensors"

    def averaged_weights(self, network: str) -> Path:
        """A network as synthesis uses it: its moving average."""
        return self.weights / f"{network}_ema.safetensors"

    @property
    def fitted(self) -> Path:
        """What the method found in closed form."""
        return self.weights / "fitted.safetensors"

    @property
    def prior(self) -> Path:
        """The linear prior."""
        return self.weights / "prior.safetensors"

    @property
    def adjustment(self) -> Path:
        """What is kept of what the model adds to its prior, and how far samples lie apart, by tracer."""
        return self.path / "adjustment.json"

    @property
    def training_mean(self) -> Path:
        """Mean SUVr map of each tracer over the training subjects."""
        return self.path / "weights" / "training_mean.safetensors"

    @property
    def checkpoints(self) -> Path:
        """What an exact resume needs."""
        return self.path / "checkpoint"

    @property
    def cache(self) -> Path:
        """The training volumes, scaled."""
        return self.path / "cache"

    @property
    def log(self) -> Path:
        """One row every few steps."""
        return self.path / "log.tsv"

    @property
    def figures(self) -> Path:
        """Pictures of validation subjects."""
        return self.path / "figures"

    def write_config(self, settings: dict[str, Any]) -> None:
        """Write the resolved settings."""
        write_text(self.config, yaml.safe_dump(settings, sort_keys=False))

    def write_manifest(self, manifest: Manifest) -> None:
        """Write the manifest."""
        write_json(self.manifest, manifest.model_dump(mode="json"))

    def write_weights(
        self, raw: Mapping[str, Mapping[str, Tensor]], averaged: Mapping[str, Mapping[str, Tensor]]
    ) -> None:
        """Write the weights of networks by name, as trained and averaged."""
        for name in raw:
            _write_tensors(self.raw_weights(name), raw[name])
            _write_tensors(self.averaged_weights(name), averaged[name])

    def write_fitted(self, found: Mapping[str, Tensor]) -> None:
        """Write what the method found in closed form."""
        _write_tensors(self.fitted, found)

    def write_prior(self, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Write the linear prior's arrays."""
        _write_arrays(self.prior, arrays)

    def write_adjustment(self, found: Mapping[str, Adjustment]) -> None:
        """Write the adjustments by tracer name."""
        write_json(self.adjustment, {tracer: numbers.model_dump() for tracer, numbers in found.items()})

    def read_adjustment(self) -> dict[str, Adjustment]:
        """The adjustments by tracer name, none for a run without; raises InputError where the file is broken."""
        if not self.adjustment.is_file():
            return {}
        found = {}
        for tracer, numbers in read_json(self.adjustment).items():
            try:
                found[tracer] = Adjustment.model_validate(numbers)
            except ValidationError as error:
                raise InputError(
                    f"{self.adjustment} is broken at {tracer}; copy the run folder again or train again."
                ) from error
        return found

    def write_training_mean(self, mean: dict[str, Volume]) -> None:
        """Write the mean SUVr maps, ``(X, Y, Z)`` by tracer name."""
        _write_arrays(self.training_mean, {name: volume.astype(np.float32) for name, volume in mean.items()})

    def read_settings(self) -> dict[str, Any]:
        """The resolved settings, in the present shape; raises InputError for a folder that is no run."""
        return present_settings(self._settings())

    def _settings(self) -> dict[str, Any]:
        if not self.path.is_dir():
            raise InputError(f"The run folder {self.path} does not exist; check --model.")
        if not self.config.is_file():
            raise InputError(
                f"{self.path} is no run folder: {self.config.name} cannot be read; "
                "give the folder that relapet train wrote."
            )
        settings = read_settings_file(self.config)
        for part in ("method", "data", "train", "sample"):
            if not isinstance(settings.get(part), dict):
                raise InputError(f"{self.config} has no settings {part}; copy the run folder again.")
        return settings

    def read_manifest(self) -> Manifest:
        """The manifest; raises InputError where it is missing, broken or of a newer version."""
        if not self.manifest.is_file():
            raise InputError(
                f"{self.path} is no run folder (no manifest.json); give the folder of relapet train."
            )
        content = read_json(self.manifest)
        found = content.get("run_format")
        if isinstance(found, int) and found > RUN_FORMAT:
            raise InputError(
                f"{self.path} was written by a newer relapet (run format {found}, this one reads up to "
                f"{RUN_FORMAT}); upgrade relapet."
            )
        try:
            return Manifest.model_validate(present_manifest(content, self._settings()))
        except ValidationError as error:
            raise InputError(
                f"{self.manifest} is broken: {fault_of_manifest(error)}; copy the run folder again or train again."
            ) from error

    def read_weights(self, network: str) -> dict[str, Tensor]:
        """A network's averaged weights; raises InputError where they cannot be read or are not finite."""
        path = self.averaged_weights(network)
        weights: dict[str, Tensor] = _read_tensors(path, load_file)
        check_finite(path, {name: tensor.float().numpy() for name, tensor in weights.items()})
        return weights

    def read_fitted(self) -> dict[str, Tensor]:
        """What the method found in closed form; nothing where it finds nothing."""
        if not self.fitted.is_file():
            return {}
        read: dict[str, Tensor] = _read_tensors(self.fitted, load_file)
        # a shipped model is kept in half precision
        found = {name: t.float() if t.dtype == torch.float16 else t for name, t in read.items()}
        # NaN may stand for what the method could not find, as for a tracer that nobody was scanned with.
        check_finite(self.fitted, {name: tensor.nan_to_num().numpy() for name, tensor in found.items()})
        return found

    def read_prior(self) -> dict[str, npt.NDArray[np.generic]]:
        """The linear prior's arrays; raises InputError where they cannot be read."""
        arrays: dict[str, npt.NDArray[np.generic]] = _read_tensors(self.prior, load_arrays)
        return arrays

    def read_training_mean(self, manifest: Manifest | None = None) -> dict[str, Volume]:
        """The mean SUVr maps; raises InputError where they cannot be read, or are not those of the manifest."""
        read: dict[str, npt.NDArray[Any]] = _read_tensors(self.training_mean, load_arrays)
        mean = {
            name: volume.astype(np.float32) if volume.dtype == np.float16 else volume
            for name, volume in read.items()
        }
        if manifest is not None:
            check_maps(self.training_mean, mean, manifest)
        return mean

    def weights_sha256(self) -> str:
        """Checksum of all that training found and synthesis uses.

        Of the one file, or of the files' checksums one after another: averaged weights, fitted, prior, training mean,
        adjustment.
        """
        return self._digest(self.fitted, self.prior, self.training_mean, self.adjustment)

    def earlier_weights_sha256(self) -> str:
        """The checksum that a calibration may hold which was made before it counted training mean and adjustment."""
        return self._digest(self.fitted, self.prior)

    def _digest(self, *beside: Path) -> str:
        averaged = sorted(self.weights.glob("*_ema.safetensors"))
        digests = [sha256(path) for path in (*averaged, *beside) if path.is_file()]
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
    # safetensors writes the memory as it lies: an array in Fortran order would come back scrambled.
    content = save_arrays({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    _write_bytes(path, content)


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    _write_bytes(path, save_tensors({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}))


def _write_bytes(path: Path, content: bytes) -> None:
    # Not by the library's own writer: it makes a temporary file of its own, which stays where the process is killed.
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _read_tensors(path: Path, load: Any) -> Any:
    try:
        return load(path)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); copy the run folder again or train again."
        ) from error
