"""The packages that the device kit is pinned to, by version and SHA-256."""

import json
from dataclasses import dataclass
from pathlib import Path

from packager import tools
from packager.cache import decode
from packager.device_setup.debian import Deb
from packager.device_setup.wheels import Wheel
from packager.errors import ToolError
from packager.kit_record import Pinned

PLACE = Path(__file__).with_name("lock.json")
COMPARE_TIMEOUT_S = 30


@dataclass(frozen=True, kw_only=True)
class PinnedDeb:
    """A Debian package, as the lock names it."""

    name: str
    architecture: str
    version: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Lock:
    """What a kit is made of.

    Wheels must be these very files. Debian's archive holds one version of a package at a
    time, and replaces it for reasons of security: what it has instead is compared and said.

    Attributes:
        release: Debian's, such as `bookworm`.
        wheels: By the architecture that they run on.
    """

    release: str
    debian: tuple[PinnedDeb, ...]
    wheels: dict[str, tuple[Wheel, ...]]


def read(place: Path = PLACE) -> Lock:
    """Return the lock that this version of packager comes with."""
    return decode(Lock, json.loads(place.read_text("utf-8")))


def compare(lock: Lock, deb: Deb) -> Pinned:
    """Say how a package that was fetched compares with the lock.

    Raises:
        ToolError: It has the pinned version and another content.
    """
    pinned = find(lock, deb.name, deb.architecture)
    if pinned and pinned.version == deb.version and pinned.sha256 != deb.sha256:
        wanted = f"and the lock wants {pinned.sha256} of {pinned.version}"
        raise ToolError(deb.path.name, f"has the SHA-256 {deb.sha256}, {wanted}", printed="")
    return compare_version(pinned, deb.version)


def compare_version(pinned: PinnedDeb | None, version: str) -> Pinned:
    """Say how a version compares with that of the lock."""
    if pinned is None:
        return Pinned.UNKNOWN
    if pinned.version == version:
        return Pinned.EQUAL
    asked = ["dpkg", "--compare-versions", version, "gt", pinned.version]
    newer = tools.run(asked, timeout_s=COMPARE_TIMEOUT_S).returncode == 0
    return Pinned.NEWER if newer else Pinned.OLDER


def find(lock: Lock, name: str, architecture: str) -> PinnedDeb | None:
    """Return what the lock says about a package; None where it does not name it."""
    for pinned in lock.debian:
        if (pinned.name, pinned.architecture) == (name, architecture):
            return pinned
    return None
