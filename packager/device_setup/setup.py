"""Install what emulated devices need, verify it, and try it out."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from packager import progress
from packager.cache import encode
from packager.device_setup import debian, lock, parts, programs, trial
from packager.device_setup.debian import Deb
from packager.device_setup.lock import Lock
from packager.device_setup.wheels import Wheel
from packager.devices.kit import PROGRAMS, RECORD, Kit, read_record, source_digest
from packager.devices.plugin import compile_plugin
from packager.errors import MissingToolError, StorageError, ToolError
from packager.kit_record import KIT_FORMAT, Contents, Item, Pinned, Record
from packager.storage import storage_errors, write_whole


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the user asks for.

    Attributes:
        private: Unpack the programs into the kit, even where the system has them.
        locked: Refuse whatever the lock does not name.
    """

    private: bool
    locked: bool


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A kit that is ready.

    Attributes:
        made: True where it was made just now, False where it was there and intact.
    """

    kit: Kit
    made: bool


@dataclass(frozen=True, kw_only=True)
class _Fetched:
    items: tuple[Item, ...]
    problems: tuple[str, ...]


def set_up(root: Path, wish: Wish) -> Outcome:
    """Make sure that a whole kit lies in `root`: verify the one that is there, or make one.

    It is made beside `root` and renamed: whatever interrupts this, `root` holds the old kit
    or the new one.

    Raises:
        MissingToolError: This is no machine that a kit can be made on.
        ToolError: Something cannot be fetched, is not what the lock names, or does not work.
        StorageError: The disk is full, or the folder may not be used.
    """
    _require_machine()
    with storage_errors(root), _alone(root):
        kit = _intact(root, wish)
        if kit is not None:
            return Outcome(kit=kit, made=False)
        with _full_disk_named(root), _staged(root) as stage:
            record = _make(stage, wish)
        return Outcome(kit=Kit(root=root, record=record), made=True)


def _require_machine() -> None:
    """Fail unless a kit can be made here, with the packages that one is made of."""
    is_x86 = (sys.platform, platform.machine()) == ("linux", "x86_64")
    if is_x86 and debian.is_here():
        return
    needed = ", ".join(sorted({*PROGRAMS.values(), *parts.LIBRARIES}))
    raise MissingToolError(
        "Debian on x86-64",
        needed_by="A device kit",
        install="Use a Debian 12 machine, or a container of it: the kit is made of its packages "
        f"{needed} and what these depend on.",
    )


@contextlib.contextmanager
def _full_disk_named(root: Path) -> Iterator[None]:
    """Turn what other programs say of a full disk into the error that this is."""
    try:
        yield
    except ToolError as error:
        if os.strerror(errno.ENOSPC) not in str(error):
            raise
        remedy = "Free some space or name another folder, then run the same command again."
        raise StorageError(f"{root}: {os.strerror(errno.ENOSPC)}. {remedy}") from None


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Wait until no other process sets a kit up here; clear what a killed one has left."""
    root.parent.mkdir(parents=True, exist_ok=True)
    with (root.parent / f".{root.name}.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        for left in root.parent.glob(f".{root.name}-*"):
            shutil.rmtree(left)
        yield


@contextlib.contextmanager
def _staged(root: Path) -> Iterator[Path]:
    """Yield a folder that takes the place of `root` if all goes well, and else goes away."""
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{root.name}-") as name:
        new, old = Path(name) / "new", Path(name) / "old"
        new.mkdir()
        yield new
        if root.exists():
            root.rename(old)
        try:
            new.rename(root)
        except BaseException:
            if old.exists():
                old.rename(root)
            raise


def _intact(root: Path, wish: Wish) -> Kit | None:
    """Return the kit in `root` if it is whole and as wished; None if one must be made."""
    record = read_record(root)
    if record is None:
        return None
    kit = Kit(root=root, record=record)
    private = all(not Path(place).is_absolute() for place in record.programs.values())
    if wish.private and not private:
        return None
    if any(shutil.which(root / place) is None for place in record.programs.values()):
        return None
    with progress.track("verifying the device kit", len(record.folders)) as advance:
        for name, contents in record.folders.items():
            if contents_of(root / name) != contents:
                return None
            advance(name)
    if wish.locked:
        require_locked(record.packages)
    return kit


def _make(stage: Path, wish: Wish) -> Record:
    """Fill an empty folder with a kit, and try it out."""
    private = wish.private or (bool(programs.missing()) and not programs.can_install())
    with tempfile.TemporaryDirectory(dir=stage.parent) as name:
        fetched = _fetch(stage, Path(name), private=private)
    if wish.locked:
        require_locked(fetched.items)
    draft = Record(
        format=KIT_FORMAT,
        source_sha256=source_digest(),
        programs=programs.private() if private else programs.of_system(),
        packages=fetched.items,
        problems=fetched.problems,
        folders={},
        emulator=None,
    )
    kit = Kit(root=stage, record=draft)
    compile_plugin(kit)
    emulator = trial.examine(kit)
    folders = {path.name: contents_of(path) for path in sorted(stage.iterdir())}
    record = replace(draft, folders=folders, emulator=emulator)
    write_whole(stage / RECORD, (json.dumps(encode(record), indent=1) + "\n").encode())
    return record


def _fetch(stage: Path, downloads: Path, *, private: bool) -> _Fetched:
    """Fetch all parts into `stage`; return what they were made of."""
    pins = lock.read()
    items: list[Item] = []
    problems: list[str] = []
    with progress.track("fetching the device kit", parts.COUNT + 1) as advance:
        if not private:
            items += _system_items(pins)
            advance("system")
        for fetched in parts.fetch(stage, downloads, pins, private=private):
            items += [_deb_item(pins, fetched.part, deb) for deb in fetched.debs]
            items += [_wheel_item(fetched.part, wheel, path) for wheel, path in fetched.wheels]
            problems += fetched.problems
            advance(fetched.part)
    return _Fetched(items=tuple(items), problems=tuple(problems))


def _system_items(pins: Lock) -> list[Item]:
    """Have the programs installed, and describe the packages that they come from."""
    absent = programs.missing()
    if absent:
        programs.install(absent)
    return [
        Item(
            name=name, version=version, architecture=architecture, part="system",
            sha256=None, size_bytes=None,
            pinned=lock.compare_version(lock.find(pins, name, architecture), version),
        )
        for name, version, architecture in programs.installed()
    ]  # fmt: skip


def _deb_item(pins: Lock, part: str, deb: Deb) -> Item:
    return Item(
        name=deb.name, version=deb.version, architecture=deb.architecture, part=part,
        sha256=deb.sha256, size_bytes=deb.size_bytes, pinned=lock.compare(pins, deb),
    )  # fmt: skip


def _wheel_item(part: str, wheel: Wheel, path: Path) -> Item:
    return Item(
        name=wheel.name, version=wheel.version, architecture=wheel.tag, part=part,
        sha256=wheel.sha256, size_bytes=path.stat().st_size, pinned=Pinned.EQUAL,
    )  # fmt: skip


def require_locked(items: Sequence[Item]) -> None:
    """Fail unless everything is as the lock names it.

    Raises:
        ToolError: Debian's archive has moved on.
    """
    moved = [item for item in items if item.pinned is not Pinned.EQUAL]
    if moved:
        shown = ", ".join(f"{item.name} {item.version} ({item.pinned})" for item in moved)
        remedy = "Leave out --locked to take what the archive has now"
        problem = f"has other packages than the lock names: {shown}. {remedy}"
        raise ToolError("Debian's archive", problem, printed="")


def contents_of(folder: Path) -> Contents:
    """Sum up a folder: every file and link in it, by name and content."""
    total, files, size_bytes = hashlib.sha256(), 0, 0
    for path in sorted(path for path in folder.rglob("*") if path.is_symlink() or path.is_file()):
        if path.is_symlink():
            content = b"link " + os.fsencode(path.readlink())
        else:
            with path.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").digest()
            size_bytes += path.stat().st_size
        files += 1
        total.update(os.fsencode(path.relative_to(folder)) + b"\0" + content + b"\0")
    return Contents(files=files, size_bytes=size_bytes, sha256=total.hexdigest())
