"""The errors a user can meet, each with the way out in its message.

::

    PseudoLabelError (ValueError)
    ├── FileError             names what is there, what should be, and what to do
    │   ├── InputError        a file of the data set is missing, broken or odd
    │   │   └── TooLargeError     it does not fit into memory, not even alone
    │   ├── UnknownDatasetError   no reader goes by that name
    │   └── CheckpointError   weights are missing, truncated, or of another model
    ├── ModelError            a model does not load, and no file of it says why
    ├── ConfigError           the configuration asks for something that cannot be
    ├── AugmentationError     a captioner gave nothing usable
    │   ├── UnusableAnswerError   the model answers, but not as it was asked
    │   └── EndpointError     its server refuses, or is not there
    ├── StoreError            a product on disk is missing or damaged
    │   ├── NoRoomError       the disk is full, or may not be written to
    │   └── ObjectStoreError  an object store refuses, lacks an object, or is not there
    └── RunLockedError        another run writes to the same output
        └── LockLostError     this one was silent for too long, and another took over

An ``InputError`` or an ``UnusableAnswerError`` skips its video and the run goes on, and so
does an error of a model or a rule that one video brings about. Every other error of this list, and
what the machine is at fault for (memory, a device, a disk, the network), ends the stage.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


class PseudoLabelError(ValueError):
    """Base of every error that is the input's fault, not a bug of the project."""


class FileError(PseudoLabelError):
    """A file or folder is not what it should be.

    Args:
        path: the file or folder at fault.
        found: what is there, or what went wrong reading it.
        expected: what should have been there.
        remedy: what the user can do.
    """

    def __init__(self, path: Path | str, found: str, expected: str, remedy: str) -> None:
        self.path = str(path)
        self.found = found
        self.expected = expected
        self.remedy = remedy
        super().__init__(f"{self.path}: {found}; expected {expected}; {remedy}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.found, self.expected, self.remedy), self.__dict__


class InputError(FileError):
    """A file that the user gave is missing, broken or not as its layout says.

    Args:
        path, found, expected, remedy: as of :class:`FileError`.
        missing: nothing is there at all, as of a split that the data set does not have.
    """

    def __init__(
        self, path: Path | str, found: str, expected: str, remedy: str, *, missing: bool = False
    ) -> None:
        self.missing = missing
        super().__init__(path, found, expected, remedy)


class UnknownDatasetError(FileError):
    """No reader goes by that name."""


class TooLargeError(InputError):
    """One frame, box or sentence alone needs more memory than there is."""


class ConfigError(PseudoLabelError):
    """The configuration names something that does not exist or does not fit together."""


class CheckpointError(FileError):
    """Weights are missing, truncated, of another model, or not the ones asked for."""


class ModelError(PseudoLabelError):
    """A model does not load, for a reason that its files do not give."""


class AugmentationError(PseudoLabelError):
    """A captioner gave no usable expressions."""


class UnusableAnswerError(AugmentationError):
    """A model answered an expression with what is not the JSON asked for, every time."""


class EndpointError(AugmentationError):
    """A captioner's server refuses or cannot be reached, as it will for the next expression."""


class StoreError(PseudoLabelError):
    """A product of an earlier stage is missing, damaged or of another format version."""


class NoRoomError(StoreError):
    """The disk is full, or the folder may not be written to."""


class ObjectStoreError(StoreError):
    """An object store refuses or cannot be reached, or an object is missing or damaged."""


class RunLockedError(PseudoLabelError):
    """Another run holds the lock of the same output folder."""


class LockLostError(RunLockedError):
    """The process held the lock of an output folder, and another has it by now."""
