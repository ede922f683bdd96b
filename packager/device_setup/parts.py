"""The parts of a device kit that are fetched: sysroots, runtimes, a kernel, programs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from packager.artifacts import Runtime
from packager.device_setup import debian, legacy_python, programs, wheels
from packager.device_setup.debian import Archive, Deb
from packager.device_setup.lock import Lock
from packager.device_setup.wheels import Wheel
from packager.devices import Architecture
from packager.storage import write_whole

DEBIAN_NAMES = {Architecture.AARCH64: "arm64", Architecture.X86_64: "amd64"}
LIBRARIES = (
    "libc6-dev", "libmd-dev", "libpng-dev", "libstdc++6", "nlohmann-json3-dev", "zlib1g-dev",
)  # fmt: skip
"""What a sysroot is made of, beside all that these depend on."""
CPP_HEADERS = "libstdc++-12-dev"
"""A cross compiler brings its own; the host's looks for them in the sysroot."""

KERNEL = "linux-image-arm64"
"""Depends on the newest kernel, whose name holds its version."""
BUSYBOX = "busybox-static"

RUNTIMES = {"executorch": Runtime.EXECUTORCH, "ai-edge-litert": Runtime.LITERT}
COUNT = 6
"""Of parts that every kit has."""

UNUSED_LIBRARIES = ("_etdump.so", "_openvino.so", "_qnn.so")
"""ExecuTorch's backends for accelerators of a PC and of some phones, and its own profiler."""


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What one part of a kit was made of.

    Attributes:
        part: Its folder below the kit, such as `sysroot/aarch64`.
        problems: In words, what could not be had or done, and is not needed.
    """

    part: str
    debs: tuple[Deb, ...] = ()
    wheels: tuple[tuple[Wheel, Path], ...] = ()
    problems: tuple[str, ...] = ()


def fetch(stage: Path, downloads: Path, lock: Lock, *, private: bool) -> Iterator[Fetched]:
    """Fetch the parts one after the other into `stage`: `COUNT` of them, and the programs.

    Args:
        stage: The kit that is being made.
        downloads: Receives what is fetched; the caller removes it.
        lock: Names the wheels.
        private: Whether to unpack the programs into the kit as well.

    Raises:
        ToolError: Something cannot be had, or is not what the lock names.
    """
    archive = debian.open_archive(downloads / "apt", sorted(DEBIAN_NAMES.values()))
    for architecture in DEBIAN_NAMES:
        yield _sysroot(archive, architecture, stage, downloads)
        yield _runtimes(lock, architecture, stage, downloads)
    yield _kernel(archive, stage, downloads)
    yield _python(stage, downloads)
    if private:
        yield _private_programs(archive, stage, downloads)


def _sysroot(archive: Archive, architecture: Architecture, stage: Path, downloads: Path) -> Fetched:
    """Unpack the headers and libraries that programs are built with, and run with."""
    own = (CPP_HEADERS,) if architecture is Architecture.X86_64 else ()
    part = f"sysroot/{architecture}"
    names, into = (*LIBRARIES, *own), downloads / part
    debs = archive.fetch(names, DEBIAN_NAMES[architecture], into, without=programs.SANITIZERS)
    debian.unpack(debs, stage / part)
    return Fetched(part=part, debs=debs)


def _runtimes(lock: Lock, architecture: Architecture, stage: Path, downloads: Path) -> Fetched:
    """Take libraries and headers of each runtime out of its wheel."""
    wanted = lock.wheels[architecture]
    paths = wheels.download(wanted, downloads / "wheels")
    fetched = tuple(zip(wanted, paths, strict=True))
    for wheel, path in fetched:
        wheels.extract(path, _place, stage / "runtime" / RUNTIMES[wheel.name] / architecture)
    return Fetched(part=f"runtime/{architecture}", wheels=fetched)


def _place(name: str) -> str | None:
    """Return where a file of a wheel goes in a runtime's folder; None where it is not used."""
    path = PurePosixPath(name)
    if path.parts[:2] == ("executorch", "include"):
        return str(path.relative_to("executorch"))
    if path.match("*.dist-info/licenses/LICENSE"):
        return "LICENSE"
    unused = name.endswith(UNUSED_LIBRARIES)
    library = path.match("executorch/lib/*.so") or path.match("ai_edge_litert/libLiteRt.so")
    return f"lib/{path.name}" if library and not unused else None


def _kernel(archive: Archive, stage: Path, downloads: Path) -> Fetched:
    """Take a kernel, and a shell that needs no libraries, for the emulated machine."""
    debian_name = DEBIAN_NAMES[Architecture.AARCH64]
    newest, *_ = archive.depends(KERNEL, debian_name)
    debs = archive.fetch_alone([newest, BUSYBOX], debian_name, downloads / "kernel")
    for deb in debs:
        is_shell = deb.name == BUSYBOX
        wanted, name = ("bin/busybox", "busybox") if is_shell else ("boot/vmlinuz", "vmlinuz")
        write_whole(stage / "kernel" / name, debian.read_member(deb, wanted))
    return Fetched(part="kernel", debs=debs)


def _python(stage: Path, downloads: Path) -> Fetched:
    """Make the root of a 32-bit device that has Python and tflite-runtime."""
    part = "python/armv7l"
    made = legacy_python.build(downloads / part, stage / part)
    fetched = ((legacy_python.WHEEL, made.wheel),)
    return Fetched(part=part, debs=made.debs, wheels=fetched, problems=made.problems)


def _private_programs(archive: Archive, stage: Path, downloads: Path) -> Fetched:
    """Unpack emulators and compilers into the kit."""
    debs = programs.unpack_private(archive, downloads / "host", stage / "host")
    return Fetched(part="host", debs=debs)
