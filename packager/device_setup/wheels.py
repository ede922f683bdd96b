"""Fetch Python wheels for any architecture, and take files out of them.

A wheel must be, byte for byte, the one that the lock names: else it is refused.
"""

import os
import shutil
import sys
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from packager import tools
from packager.artifacts import File
from packager.errors import MissingToolError, ToolError

PIP_TIMEOUT_S = 600
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, ValueError)
CLASHES = (FileExistsError, IsADirectoryError, NotADirectoryError)
"""What comes of names that are given twice, or as a file and as a folder."""
MAX_FILE_BYTES = 256 * 2**20
"""Of one file out of a wheel: the largest that is used has 11 MB."""


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A wheel, as the lock names it.

    Attributes:
        tag: Its last part, such as `cp311-cp311-manylinux_2_28_aarch64`.
    """

    name: str
    version: str
    tag: str
    sha256: str

    @property
    def file_name(self) -> str:
        """The name of its file, which its package's name and tag make up."""
        return f"{self.name.replace('-', '_')}-{self.version}-{self.tag}.whl"


def download(wheels: Sequence[Wheel], into: Path) -> tuple[Path, ...]:
    """Download wheels as pip is set to do it here; return where they are, in order.

    Raises:
        MissingToolError: This Python has no pip.
        ToolError: One cannot be had, or is not the one that the lock names.
    """
    into.mkdir(parents=True, exist_ok=True)
    for wheel in wheels:
        requirements = into / "requirements.txt"
        requirements.write_text(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
        _pip(wheel, requirements, into)
        requirements.unlink()
    return tuple(_verified(wheel, into / wheel.file_name) for wheel in wheels)


def _pip(wheel: Wheel, requirements: Path, into: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    only = ["--no-deps", "--only-binary=:all:", "--require-hashes", *_platform(wheel.tag)]
    # A file of constraints holds other packages, or this one in the version for this machine.
    environment = {**os.environ, "PIP_CONSTRAINT": ""}
    finished = tools.run(
        [*command, *only, "--dest", into, "--requirement", requirements],
        timeout_s=PIP_TIMEOUT_S,
        env=environment,
    )
    said = finished.stderr.decode(errors="replace").strip()[-tools.SHOWN_BYTES :]
    if "No module named pip" in said:
        install = f"{sys.executable} -m ensurepip"
        raise MissingToolError("pip", needed_by="Fetching wheels", install=install)
    if finished.returncode != 0:
        problem = f"{tools.ended(finished)} while it fetched {wheel.name} {wheel.version}"
        raise ToolError("pip download", problem, printed=said)


def _platform(tag: str) -> list[str]:
    """Return pip's options for a tag: each platform in it must be named."""
    interpreter, abi, platforms = tag.split("-")
    if platforms == "any":
        return []
    major, minor = interpreter[2:3], interpreter[3:]
    named = [f"--platform={platform}" for platform in platforms.split(".")]
    return [f"--python-version={major}.{minor}", f"--abi={abi}", *named]


def _verified(wheel: Wheel, path: Path) -> Path:
    found = File.of(path).sha256
    if found != wheel.sha256:
        problem = f"has the SHA-256 {found}, and the lock wants {wheel.sha256}"
        raise ToolError(wheel.file_name, problem, printed="")
    return path


def extract(wheel: Path, choose: Callable[[str], str | None], into: Path) -> tuple[Path, ...]:
    """Take files out of a wheel; return where they are, in the wheel's order.

    A wheel is an archive from elsewhere: whatever would lie outside `into` is refused, and
    nothing in it becomes a link.

    Args:
        wheel: Its file.
        choose: Given a name in the wheel, says the name below `into`; None leaves it out.
        into: Created where it is missing.

    Raises:
        ToolError: The wheel is damaged, or names a place outside.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            chosen = [(member, choose(member.filename)) for member in archive.infolist()]
            return tuple(
                _extract(archive, member, _inside(into, name))
                for member, name in chosen
                if name is not None and not member.is_dir()
            )
    except (*DAMAGED, *CLASHES) as error:
        raise ToolError(wheel.name, f"cannot be unpacked: {error}", printed="") from None


def _inside(into: Path, name: str) -> Path:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name:
        raise ValueError(f"it holds {name!r}, which would lie outside")
    return into.joinpath(*parts)


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, place: Path) -> Path:
    if member.file_size > MAX_FILE_BYTES:
        raise ValueError(f"{member.filename} has {member.file_size} bytes")
    place.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, place.open("xb") as sink:
        shutil.copyfileobj(source, sink)
    return place
