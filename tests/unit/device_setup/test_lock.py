import re
import tomllib
from pathlib import Path

import pytest

from packager import tools
from packager.device_setup import lock, parts
from packager.device_setup.debian import Deb
from packager.device_setup.lock import Lock, PinnedDeb
from packager.devices import Architecture
from packager.errors import ToolError
from packager.kit_record import Pinned
from packager.tools import Finished
from tests.conftest import REPOSITORY

PINS = Lock(
    release="bookworm",
    debian=(
        PinnedDeb(
            name="zlib1g", architecture="arm64", version="1:1.2.13", sha256="a" * 64, size_bytes=9
        ),
    ),
    wheels={},
)


def deb(*, name: str = "zlib1g", version: str = "1:1.2.13", sha256: str = "a" * 64) -> Deb:
    return Deb(
        name=name,
        version=version,
        architecture="arm64",
        path=Path(f"{name}.deb"),
        sha256=sha256,
        size_bytes=9,
    )


@pytest.fixture
def newer_than(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Let dpkg find every version that begins with 2 the newer one; record what it is asked."""
    asked = []

    def run(argv: list[str], *, timeout_s: float) -> Finished:
        assert timeout_s > 0
        asked.append(argv)
        return Finished(returncode=0 if argv[2].startswith("2") else 1, stdout=b"", stderr=b"")

    monkeypatch.setattr(tools, "run", run)
    return asked


def test_the_pinned_file_is_as_pinned(newer_than: list[list[str]]) -> None:
    assert lock.compare(PINS, deb()) is Pinned.EQUAL
    assert newer_than == []


@pytest.mark.parametrize(("version", "said"), [("2.0", Pinned.NEWER), ("1.0", Pinned.OLDER)])
def test_another_version_is_newer_or_older(
    newer_than: list[list[str]], version: str, said: Pinned
) -> None:
    assert lock.compare(PINS, deb(version=version, sha256="b" * 64)) is said
    assert newer_than == [["dpkg", "--compare-versions", version, "gt", "1:1.2.13"]]


def test_a_package_that_the_lock_does_not_name_is_not_pinned() -> None:
    assert lock.compare(PINS, deb(name="zlib2g")) is Pinned.UNKNOWN


def test_the_pinned_version_with_another_content_is_refused() -> None:
    with pytest.raises(ToolError) as caught:
        lock.compare(PINS, deb(sha256="b" * 64))
    assert str(caught.value) == (
        f"zlib1g.deb has the SHA-256 {'b' * 64}, and the lock wants {'a' * 64} of 1:1.2.13. "
        "It printed nothing."
    )


def test_the_lock_pins_everything_by_sha256() -> None:
    pins = lock.read()
    digests = [pin.sha256 for pin in pins.debian]
    digests += [wheel.sha256 for wheels in pins.wheels.values() for wheel in wheels]
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests)
    assert len(pins.debian) == len({(pin.name, pin.architecture) for pin in pins.debian})


def test_the_lock_names_what_the_parts_ask_for() -> None:
    pins = lock.read()
    for architecture, debian_name in parts.DEBIAN_NAMES.items():
        own = (parts.CPP_HEADERS,) if architecture is Architecture.X86_64 else ()
        for name in (*parts.LIBRARIES, *own):
            assert lock.find(pins, name, debian_name) or lock.find(pins, name, "all"), name
    assert lock.find(pins, parts.BUSYBOX, "arm64")


def test_runtimes_are_those_that_programs_are_converted_for() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = {line for extra in project["optional-dependencies"].values() for line in extra}
    pins = lock.read()
    assert set(pins.wheels) == {Architecture.AARCH64, Architecture.X86_64}
    for architecture, wheels in pins.wheels.items():
        assert {wheel.name for wheel in wheels} == set(parts.RUNTIMES)
        assert {f"{wheel.name}=={wheel.version}" for wheel in wheels} <= wanted
        assert all(wheel.tag.endswith(architecture) for wheel in wheels)
