"""log.tsv: one row per logged value, so that any method's losses fit and a resumed run can cut its tail."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lightning_fabric.loggers import TensorBoardLogger

from relapet.errors import InputError
from relapet.files import write_text

_HEADER = "step\tname\tvalue\n"


class Log:
    """Append-only table with the columns step, name, value."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append the values of one step."""
        new = not self.path.exists()
        with self.path.open("a", encoding="utf-8") as stream:
            if new:
                stream.write(_HEADER)
            stream.writelines(f"{step}\t{name}\t{value:.8g}\n" for name, value in values.items())

    def cut_after(self, step: int) -> None:
        """Drop rows of later steps: they were logged after the checkpoint that training goes on from.

        Raises InputError where the file is no log.
        """
        if not self.path.exists():
            return
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)[1:]
            kept = [line for line in lines if line.endswith("\n") and int(line.split("\t", 1)[0]) <= step]
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path} is not the log of a training; move it away to go on.") from error
        write_text(self.path, _HEADER + "".join(kept))


def open_board(run: Path, step: int) -> TensorBoardLogger:
    """TensorBoard's files in a run folder; those of a broken-off run are told to hide what comes after ``step``.

    Raises InputError where no writer of such files is installed.
    """
    try:
        return TensorBoardLogger(run, name="tensorboard", version="", purge_step=step + 1)
    except ModuleNotFoundError as error:
        raise InputError(
            "train.tensorboard needs a package that is not here; install relapet[tensorboard], or set it to false."
        ) from error
