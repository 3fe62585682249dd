"""What the cases of a comparison need not do twice: volumes read and the linear prior fitted, by whoever comes first.

Both follow from the derivative, the split and the settings of the data alone, and files of the cache are named by what
they were made from. So they are handed on: as links, each case's run folder stays whole by itself.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from relapet.data.data_config import DataConfig
from relapet.files import atomic_path, read_json, write_json
from relapet.runs import RunFolder


class SharedMaterial:
    """A folder with the cache that all cases share, and a linear prior for each kind of data settings."""

    def __init__(self, folder: Path) -> None:
        self.cache = folder / "cache"
        self.folder = folder

    @contextmanager
    def volumes(self, run: RunFolder) -> Iterator[None]:
        """Have the run folder's cache hold what others have read; what is read within goes to the others."""
        with self._alone("cache"):
            _link_all(self.cache, run.cache)
            yield
            _link_all(run.cache, self.cache)

    def prior(self, run: RunFolder, data: DataConfig, fit: Callable[[], float]) -> float:
        """Have the run folder hold the linear prior of these settings, fitted by ``fit`` if nobody has done so.

        Returns the seconds of the fit, whoever made it.
        """
        mark = _mark(data)
        kept, cost = self.folder / f"prior-{mark}.safetensors", self.folder / f"prior-{mark}.json"
        with self._alone(mark):
            if not cost.is_file():
                run.prior.unlink(missing_ok=True)  # of a case that was killed: its seconds are not known
                seconds = fit()
                _link_all(run.cache, self.cache)
                _copy(run.prior, kept)
                write_json(cost, {"fit_seconds": seconds})
            elif not run.prior.is_file():
                _link_all(self.cache, run.cache)
                _copy(kept, run.prior)
        return float(read_json(cost)["fit_seconds"])

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Wait until no other case is at it; the system lets go of what a process holds that is killed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{name}.lock").open("w") as stream:
            with suppress(OSError):  # a file system without locks: then the same may be done twice
                fcntl.flock(stream, fcntl.LOCK_EX)
            yield


def _mark(data: DataConfig) -> str:
    """What the prior follows from, in short: of the variation only which MRI is withheld at times."""
    told: dict[str, Any] = data.model_dump(mode="json", exclude={"augment"})
    told["withheld"] = [data.augment.drop_t1w > 0, data.augment.drop_flair > 0]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]


def _link_all(source: Path, target: Path) -> None:
    """Have ``target`` hold every finished array of ``source``: the same file, or a copy where no link can be made."""
    if not source.is_dir():
        return
    target.mkdir(parents=True, exist_ok=True)
    for path in source.glob("[!.]*.npy"):
        try:
            os.link(path, target / path.name)
        except FileExistsError:
            continue
        except OSError:
            _copy(path, target / path.name)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
