"""A small device kit, for tests that start no program."""

import json
from pathlib import Path

from packager.cache import encode
from packager.device_setup.setup import contents_of
from packager.devices.kit import PROGRAMS, RECORD, source_digest
from packager.kit_record import KIT_FORMAT, Contents, Emulator, Item, Pinned, Record

EMULATOR = Emulator(
    version="7.2.22",
    counts=True,
    boots=True,
    needs_cpuinfo=True,
    exact_cpus=("cortex-a53",),
    faults=("-cpu max computes a wrong answer to the known int8 network",),
)


def item(*, name: str = "zlib1g", pinned: Pinned = Pinned.EQUAL) -> Item:
    return Item(
        name=name,
        version="1:1.2.13",
        architecture="arm64",
        part="sysroot/aarch64",
        sha256="a" * 64,
        size_bytes=82744,
        pinned=pinned,
    )


def record(*, folders: dict[str, Contents], packages: tuple[Item, ...] = (item(),)) -> Record:
    return Record(
        format=KIT_FORMAT,
        source_sha256=source_digest(),
        programs={name: f"host/run/{name}" for name in PROGRAMS},
        packages=packages,
        problems=(),
        folders=folders,
        emulator=EMULATOR,
    )


def fill(root: Path) -> None:
    """Put programs and a library into an empty kit."""
    for name in PROGRAMS:
        place = root / "host/run" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("#!/bin/sh\n")
        place.chmod(0o755)
    library = root / "sysroot/aarch64/usr/lib/libz.so.1"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"library")
    library.with_name("libz.so").symlink_to("libz.so.1")


def write(root: Path, *, packages: tuple[Item, ...] = (item(),)) -> Record:
    """Write a whole kit; return its record."""
    fill(root)
    folders = {name: contents_of(root / name) for name in ("host", "sysroot")}
    written = record(folders=folders, packages=packages)
    (root / RECORD).write_text(json.dumps(encode(written)))
    return written
