"""Python environments apart from this one, for packages that cannot share it.

Each is made once from a file of requirements that pins versions and hashes, and is kept in
the user's cache. Programs in it are started with `packager.tools` and talked to by files.
"""

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from packager import tools
from packager.errors import MissingToolError, ToolError
from packager.storage import storage_errors

PYTHON = Path("bin", "python")
MAKE_TIMEOUT_S = 60
INSTALL_TIMEOUT_S = 900
MISMATCH = "DO NOT MATCH THE HASHES"
"""What pip prints where a package is not the one that was pinned."""


@dataclass(frozen=True, kw_only=True)
class Pinned:
    """An environment, before it is made.

    Attributes:
        requirements: A file for pip: `name==version`, with hashes, one package a line.
        python: The version of Python that the packages are built for, such as `3.11`.
        needed_by: What cannot be done without it, for errors.
    """

    requirements: Path
    python: str
    needed_by: str

    def versions(self) -> dict[str, str]:
        """Return the version of each package by its name."""
        lines = self.requirements.read_text("utf-8").splitlines()
        pins = [line.rstrip("\\ ") for line in lines if line[:1].isalpha()]
        found = [Requirement(pin) for pin in pins]
        return {pin.name: str(pin.specifier).removeprefix("==") for pin in found}


TFLITE_LEGACY = Pinned(
    requirements=Path(__file__).parent / "runtimes" / "tflite_legacy_requirements.txt",
    python="3.11",
    needed_by="Running a program for 32-bit handhelds",
)


def default_root() -> Path:
    """Return the folder of the user's cache that holds environments."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "packager" / "environments"


def interpreter(pinned: Pinned) -> Path:
    """Return the Python of an environment, which is made first where it is not here yet.

    Another process that makes the same one is waited for. What was not made whole is not
    there.

    Raises:
        MissingToolError: The version of Python is not here, or the packages cannot be had.
        ToolError: A package is not the one that was pinned.
        StorageError: The cache folder cannot be written.
    """
    place = default_root() / _name(pinned)
    with storage_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        with _locked(place.parent / f"{place.name}.lock"):
            if not place.is_dir():
                _make(place, pinned)
    return place / PYTHON


def _name(pinned: Pinned) -> str:
    digest = hashlib.sha256(pinned.requirements.read_bytes()).hexdigest()[:16]
    stem = pinned.requirements.stem.removesuffix("_requirements")
    return f"{stem}-{digest}-python{pinned.python}-{platform.machine()}"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time make an environment; the kernel frees it if that one dies."""
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _make(place: Path, pinned: Pinned) -> None:
    work = place.parent / f"{place.name}.work"
    shutil.rmtree(work, ignore_errors=True)  # left by a run that was killed
    try:
        # Without pip: ours installs into it, and its 12 MB are not copied.
        command: list[str | Path] = [_base(pinned), "-m", "venv", "--without-pip", work]
        tools.run_checked(command, timeout_s=MAKE_TIMEOUT_S)
        _install(work / PYTHON, pinned)
        work.replace(place)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _base(pinned: Pinned) -> Path:
    """Return a Python of the version that the packages are built for."""
    if pinned.python == f"{sys.version_info.major}.{sys.version_info.minor}":
        return Path(sys.executable)
    return tools.find(
        f"python{pinned.python}",
        needed_by=pinned.needed_by,
        install=f"Its packages exist for Python {pinned.python}: install that beside this one.",
    )


def _install(python: Path, pinned: Pinned) -> None:
    command: list[str | Path] = [
        sys.executable, "-m", "pip", "--python", python, "--no-input", "--disable-pip-version-check",
        "install", "--quiet", "--require-hashes", "--no-deps", "--only-binary", ":all:",
        "--requirement", pinned.requirements,
    ]  # fmt: skip
    # A file of constraints is about the environment that this program runs in.
    environment = {**os.environ, "PIP_CONSTRAINT": ""}
    finished = tools.run(command, timeout_s=INSTALL_TIMEOUT_S, env=environment)
    if finished.returncode == 0:
        return
    printed = (finished.stderr.strip() or finished.stdout.strip()).decode(errors="replace")
    if MISMATCH in printed:
        problem = f"{tools.ended(finished)}: a package is not the one that is pinned"
        raise ToolError("pip", problem, printed=printed)
    packages = " ".join(f"{name}=={version}" for name, version in pinned.versions().items())
    last = printed.rpartition("\n")[2].rstrip(".")
    raise MissingToolError(
        packages,
        needed_by=pinned.needed_by,
        install=f"pip fetches it once, and could not: {last}. "
        "Run the same command where a package index can be reached.",
    )
