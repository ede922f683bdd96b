"""Have the programs that emulated devices need: of the system, installed, or unpacked."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from packager import tools
from packager.device_setup.debian import Archive, Deb, unpack
from packager.devices.kit import PROGRAMS
from packager.errors import ToolError

INSTALL_TIMEOUT_S = 900
QUERY_TIMEOUT_S = 30
ARCHITECTURE = "amd64"
TRIPLET = "x86_64-linux-gnu"
LOADER = "/lib64/ld-linux-x86-64.so.2"

SANITIZERS = ("libasan8", "liblsan0", "libtsan2", "libubsan1")
"""Only run what is compiled with them, and are large."""
UNWANTED = (
    *SANITIZERS,
    *(f"{name}-arm64-cross" for name in (*SANITIZERS, "libhwasan0")),
    # The system's own C library is used, and headers come from the kit's sysroots.
    "libc6", "libc6-dev", "libc6-arm64-cross", "libc6-dev-arm64-cross", "linux-libc-dev-arm64-cross",
    # Only set a system up.
    "adduser", "debconf", "iso-codes", "libcap2-bin", "passwd",
)  # fmt: skip
EMULATORS = ("qemu-aarch64", "qemu-arm", "qemu-system-aarch64", "strace")
"""These start no other program of the kit."""


def missing() -> tuple[str, ...]:
    """Return which of the programs are not on the PATH."""
    return tuple(name for name in PROGRAMS if shutil.which(name) is None)


def can_install() -> bool:
    """Return whether this process may install Debian packages."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(names: Sequence[str]) -> None:
    """Install the Debian packages of some programs with the system's own apt.

    Raises:
        ToolError: apt could not.
    """
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    packages = sorted({PROGRAMS[name] for name in names})
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        tools.run_checked(
            ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120", *arguments],
            timeout_s=INSTALL_TIMEOUT_S,
            env=environment,
        )
    still = missing()
    if still:
        raise ToolError("apt-get", f"installed {packages}, yet {still} are not here", printed="")


def of_system() -> dict[str, str]:
    """Return where the programs are on the PATH, by name."""
    return {name: str(shutil.which(name)) for name in PROGRAMS}


def installed() -> tuple[tuple[str, str, str], ...]:
    """Return name, version and architecture of those of the packages that dpkg knows."""
    shown = "${db:Status-Status} ${Package} ${Version} ${Architecture}\\n"
    query = ["dpkg-query", "--show", f"--showformat={shown}", *sorted(set(PROGRAMS.values()))]
    # It complains about those that are not there: a program may come from elsewhere.
    lines = tools.run(query, timeout_s=QUERY_TIMEOUT_S).stdout.decode().splitlines()
    described = (line.split(" ") for line in lines)
    return tuple((n, v, a) for status, n, v, a in described if status == "installed")


def unpack_private(
    archive: Archive, downloads: Path, host: Path, *, names: Sequence[str] = tuple(PROGRAMS)
) -> tuple[Deb, ...]:
    """Unpack programs into a folder, with a script for each in its `run`.

    Returns:
        What was unpacked.

    Raises:
        ToolError: A package cannot be had.
    """
    packages = sorted({PROGRAMS[name] for name in names})
    debs = archive.fetch(packages, ARCHITECTURE, downloads, without=UNWANTED)
    unpack(debs, host)
    _prune(host)
    (host / "run").mkdir()
    for name in names:
        script = host / "run" / name
        script.write_text(_script(name))
        script.chmod(0o755)
    return debs


def private() -> dict[str, str]:
    """Return where `unpack_private` put the programs, by name, below the kit."""
    return {name: f"host/run/{name}" for name in PROGRAMS}


def _script(name: str) -> str:
    """Return a script that starts a program with the libraries that were unpacked with it."""
    here = '#!/bin/sh\nhere=$(dirname "$(readlink -f "$0")")/..\n'
    libraries = f'"$here/usr/lib/{TRIPLET}"'
    if name in EMULATORS:
        # Not by a variable: the emulated program would inherit it.
        start = f'exec {LOADER} --library-path {libraries} "$here/usr/bin/{name}" "$@"\n'
    else:
        start = (
            f"LD_LIBRARY_PATH={libraries}\n"
            'PATH="$here/usr/bin:$PATH"\n'
            "export LD_LIBRARY_PATH PATH\n"
            f'exec "$here/usr/bin/{name}" "$@"\n'
        )
    return here + start


def _prune(host: Path) -> None:
    """Remove what is large and never used: other emulators, link-time optimisers, headers."""
    for emulator in (host / "usr/bin").glob("qemu-*"):
        if emulator.name not in EMULATORS:
            emulator.unlink()
    for pattern in ("usr/bin/*-lto-dump-*", "usr/lib/gcc*/*/*/lto1"):
        for path in host.glob(pattern):
            path.unlink()
    shutil.rmtree(host / "usr/include")
