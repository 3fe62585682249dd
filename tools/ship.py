"""Make a run folder small enough to come with the package: what synthesis needs, in half precision.

    python tools/ship.py RUN src/relapet/models/NAME --card CARD.md

Kept: settings, manifest (checksums of the PET alone, by which `evaluate` knows whom a model was trained on), averaged
weights, what was fitted in closed form, adjustment and calibration (its checksum of the weights brought up to date).
CARD.md becomes README.md: its first line is what ``relapet info models`` shows.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from relapet.runs import RunFolder


def short(array: np.ndarray) -> np.ndarray:
    """In half precision; what is no map of SUVr in the bits that bfloat16 has: it packs into fewer bytes."""
    half = array.astype(np.float16)
    if array.ndim == 3:
        return half
    bits = half.view(np.uint16)
    rounded = ((bits.astype(np.uint32) + 4) & 0xFFF8).astype(np.uint16).view(np.float16)
    return np.where(np.isfinite(rounded), rounded, half)


def in_half(source: Path, target: Path) -> None:
    """Copy a file of arrays, those in single precision rounded to half."""
    arrays = load_file(source)
    halved = {
        name: short(array) if array.dtype in (np.float16, np.float32) else array
        for name, array in arrays.items()
    }
    if not all(np.isfinite(array).all() for array in halved.values() if array.dtype == np.float16):
        raise SystemExit(f"{source} does not fit into half precision.")
    save_file(halved, target)
    target.chmod(0o644)  # safetensors makes private files


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--card", type=Path, required=True)
    options = parser.parse_args()
    run, small = RunFolder(options.run), RunFolder(options.out)
    if small.path.exists():
        shutil.rmtree(small.path)
    small.weights.mkdir(parents=True)
    names = [path.name for path in run.weights.glob("*_ema.safetensors")]
    beside = (run.fitted, run.prior, run.training_mean)
    for name in [*names, *(path.name for path in beside if path.is_file())]:
        in_half(run.weights / name, small.weights / name)
    shutil.copy(run.config, small.config)
    manifest = json.loads(run.manifest.read_text())
    manifest["checksums"] = {
        path: digest for path, digest in manifest["checksums"].items() if "/pet/" in path
    }
    small.manifest.write_text(json.dumps(manifest, indent=1) + "\n")
    if run.adjustment.is_file():
        shutil.copy(run.adjustment, small.adjustment)
    if run.calibration.is_file():
        calibration = json.loads(run.calibration.read_text())
        calibration["weights_sha256"] = small.weights_sha256()
        small.calibration.write_text(json.dumps(calibration, indent=1) + "\n")
    shutil.copy(options.card, small.path / "README.md")
    files = [path for path in small.path.rglob("*") if path.is_file()]
    print(f"{small.path}: {sum(path.stat().st_size for path in files) / 1e6:.1f} MB in {len(files)} files")


if __name__ == "__main__":
    main()
