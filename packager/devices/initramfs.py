"""Write an initramfs: the file system that a Linux kernel unpacks into memory and starts from.

The format is that of `cpio -H newc`, as the kernel's
Documentation/driver-api/early-userspace/buffer-format.rst has it. Everything belongs to root
and dates from 1970, and entries are sorted: the same entries make the same bytes.
"""

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

MAGIC = b"070701"
TRAILER = "TRAILER!!!"
MAX_CONTENT_BYTES = 2**32 - 1
"""Of one file: its size is written as eight hexadecimal digits."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file, a folder, a link or a device.

    Attributes:
        mode: Its kind and its permissions, as `stat` has them.
        content: Of a file; the target of a link; else empty.
        device: Major and minor number.
    """

    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


def file(content: bytes, *, permissions: int) -> Entry:
    """Return a file with this content."""
    return Entry(mode=stat.S_IFREG | permissions, content=content)


def folder(*, permissions: int) -> Entry:
    """Return a folder; those that hold an entry need not be given, unless they differ from 755."""
    return Entry(mode=stat.S_IFDIR | permissions)


def link(target: str) -> Entry:
    """Return a symbolic link."""
    return Entry(mode=stat.S_IFLNK | 0o777, content=target.encode())


def character_device(major: int, minor: int, *, permissions: int) -> Entry:
    """Return a device node, such as `dev/console`, which is 5, 1."""
    return Entry(mode=stat.S_IFCHR | permissions, device=(major, minor))


def archive(entries: Mapping[str, Entry]) -> bytes:
    """Return the archive of entries by name, such as `bin/busybox`.

    It is not compressed: an emulated processor takes longer to unpack it than this one takes
    to load it whole.

    Raises:
        ValueError: A name leads elsewhere, an entry lies in something that is no folder, or a
            file is larger than the format can say.
    """
    whole = _with_folders(entries)
    written = bytearray()
    # Sorted by their parts, a folder comes before what it holds.
    for number, name in enumerate(sorted(whole, key=_parts), start=1):
        _append(written, name, whole[name], number=number)
    _append(written, TRAILER, Entry(mode=0), number=0)
    return bytes(written)


def _with_folders(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    whole = dict(entries)
    for name, entry in entries.items():
        if len(entry.content) > MAX_CONTENT_BYTES:
            raise ValueError(f"{name}: holds more than {MAX_CONTENT_BYTES} bytes")
        for parent in _parents(name):
            if not stat.S_ISDIR(whole.setdefault(parent, folder(permissions=0o755)).mode):
                raise ValueError(f"{name}: lies in {parent}, which is no folder")
    return whole


def _parents(name: str) -> list[str]:
    """Return the folders that hold `name`; refuse a name that is no plain path from the root."""
    path = PurePosixPath(name)
    plain = str(path) == name and not path.is_absolute() and ".." not in path.parts
    if not plain or name in (".", TRAILER) or "\0" in name:
        raise ValueError(f"{name!r} is no name for an entry of an initramfs")
    return [str(parent) for parent in path.parents][:-1]


def _parts(name: str) -> list[bytes]:
    return [part.encode() for part in name.split("/")]


def _append(written: bytearray, name: str, entry: Entry, *, number: int) -> None:
    encoded = name.encode() + b"\0"
    fields = (
        number, entry.mode,
        0, 0,  # root's
        1, 0,  # one link, of 1970
        len(entry.content),
        0, 0, *entry.device,
        len(encoded), 0,
    )  # fmt: skip
    written += MAGIC + b"".join(b"%08X" % field for field in fields) + encoded
    _align(written)
    written += entry.content
    _align(written)


def _align(written: bytearray) -> None:
    written += bytes(-len(written) % 4)
