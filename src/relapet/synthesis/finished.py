"""Which maps an earlier call has written already, so that a call that is repeated goes on where it was stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from relapet.errors import InputError
from relapet.files import read_json, sha256
from relapet.imaging.bids import NATIVE_SPACE, Visit, sidecar_path
from relapet.imaging.grid import SPACE
from relapet.synthesis.sample_config import SampleConfig
from relapet.synthesis.synthesizer import Synthesizer
from relapet.tracers import TracerSpec
from relapet.version import VERSION

REQUEST_KEY = "RequestSHA256"
"""Key of a map's sidecar: the checksum of all that decided it."""
_LABELS = {"MNI": SPACE, "native": NATIVE_SPACE}


def request_sha256(
    synthesizer: Synthesizer, sample: SampleConfig, spaces: Sequence[str], files: Iterable[Path]
) -> str:
    """Checksum of all that decides a visit's maps and tables: model, calibration, settings, images, version."""
    calibration = synthesizer.run.calibration
    told = {
        "Weights": synthesizer.weights_sha256,
        "Calibration": sha256(calibration) if calibration.is_file() else None,
        "Sample": sample.model_dump(mode="json"),
        "Spaces": sorted(spaces),
        "Files": [sha256(path) for path in files],
        "Version": VERSION,
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def is_done(out: Path, visit: Visit, tracer: TracerSpec, spaces: Sequence[str], decided_by: str) -> bool:
    """Whether the map and the table of a tracer are there in every space, made by the same request."""
    for space in (_LABELS[space] for space in spaces):
        path = visit.pet(out, tracer, "synth", space)
        there = path.is_file() and visit.voi_table(out, tracer, "synth", space).is_file()
        if not there or _decided_by(sidecar_path(path)) != decided_by:
            return False
    return True


def _decided_by(sidecar: Path) -> object:
    try:
        return read_json(sidecar).get(REQUEST_KEY)
    except InputError:
        return None  # a sidecar that cannot be read is no record: the map is made anew
