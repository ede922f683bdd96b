"""Every error a user can meet, each with its own exit code.

An error says what went wrong, where (file and key, or operator and line), and what to
do next.
"""

import difflib
from collections.abc import Iterable
from enum import StrEnum
from typing import ClassVar

MORE_MEMORY = "Prune more, or choose a target with more memory."


class PackagerError(Exception):
    """Base of all errors shown to a user without a traceback."""

    exit_code: ClassVar[int] = 1

    def __reduce__(self) -> tuple[object, ...]:
        """Travel between processes as exit code and message: constructors differ."""
        return error_with, (self.exit_code, str(self))


def error_with(exit_code: int, message: str) -> PackagerError:
    """Return the error of the class that has `exit_code`, with a finished message."""
    known = {cls.exit_code: cls for cls in PackagerError.__subclasses__()}
    cls = known.get(exit_code, PackagerError)
    error = cls.__new__(cls)
    error.args = (message,)
    return error


class ConfigError(PackagerError):
    """A recipe, a target file or a command-line value is wrong."""

    exit_code = 2

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")
        self.where = where
        self.problem = problem


class MissingToolError(PackagerError):
    """A package or program that this step needs is not installed."""

    exit_code = 3

    def __init__(self, tool: str, *, needed_by: str, install: str) -> None:
        super().__init__(f"{needed_by} needs {tool!r}, which is not installed. {install}")
        self.tool = tool


class BudgetError(PackagerError):
    """The program does not fit the target."""

    exit_code = 4

    def __init__(
        self, what: str, *, measured: int, limit: int, unit: str, remedy: str = MORE_MEMORY
    ) -> None:
        over = measured - limit
        super().__init__(
            f"{what} is {measured:,} {unit}, {over:,} {unit} over the limit of {limit:,}. {remedy}"
        )
        self.measured = measured
        self.limit = limit


class ParityError(PackagerError):
    """The converted program does not answer as the original does."""

    exit_code = 5


class FallbackError(PackagerError):
    """An operator runs outside the target's fast path and the recipe does not allow it."""

    exit_code = 6


class ModelError(PackagerError):
    """The user's model cannot be loaded, or its weights are broken."""

    exit_code = 7

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")
        self.where = where
        self.problem = problem


class ExportError(PackagerError):
    """`torch.export` cannot capture the user's model.

    Attributes:
        operator: The operator that stopped it, such as `aten.nonzero.default`.
        where: File and line of the user's own code, such as `model.py:31`.
    """

    exit_code = 8

    def __init__(self, operator: str, *, where: str, problem: str) -> None:
        super().__init__(f"{where}: {operator} cannot be exported. {problem}")
        self.operator = operator
        self.where = where


class UnsupportedOperatorError(PackagerError):
    """The target's runtime lacks an operator that the model uses."""

    exit_code = 9

    def __init__(self, operator: str, *, runtime: str, where: str, advice: str) -> None:
        super().__init__(f"{where}: {runtime} has no {operator}. {advice}")
        self.operator = operator
        self.where = where


class DataError(PackagerError):
    """Samples or labels are missing, empty, overlapping or of the wrong shape."""

    exit_code = 10

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")
        self.where = where
        self.problem = problem


class StorageError(PackagerError):
    """A file could not be written: the disk is full, or the folder is not ours."""

    exit_code = 11


class BundleError(PackagerError):
    """A bundle is damaged, or is not a bundle."""

    exit_code = 12

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")
        self.where = where
        self.problem = problem


class PruneError(PackagerError):
    """The network cannot be pruned as the recipe asks."""

    exit_code = 13


class ConversionError(PackagerError):
    """A converter failed, or wrote something that its target cannot run."""

    exit_code = 14


class Fault(StrEnum):
    """Why an input is refused; the generated code of every language has the same names.

    They are looked for in this order, and the first one is reported. The number of a fault
    is its place, from 1: 0 stands for success.
    """

    UNKNOWN_VERSION = "unknown-version"
    """The contract is of a format that the code does not know."""
    WRONG_BIT_DEPTH = "wrong-bit-depth"
    """Pixels or samples are of another type than the contract's source."""
    WRONG_CHANNELS = "wrong-channels"
    """The frame has another number of values a pixel, or the signal other leads."""
    WRONG_SIZE = "wrong-size"
    """The frame's sides are not those of the contract, or do not hold its crop."""
    TRUNCATED = "truncated"
    """There are fewer or more bytes than the sides ask for."""
    WRONG_ORIENTATION = "wrong-orientation"
    """The EXIF orientation is not one of 1 to 8."""
    WRONG_PALETTE = "wrong-palette"
    """The palette is missing, is not needed, or has no colour for a pixel."""
    NOT_FINITE = "not-finite"
    """A sample or an output is NaN or infinite."""
    OUT_OF_RANGE = "out-of-range"
    """A sample is too large for the contract's resolution or scale."""
    FLAT_SIGNAL = "flat-signal"
    """A lead has no variation that it could be standardised by."""

    @property
    def number(self) -> int:
        """The status that generated code returns, from 1."""
        return list(Fault).index(self) + 1


class FrameError(PackagerError):
    """A frame, a signal or an output does not fit the contract."""

    exit_code = 15

    def __init__(self, fault: Fault, problem: str) -> None:
        super().__init__(f"{fault}: {problem}")
        self.fault = fault
        self.problem = problem


class ToolError(PackagerError):
    """A program that packager runs failed, hung or was killed."""

    exit_code = 16

    def __init__(self, program: str, problem: str, *, printed: str) -> None:
        said = f" It printed: {printed}" if printed else " It printed nothing."
        super().__init__(f"{program} {problem}.{said}")
        self.program = program
        self.problem = problem


class DeviceError(PackagerError):
    """A device did not do what it was told, or cannot be reached.

    Attributes:
        device: Its name, such as `qemu-user:cortex-a53`.
    """

    exit_code = 17

    def __init__(self, device: str, problem: str) -> None:
        super().__init__(f"{device}: {problem}")
        self.device = device
        self.problem = problem


class OfflineError(PackagerError):
    """A program that must never use a network reached for one."""

    exit_code = 18


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the sentence to append after an unknown `name`."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"Known: {', '.join(known)}."
