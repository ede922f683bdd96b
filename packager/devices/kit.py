"""The device kit: what `packager setup-device` put on this machine, and where.

<root>/kit.json                 what was installed, by version and SHA-256
<root>/sysroot/<architecture>/  headers and libraries to build and run programs with
<root>/runtime/<runtime>/<architecture>/   include/ (ExecuTorch only) and lib/
<root>/python/armv7l/           sysroot with Python and tflite-runtime, for 32-bit handhelds
<root>/kernel/                  vmlinuz and busybox for the emulated machine
<root>/plugin/count.so          counts instructions inside the emulator
<root>/host/                    programs unpacked without root: emulator, compiler
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from packager.artifacts import Runtime
from packager.cache import decode
from packager.devices import Architecture
from packager.errors import MissingToolError
from packager.kit_record import KIT_FORMAT, Record

PACKAGE = Path(__file__).parent.parent
RECORD = "kit.json"
FOLDER_VARIABLE = "PACKAGER_DEVICE_KIT"
INSTALL = "Run `packager setup-device qemu`."
NAME = "device kit"

SOURCES = (
    "device_setup/lock.json", "devices/cpus.toml", "devices/plugin/count.c",
    "device_setup/probe/known.tflite", "device_setup/probe/probe.c", "device_setup/probe/probe.py",
)  # fmt: skip
"""Files of this package."""

PROGRAMS = {
    "qemu-aarch64": "qemu-user",
    "qemu-arm": "qemu-user",
    "qemu-system-aarch64": "qemu-system-arm",
    "aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu",
    "gcc": "gcc",
    "g++": "g++",
    "strace": "strace",
}
"""The programs that emulated devices need, each with the Debian package that brings it."""


def default_root() -> Path:
    """Return where the kit is: the variable's folder, or one in the user's cache."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "packager" / "device-kit"


@dataclass(frozen=True, kw_only=True)
class Kit:
    """A kit that is complete, as its record says."""

    root: Path
    record: Record

    def program(self, name: str) -> Path:
        """Return the program to start for one of `PROGRAMS`.

        Where it lies in the kit it is a script that finds its own libraries and compilers.
        Compilers want `--sysroot` with `sysroot(architecture)`.

        Raises:
            MissingToolError: It has gone from this machine.
        """
        place = shutil.which(self.root / self.record.programs[name])
        if place is None:
            raise MissingToolError(name, needed_by="An emulated device", install=INSTALL)
        return Path(place)

    def sysroot(self, architecture: Architecture) -> Path:
        """Return the folder that holds `usr/include` and `usr/lib` of an architecture."""
        return self.root / "sysroot" / architecture

    def runtime(self, runtime: Runtime, architecture: Architecture) -> Path:
        """Return the folder that holds `lib/`, and `include/`, of a runtime."""
        return self.root / "runtime" / runtime / architecture

    @property
    def kernel(self) -> Path:
        """The folder with `vmlinuz` and `busybox` for the emulated machine."""
        return self.root / "kernel"

    @property
    def plugin(self) -> Path:
        """The library that counts instructions inside the emulator."""
        return self.root / "plugin" / "count.so"


def open_kit(root: Path | None = None) -> Kit:
    """Return the kit in a folder, `default_root` unless another is named.

    Raises:
        MissingToolError: There is none, or another version of this program made it.
    """
    place = root or default_root()
    record = read_record(place)
    if record is None:
        raise MissingToolError(NAME, needed_by="An emulated device", install=INSTALL)
    return Kit(root=place, record=record)


def source_digest() -> str:
    """Return the SHA-256 of all that a kit is made by: the lock, the plugin, and what is tried.

    With any of them changed, a kit must be made anew.
    """
    total = hashlib.sha256()
    for name in SOURCES:
        total.update(hashlib.sha256((PACKAGE / name).read_bytes()).digest())
    return total.hexdigest()


def read_record(root: Path) -> Record | None:
    """Return what `kit.json` says; None unless a complete kit of this version is there."""
    try:
        record = decode(Record, json.loads((root / RECORD).read_text("utf-8")))
    except (OSError, ValueError):
        return None
    current = record.format == KIT_FORMAT and record.source_sha256 == source_digest()
    complete = all((root / name).is_dir() for name in record.folders)
    return record if current and complete else None
