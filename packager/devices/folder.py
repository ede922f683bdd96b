"""The private folder of a device that is on this machine."""

import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from packager.errors import DeviceError
from packager.storage import storage_errors

ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0"}
"""All that a program on this machine gets: none of the user's own variables can change it."""
PREFIX = "packager-device-"
RANDOM_CHARACTERS = 8
"""Of which `tempfile` makes each name."""
PATH_CHARACTERS = 120
"""Of the whole path. A program that learns its own path takes a few instructions more for a
longer one, and its memory can lie differently: all paths are of this length where that is
possible, so that a count does not depend on where temporary files are."""


class Folder:
    """A temporary folder with one for the program's files in it, and room beside that.

    Attributes:
        device: Whose it is, for errors.
        path: The whole; removed by `close`.
        files: Where the program runs.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        room = PATH_CHARACTERS - len(str(Path(tempfile.gettempdir()).absolute())) - 1
        padding = "-" * (room - len(PREFIX) - RANDOM_CHARACTERS)
        self._whole = tempfile.TemporaryDirectory(prefix=PREFIX, suffix=padding)
        self.path = Path(self._whole.name).absolute()
        self.files = self.path / "files"
        self.files.mkdir()

    def put(self, source: Path, name: str) -> None:
        """Copy a file into `files`; see `Device`."""
        place = self.files / plain_name(name, device=self.device)
        try:
            shutil.copyfile(source, place)
            place.chmod(permissions(source))
        except OSError as error:
            problem = f"{source} cannot be put there: {error.strerror}. Look at the file."
            raise DeviceError(self.device, problem) from None

    def get(self, name: str, destination: Path) -> None:
        """Copy a file out of `files`; see `Device`."""
        place = self.files / plain_name(name, device=self.device)
        # A link could lead out of the folder, to a file that the program was not given.
        if place.is_symlink() or not place.is_file():
            raise no_file(name, device=self.device)
        with storage_errors(destination):
            shutil.copyfile(place, destination)

    def require_program(self, name: str) -> None:
        """Fail unless a program can be run under a name such as `./scan`.

        Raises:
            DeviceError: It cannot.
        """
        folder, _, plain = name.rpartition("/")
        place = self.files / plain_name(plain, device=self.device)
        if folder != "." or not place.is_file() or not place.stat().st_mode & stat.S_IXUSR:
            problem = f"{name!r} is no program in its folder. Put it there, and call it ./NAME."
            raise DeviceError(self.device, problem)

    @contextmanager
    def record(self) -> Iterator[Path]:
        """Give a folder beside `files` for what is observed of one run."""
        place = self.path / "record"
        place.mkdir()
        try:
            yield place
        finally:
            shutil.rmtree(place)

    def close(self) -> None:
        """Remove everything."""
        self._whole.cleanup()


class FolderDevice:
    """What all devices on this machine do alike: they are used in a folder; see `Device`.

    Attributes:
        name: Of the device, for errors.
    """

    name: str
    _folder: Folder | None = None

    def __enter__(self) -> Self:
        self._folder = Folder(self.name)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._folder is not None:
            self._folder.close()
            self._folder = None

    def put(self, source: Path, name: str) -> None:
        """Copy a file into the folder; see `Device`."""
        self._opened().put(source, name)

    def get(self, name: str, destination: Path) -> None:
        """Copy a file back; see `Device`."""
        self._opened().get(name, destination)

    def _opened(self) -> Folder:
        assert self._folder is not None, "a device is used within its `with` statement"
        return self._folder


def plain_name(name: str, *, device: str) -> str:
    """Return a name that is that of a file in one flat folder.

    Raises:
        DeviceError: It is not.
    """
    if name in ("", ".", "..") or "/" in name or "\0" in name or name.startswith("-"):
        problem = f"{name!r} is no name for a file in its folder. Choose a plain one."
        raise DeviceError(device, problem)
    return name


def permissions(source: Path) -> int:
    """Return the permissions that a copy of a file gets: may it be executed, or only read?"""
    return 0o755 if source.stat().st_mode & stat.S_IXUSR else 0o644


def no_file(name: str, *, device: str) -> DeviceError:
    """Return the error for a file that is not in a device's folder."""
    problem = f"there is no file {name!r} in its folder. No program has made it there."
    return DeviceError(device, problem)
