"""What a device kit is made of and what its emulator can do, as its `kit.json` says."""

from dataclasses import dataclass
from enum import StrEnum

KIT_FORMAT = 1
"""A kit of another one is made anew: raise it where kits of the same sources change."""


class Pinned(StrEnum):
    """How what was installed compares with the lock."""

    EQUAL = "as pinned"
    NEWER = "newer than pinned"
    OLDER = "older than pinned"
    UNKNOWN = "not pinned"
    """The lock does not name it: a kernel's name changes with it, as do those of libraries."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """A package that the kit, or this machine for the kit's sake, holds.

    Attributes:
        part: Where it went, such as `sysroot/aarch64`; `system` where the system has it.
        sha256: Of the file that was fetched; None where the system's own apt fetched it.
        size_bytes: Of that file.
    """

    name: str
    version: str
    architecture: str
    part: str
    sha256: str | None
    size_bytes: int | None
    pinned: Pinned


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What is in one folder of the kit.

    Attributes:
        sha256: Over names, kinds and contents of all its files.
    """

    files: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Emulator:
    """What the emulator here can do, found out by trying.

    Attributes:
        version: Of QEMU.
        counts: True where it takes the plugin, and two runs give the same counts.
        boots: True where the emulated machine starts, runs a program and gives the answer.
        needs_cpuinfo: True where runtimes crash unless the sysroot has a /proc/cpuinfo.
        exact_cpus: Processors on which a network gave exactly the known answer.
        faults: In words, what it does wrongly, also on processors that are not offered.
    """

    version: str
    counts: bool
    boots: bool
    needs_cpuinfo: bool
    exact_cpus: tuple[str, ...]
    faults: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Record:
    """What `kit.json` says.

    Attributes:
        format: `KIT_FORMAT`.
        source_sha256: Of what packager made it by, its lock above all.
        programs: By name: relative to the kit, or absolute where the system has them.
        problems: In words, what could not be had or done, and is not needed.
        folders: By name below the kit.
    """

    format: int
    source_sha256: str
    programs: dict[str, str]
    packages: tuple[Item, ...]
    problems: tuple[str, ...]
    folders: dict[str, Contents]
    emulator: Emulator | None
