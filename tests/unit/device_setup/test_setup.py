import errno
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from packager.cache import encode
from packager.device_setup import debian, lock, parts, programs, setup, trial
from packager.device_setup.debian import Deb
from packager.device_setup.lock import Lock
from packager.device_setup.parts import Fetched
from packager.device_setup.setup import Outcome, Wish
from packager.devices import Architecture
from packager.devices.kit import RECORD, Kit, open_kit
from packager.errors import MissingToolError, StorageError, ToolError
from packager.kit_record import Item, Pinned
from tests.unit.devices import kit_example

PRIVATE = Wish(private=True, locked=False)
LOCKED = Wish(private=True, locked=True)

NOT_DEBIAN = (
    "A device kit needs 'Debian on x86-64', which is not installed. Use a Debian 12 machine, or a "
    "container of it: the kit is made of its packages g++, g++-aarch64-linux-gnu, gcc, libc6-dev, "
    "libmd-dev, libpng-dev, libstdc++6, nlohmann-json3-dev, qemu-system-arm, qemu-user, strace, "
    "zlib1g-dev and what these depend on."
)

PINNED = lock.find(lock.read(), "libpng-dev", "arm64")
assert PINNED is not None
AS_PINNED = Deb(
    name=PINNED.name,
    version=PINNED.version,
    architecture=PINNED.architecture,
    path=Path("libpng-dev.deb"),
    sha256=PINNED.sha256,
    size_bytes=PINNED.size_bytes,
)
UNPINNED = replace(AS_PINNED, name="libpng-tng")
(WHEEL, *_) = lock.read().wheels[Architecture.AARCH64]


class Archive:
    """Stands in for all that is fetched; may go wrong."""

    def __init__(self) -> None:
        self.debs: tuple[Deb, ...] = (AS_PINNED,)
        self.error: BaseException | None = None
        self.fetched = 0

    def fetch(
        self, stage: Path, downloads: Path, pins: Lock, *, private: bool
    ) -> Iterator[Fetched]:
        assert pins == lock.read()
        assert private
        assert not any(stage.iterdir())
        self.fetched += 1
        kit_example.fill(stage)
        wheel = downloads / WHEEL.file_name
        wheel.write_bytes(b"wheel")
        yield Fetched(part="sysroot/aarch64", debs=self.debs, problems=("one list is missing",))
        if self.error:
            raise self.error
        yield Fetched(part="runtime/aarch64", wheels=((WHEEL, wheel),))


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> Archive:
    stand_in = Archive()
    monkeypatch.setattr(parts, "fetch", stand_in.fetch)
    monkeypatch.setattr(debian, "is_here", lambda: True)
    monkeypatch.setattr(setup, "compile_plugin", lambda _: None)
    monkeypatch.setattr(trial, "examine", lambda _: kit_example.EMULATOR)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    return stand_in


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_kit_is_made_with_a_record_of_all_that_is_in_it(archive: Archive, tmp_path: Path) -> None:
    root = tmp_path / "kit"
    outcome = setup.set_up(root, PRIVATE)
    assert outcome == Outcome(kit=open_kit(root), made=True)
    assert archive.fetched == 1
    record = outcome.kit.record
    assert record.packages == (
        Item(
            name="libpng-dev",
            version=AS_PINNED.version,
            architecture="arm64",
            part="sysroot/aarch64",
            sha256=AS_PINNED.sha256,
            size_bytes=AS_PINNED.size_bytes,
            pinned=Pinned.EQUAL,
        ),
        Item(
            name=WHEEL.name,
            version=WHEEL.version,
            architecture=WHEEL.tag,
            part="runtime/aarch64",
            sha256=WHEEL.sha256,
            size_bytes=5,
            pinned=Pinned.EQUAL,
        ),
    )
    assert record.problems == ("one list is missing",)
    assert record.emulator == kit_example.EMULATOR
    assert record.programs == programs.private()
    assert set(record.folders) == {"host", "sysroot"}
    assert left_in(tmp_path) == [".kit.lock", "kit"]


def test_a_kit_that_is_whole_is_verified_and_kept(archive: Archive, tmp_path: Path) -> None:
    root = tmp_path / "kit"
    made = setup.set_up(root, PRIVATE)
    assert setup.set_up(root, LOCKED) == replace(made, made=False)
    assert archive.fetched == 1


@pytest.mark.parametrize("name", ["libz.so.1", "libz.so", "new.so"])
def test_a_kit_with_a_changed_file_is_made_anew(
    archive: Archive, tmp_path: Path, name: str
) -> None:
    root = tmp_path / "kit"
    setup.set_up(root, PRIVATE)
    place = root / "sysroot/aarch64/usr/lib" / name
    place.unlink(missing_ok=True)
    place.write_bytes(b"Library")
    assert setup.set_up(root, PRIVATE).made
    assert (root / "sysroot/aarch64/usr/lib/libz.so").read_bytes() == b"library"
    assert archive.fetched == 2


def test_a_kit_whose_program_has_gone_is_made_anew(archive: Archive, tmp_path: Path) -> None:
    root = tmp_path / "kit"
    setup.set_up(root, PRIVATE)
    (root / "host/run/strace").chmod(0o644)
    assert setup.set_up(root, PRIVATE).made
    assert archive.fetched == 2


