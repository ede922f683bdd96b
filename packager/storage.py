"""Write files whole or not at all, and say plainly when a disk refuses."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from packager.errors import StorageError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
IN_THE_WAY = {errno.EEXIST, errno.EISDIR, errno.ENOTDIR}
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def storage_errors(place: Path) -> Iterator[None]:
    """Turn what a disk refuses into a StorageError that names `place`, or the file elsewhere.

    Raises:
        StorageError: The disk is full, or a file or folder may not be used.
    """
    try:
        yield
    except OSError as error:
        reason = f"{error.strerror}. {_remedy(error)}, then run the same command again."
        if error.errno in FULL:
            message = f"{place}: {reason}"
        elif error.errno in IN_THE_WAY | FORBIDDEN:
            message = f"{_refused(error, place)}: {reason}"
        else:
            raise
        raise StorageError(message) from None


def _remedy(error: OSError) -> str:
    if error.errno in FULL:
        return "Free some space or name another folder"
    if error.errno in FORBIDDEN:
        return "Change its permissions or name another one"
    return "Move what is in the way or name another one"


def _refused(error: OSError, place: Path) -> Path:
    """Return what the error is about: `place`, unless it names a file elsewhere."""
    if not isinstance(error.filename, str):
        return place
    named = Path(error.filename)
    # Files are written under a temporary name beside `place`, or in it.
    return place if place.parent in named.parents else named


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` to `path`: readers see the old file or the new one, never a part.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            Path(name).chmod(0o644)
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)


def copy_whole(source: Path, path: Path) -> None:
    """Copy a file to `path`, whole or not at all.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}-{os.getpid()}")
        try:
            shutil.copyfile(source, part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
