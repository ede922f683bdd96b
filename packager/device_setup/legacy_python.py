"""Python with tflite-runtime for 32-bit Arm: what an older handheld has in place of an app.

A folder that the emulator takes for the root of the device. tflite-runtime 2.14 wants
NumPy 1; no wheel of that exists for 32-bit Arm, so it is Debian's.
"""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from packager import tools
from packager.device_setup import debian, wheels
from packager.device_setup.debian import Deb
from packager.device_setup.wheels import Wheel

DEBIAN_NAME = "armhf"
"""What Debian calls 32-bit Arm with floating point."""
PYTHON = "usr/bin/python3.11"
MODULES = "usr/lib/python3/dist-packages"
LIBRARIES = "usr/lib/arm-linux-gnueabihf"
PACKAGES = (
    "libblas3", "libbz2-1.0", "libc6", "libexpat1", "libffi8", "libgcc-s1", "libgfortran5", "liblapack3",
    "liblzma5", "libpython3.11-minimal", "libpython3.11-stdlib", "libstdc++6", "python3-numpy",
    "python3.11-minimal", "zlib1g",
)  # fmt: skip
"""By name and without what they depend on: half of that would be for setting a system up."""
ALTERNATIVES = {"libblas.so.3": "blas/libblas.so.3", "liblapack.so.3": "lapack/liblapack.so.3"}
"""Links that Debian's `update-alternatives` makes where packages are installed."""
WHEEL = Wheel(
    name="tflite-runtime",
    version="2.14.0",
    tag="cp311-cp311-manylinux_2_34_armv7l",
    sha256="c4e66a74165b18089c86788400af19fa551768ac782d231a9beae2f6434f7949",
)

COMPILE_TIMEOUT_S = 600
UNCOMPILED = "python3.11 is not here to compile the modules: Python starts four times more slowly"


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What the folder was made of.

    Attributes:
        wheel: The file of `WHEEL`.
        problems: In words, what could not be had or done, and is not needed.
    """

    debs: tuple[Deb, ...]
    wheel: Path
    problems: tuple[str, ...]


def build(downloads: Path, into: Path) -> Fetched:
    """Fill a folder with Python, NumPy and tflite-runtime.

    Args:
        downloads: Receives packages and lists, 50 MB; the caller removes it.
        into: Receives 73 MB; new, or empty.

    Raises:
        ToolError: A package cannot be had, or is not the one that is pinned.
    """
    # A mirror that lacks a suite for so old a processor is no reason to do without it.
    archive = debian.open_archive_in_part(downloads / "apt", [DEBIAN_NAME])
    debs = archive.fetch_alone(PACKAGES, DEBIAN_NAME, downloads / "debs")
    debian.unpack(debs, into)
    (wheel,) = wheels.download([WHEEL], downloads / "wheels")
    wheels.extract(wheel, lambda name: f"{MODULES}/{name}", into)
    for name, leads_to in ALTERNATIVES.items():
        (into / LIBRARIES / name).symlink_to(leads_to)
    # NumPy's own, 5 MB.
    for tests in sorted((into / MODULES).rglob("tests")):
        shutil.rmtree(tests)
    compiled = _compile(into)
    said = (archive.problems, "" if compiled else UNCOMPILED)
    return Fetched(debs=debs, wheel=wheel, problems=tuple(words for words in said if words))


def _compile(into: Path) -> bool:
    """Compile all modules with this machine's Python 3.11, which writes the same for any processor.

    Returns:
        False where there is none.
    """
    own = sys.version_info[:2] == (3, 11)
    python = sys.executable if own else shutil.which("python3.11")
    if python is None:
        return False
    # By content and not by time, and without this folder's name: the same files every time.
    how: list[str | Path] = ["-q", "-s", into, "-p", "/", "--invalidation-mode", "unchecked-hash"]
    command = [python, "-I", "-m", "compileall", *how, into / "usr/lib"]
    tools.run_checked(command, timeout_s=COMPILE_TIMEOUT_S)
    return True