def test_a_kit_that_uses_the_system_is_not_private(archive: Archive, tmp_path: Path) -> None:
    root = tmp_path / "kit"
    record = setup.set_up(root, PRIVATE).kit.record
    of_system = dict.fromkeys(record.programs, "/bin/sh")
    (root / RECORD).write_text(json.dumps(encode(replace(record, programs=of_system))))
    assert not setup.set_up(root, Wish(private=False, locked=False)).made
    assert setup.set_up(root, PRIVATE).made
    assert archive.fetched == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ToolError("apt-get", "fell", printed="")])
def test_an_interrupted_set_up_leaves_the_old_kit_and_nothing_else(
    archive: Archive, tmp_path: Path, error: BaseException
) -> None:
    root = tmp_path / "kit"
    archive.error = error
    with pytest.raises(type(error)):
        setup.set_up(root, PRIVATE)
    assert left_in(tmp_path) == [".kit.lock"]
    archive.error = None
    setup.set_up(root, PRIVATE)
    (root / "sysroot/aarch64/mine").write_text("mine")
    archive.error = error
    with pytest.raises(type(error)):
        setup.set_up(root, PRIVATE)
    assert left_in(tmp_path) == [".kit.lock", "kit"]
    assert (root / "sysroot/aarch64/mine").read_text() == "mine"


def test_what_a_killed_set_up_left_is_cleared(archive: Archive, tmp_path: Path) -> None:
    left = tmp_path / ".kit-abcdef" / "new" / "sysroot"
    left.mkdir(parents=True)
    setup.set_up(tmp_path / "kit", PRIVATE)
    assert left_in(tmp_path) == [".kit.lock", "kit"]
    assert archive.fetched == 1


def test_a_newer_package_is_taken_and_told(archive: Archive, tmp_path: Path) -> None:
    archive.debs = (AS_PINNED, UNPINNED)
    packages = setup.set_up(tmp_path / "kit", PRIVATE).kit.record.packages
    assert [item.pinned for item in packages] == [Pinned.EQUAL, Pinned.UNKNOWN, Pinned.EQUAL]


def test_a_package_that_is_not_pinned_is_refused_when_locked(
    archive: Archive, tmp_path: Path
) -> None:
    archive.debs = (AS_PINNED, UNPINNED)
    root = tmp_path / "kit"
    wanted = (
        f"Debian's archive has other packages than the lock names: libpng-tng {UNPINNED.version} "
        "(not pinned). Leave out --locked to take what the archive has now. It printed nothing."
    )
    with pytest.raises(ToolError) as caught:
        setup.set_up(root, LOCKED)
    assert str(caught.value) == wanted
    assert not root.exists()
    setup.set_up(root, PRIVATE)
    with pytest.raises(ToolError) as caught:
        setup.set_up(root, LOCKED)
    assert str(caught.value) == wanted


def test_a_full_disk_is_named_also_where_another_program_met_it(
    archive: Archive, tmp_path: Path
) -> None:
    root = tmp_path / "kit"
    said = "dpkg-deb: error: cannot write: No space left on device"
    wanted = (
        f"{root}: No space left on device. Free some space or name another folder, "
        "then run the same command again."
    )
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")
    for error in (ToolError("dpkg-deb", "ended", printed=said), full):
        archive.error = error
        with pytest.raises(StorageError) as caught:
            setup.set_up(root, PRIVATE)
        assert str(caught.value) == wanted
    assert left_in(tmp_path) == [".kit.lock"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("sys.platform", "darwin"), ("platform.machine", lambda: "aarch64")],
)
def test_another_system_is_told_what_is_needed(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    monkeypatch.setattr(name, value)
    with pytest.raises(MissingToolError) as caught:
        setup.set_up(tmp_path / "kit", PRIVATE)
    assert str(caught.value) == NOT_DEBIAN
    assert archive.fetched == 0


def test_a_machine_without_apt_is_told_what_is_needed(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian, "is_here", lambda: False)
    with pytest.raises(MissingToolError) as caught:
        setup.set_up(tmp_path / "kit", PRIVATE)
    assert str(caught.value) == NOT_DEBIAN
    assert archive.fetched == 0


def test_programs_of_the_system_are_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "missing", lambda: ())
    pinned = lock.find(lock.read(), "strace", "amd64")
    assert pinned is not None
    monkeypatch.setattr(programs, "installed", lambda: (("strace", pinned.version, "amd64"),))
    assert setup._system_items(lock.read()) == [
        Item(
            name="strace",
            version=pinned.version,
            architecture="amd64",
            part="system",
            sha256=None,
            size_bytes=None,
            pinned=Pinned.EQUAL,
        )
    ]


def test_contents_tell_names_links_and_bytes_apart(tmp_path: Path) -> None:
    kit_example.fill(tmp_path)
    library = tmp_path / "sysroot/aarch64/usr/lib/libz.so.1"
    seen = {setup.contents_of(tmp_path)}
    library.write_bytes(b"Library")
    seen.add(setup.contents_of(tmp_path))
    library.rename(library.with_name("libz.so.2"))
    seen.add(setup.contents_of(tmp_path))
    link = library.with_name("libz.so")
    link.unlink()
    link.symlink_to("libz.so.2")
    seen.add(setup.contents_of(tmp_path))
    assert len(seen) == 4
    assert {contents.files for contents in seen} == {9}


def test_a_kit_that_is_there_is_a_kit_of_its_folder(archive: Archive, tmp_path: Path) -> None:
    kit = setup.set_up(tmp_path / "kit", PRIVATE).kit
    assert archive.fetched == 1
    assert isinstance(kit, Kit)
    assert kit.root == tmp_path / "kit"
