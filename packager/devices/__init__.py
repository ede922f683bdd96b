"""Run a program on a device: put files there, run it, get files back.

A device is named on the command line as `kind` or `kind:where`, such as `host`,
`qemu-user:cortex-a53`, `qemu-system:cortex-a53`, `adb:SERIAL` or `ssh:USER@HOST`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from packager.validations import SimdCount


class Architecture(StrEnum):
    """The instruction set of a device, as `uname -m` names it."""

    X86_64 = "x86_64"
    AARCH64 = "aarch64"
    ARMV7 = "armv7l"


class Watch(StrEnum):
    """What to observe of a run, beside its output. Watching one thing at a time keeps it exact."""

    NOTHING = "nothing"
    INSTRUCTIONS = "instructions"
    """Count instructions between the program's markers."""
    SYSTEM_CALLS = "system-calls"
    """Record the system calls that the program makes."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """The counters when the program passed one of its markers.

    Attributes:
        tag: Which marker; see `packager.apps.marks`.
        exact: False where another thread of the program lived since the mark before, or a
            forked process of it passed this mark: then what was counted in between can lack
            instructions, and differs from run to run.
        instructions: Since the program began.
        simd: The same, by class; empty where the device's classes are not known.
    """

    tag: int
    exact: bool
    instructions: int
    simd: tuple[SimdCount, ...]


@dataclass(frozen=True, kw_only=True)
class CallTrace:
    """The system calls of one run.

    Attributes:
        source: What recorded them, such as `strace 6.1` or `qemu-aarch64 7.2.22 -strace`.
        counts: How often each call was made, by name, sorted.
        network: Each line of the raw record that creates or uses a socket of a network family
            (anything but AF_UNIX and AF_NETLINK counts; so does a socket of an unknown family).
        raw: The whole record, as it was written.
    """

    source: str
    counts: tuple[tuple[str, int], ...]
    network: tuple[str, ...]
    raw: bytes


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A program that ended on a device.

    Attributes:
        returncode: Its exit code; minus the number of the signal that killed it.
        marks: In order; empty unless instructions were watched by a plugin.
        calls: None unless system calls were watched.
        peak_memory_bytes: Of the program alone, at its highest; None where this device
            cannot tell.
        memory_limit_bytes: How much the program was allowed; None where there was no limit.
        out_of_memory: True where the device killed the program because it needed more.
        network_devices: Names of the device's network interfaces, `lo` included; None where
            that was not looked at.
    """

    returncode: int
    stdout: bytes
    stderr: bytes
    marks: tuple[Mark, ...] = ()
    calls: CallTrace | None = None
    peak_memory_bytes: int | None = None
    memory_limit_bytes: int | None = None
    out_of_memory: bool = False
    network_devices: tuple[str, ...] | None = None


class Device(Protocol):
    """Something that a program can be run on; a context manager that leaves nothing behind.

    Attributes:
        name: As on the command line, such as `qemu-user:cortex-a53`.
        description: In words, with versions, such as `Cortex-A53, emulated by qemu-aarch64 7.2.22`.
        architecture: Of the programs that it runs.
        emulated: True unless this is the silicon itself: only then is a time a time.
        clock_counts_instructions: True where the device's clock advances by one nanosecond
            for each instruction while these are watched, so that a program's own timing is an
            exact count.
        watches: What it can observe, `Watch.NOTHING` always among them.
    """

    name: str
    description: str
    architecture: Architecture
    emulated: bool
    clock_counts_instructions: bool
    watches: frozenset[Watch]

    def put(self, source: Path, name: str) -> None:
        """Copy a file into the device's folder, its permission to execute included.

        Raises:
            DeviceError: It could not be copied.
        """
        ...

    def run(self, argv: Sequence[str], *, timeout_s: float, watch: Watch = Watch.NOTHING) -> Ran:
        """Run a program in the device's folder to its end, whatever its exit code.

        Args:
            argv: The program, such as `./scan`, and its arguments; no shell reads them.
            timeout_s: After which the program is killed.
            watch: What to observe; one of `watches`.

        Raises:
            DeviceError: It did not end in time, or the device itself failed.
        """
        ...

    def get(self, name: str, destination: Path) -> None:
        """Copy a file back from the device's folder.

        Raises:
            DeviceError: It is not there.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
