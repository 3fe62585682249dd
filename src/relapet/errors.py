"""The errors a user may meet: each message is one sentence that names the file or option and the mend."""

from __future__ import annotations


class RelapetError(Exception):
    """Base of every error that relapet raises on purpose."""


class InputError(RelapetError):
    """The call or its input is unusable as a whole; nothing was written (exit status 2)."""


class SubjectError(RelapetError):
    """One subject cannot be processed; the others go on (exit status 1)."""


class VolumeError(SubjectError):
    """A volume on disk is unreadable or is not what the step needs."""


class Stopped(RelapetError):
    """A signal ended the work early; what was done until then is saved (exit status 128 + signal)."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


class LeakError(RelapetError):
    """A method scored above what its inputs allow: test data must have leaked into its training."""
