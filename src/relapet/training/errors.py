"""Why training cannot go on."""

from __future__ import annotations

from relapet.errors import RelapetError


class TrainingError(RelapetError):
    """Training cannot go on: what happened, what helps, and from where it can be resumed."""

    def __init__(self, what: str, mend: str, checkpoint: str | None = None) -> None:
        self.what, self.mend = what, mend
        go_on = f"resume from {checkpoint} with --resume" if checkpoint else "train anew"
        super().__init__(f"{what}; {mend}, and {go_on}.")

    def resumable_from(self, checkpoint: str | None) -> TrainingError:
        """The same, naming the last good checkpoint (None: there is none)."""
        return TrainingError(self.what, self.mend, checkpoint)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error is an accelerator's or the machine's memory running out."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
