"""Fetch Debian packages for any architecture and unpack them, without changing the system.

apt is given a state of its own: the machine's sources, keys and proxies are used as they
are, while its lists, its caches and what it has installed stay as they were. apt checks the
archive's signature and, through it, the SHA-256 of each file.
"""

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from packager import tools
from packager.errors import ToolError

PROGRAMS = ("apt-get", "apt-cache", "apt-config", "dpkg", "dpkg-deb")
APT_TIMEOUT_S = 600
UNPACK_TIMEOUT_S = 120
MERGED_FOLDERS = ("bin", "lib", "lib32", "lib64", "sbin")
UNUSED_FOLDERS = ("info", "lintian", "locale", "man")
"""Below usr/share; what is left there holds the licences."""

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER_BYTES = 60


@dataclass(frozen=True, kw_only=True)
class Deb:
    """A package that was fetched.

    Attributes:
        architecture: As Debian names it, such as `arm64`; `all` where it fits any.
        version: Whole, such as `1:7.2+dfsg-7+deb12u18`.
    """

    name: str
    version: str
    architecture: str
    path: Path
    sha256: str
    size_bytes: int


def is_here() -> bool:
    """Return whether this machine has Debian's own programs."""
    return all(shutil.which(program) for program in PROGRAMS)


def require_apt() -> None:
    """Fail where one of Debian's own programs is missing.

    Raises:
        MissingToolError: This is no Debian, nor anything made from it.
    """
    for program in PROGRAMS:
        install = "Only Debian's own apt can check its packages: use a Debian machine."
        tools.find(program, needed_by="Fetching Debian packages", install=install)


@dataclass(frozen=True, kw_only=True)
class Archive:
    """Debian's archive, read through a state that lies in a folder of its own.

    Attributes:
        config: apt's whole configuration.
        problems: What apt said about lists that it could not read; empty if it has them all.
    """

    config: Path
    problems: str = ""

    def fetch(
        self,
        names: Sequence[str],
        architecture: str,
        into: Path,
        *,
        without: Sequence[str] = (),
    ) -> tuple[Deb, ...]:
        """Download packages with all that they depend on, as if nothing were installed.

        Packages that are only recommended are left out.

        Args:
            names: What to fetch.
            architecture: As Debian names it.
            into: Receives the files; new, or empty.
            without: Packages that are depended on, and not wanted; nor is what only they need.

        Raises:
            ToolError: One is not in the archive, or it could not be had whole.
        """
        (into / "partial").mkdir(parents=True)
        status = into / "status"
        status.write_text("".join(_installed(name, architecture) for name in without))
        self._run(
            "install", "--yes", "--download-only", "--no-install-recommends",
            "-o", f"Dir::Cache::archives={into}", "-o", f"Dir::State::status={status}", *names,
            architecture=architecture,
        )  # fmt: skip
        return tuple(_read(path) for path in sorted(into.glob("*.deb")))

    def fetch_alone(self, names: Sequence[str], architecture: str, into: Path) -> tuple[Deb, ...]:
        """Download packages without what they depend on.

        Raises:
            ToolError: One is not in the archive, or it could not be had whole.
        """
        into.mkdir(parents=True, exist_ok=True)
        qualified = [f"{name}:{architecture}" for name in names]
        self._run("download", *qualified, architecture=architecture, cwd=into)
        return tuple(_read(path) for path in sorted(into.glob("*.deb")))

    def depends(self, name: str, architecture: str) -> tuple[str, ...]:
        """Return the names of the packages that a package depends on directly, in its order.

        Raises:
            ToolError: It is not in the archive.
        """
        shown = self._run("depends", name, architecture=architecture, program="apt-cache")
        prefix = "Depends: "
        lines = (line.strip() for line in shown.decode().splitlines())
        found = (line.removeprefix(prefix) for line in lines if line.startswith(prefix))
        return tuple(name.partition(":")[0].strip("<>") for name in found)

    def _run(
        self,
        *arguments: str,
        architecture: str,
        program: str = "apt-get",
        cwd: Path | None = None,
    ) -> bytes:
        only = (
            "-o",
            f"APT::Architecture={architecture}",
            "-o",
            f"APT::Architectures={architecture}",
        )
        return _apt(program, "-qq", *only, *arguments, config=self.config, cwd=cwd)


def open_archive(folder: Path, architectures: Sequence[str]) -> Archive:
    """Read the archive's lists for some architectures into `folder`.

    Args:
        folder: Receives some 40 MB; the caller removes it.
        architectures: As Debian names them, such as `arm64`.

    Raises:
        MissingToolError: apt is not here.
        ToolError: A list cannot be had, or its signature is wrong.
    """
    config = _new_state(folder, architectures)
    # Else apt goes on with the lists that it has got.
    _apt("apt-get", "-qq", "-o", "APT::Update::Error-Mode=any", "update", config=config, cwd=None)
    return Archive(config=config)


def open_archive_in_part(folder: Path, architectures: Sequence[str]) -> Archive:
    """Do the same, but make do with the lists that can be had; the others are `problems`.

    A mirror may have a suite for some architectures only, or in a state that does not fit its
    signature: apt leaves such a list out.

    Raises:
        MissingToolError: apt is not here.
        ToolError: apt failed altogether.
    """
    config = _new_state(folder, architectures)
    environment = _environment(config)
    finished = tools.run(["apt-get", "-q", "update"], timeout_s=APT_TIMEOUT_S, env=environment)
    said = finished.stderr.decode(errors="replace").splitlines()
    return Archive(config=config, problems="\n".join(x for x in said if x[:2] in {"E:", "W:"}))


def _new_state(folder: Path, architectures: Sequence[str]) -> Path:
    """Make empty folders for apt, and a configuration that uses nothing but these."""
    require_apt()
    for name in ("state", "lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    config = folder / "apt.conf"
    config.write_text(_configuration(folder, architectures))
    return config


def _configuration(folder: Path, architectures: Sequence[str]) -> str:
    """Return this machine's configuration, with every place that apt writes to in `folder`."""
    dumped = tools.run_checked(["apt-config", "dump"], timeout_s=UNPACK_TIMEOUT_S).stdout.decode()
    # Hooks are for a system that changes; such a one may empty the system's cache.
    kept = [line for line in dumped.splitlines() if "-Invoke" not in line]
    listed = "".join(f'"{name}";' for name in architectures)
    return "\n".join(
        [
            *kept,
            'Dir::Etc::main "/dev/null";',
            'Dir::Etc::parts "/dev/null";',
            f'Dir::State "{folder}/state";',
            f'Dir::State::lists "{folder}/lists";',
            f'Dir::State::status "{folder}/status";',
            f'Dir::Cache "{folder}";',
            f'Dir::Log "{folder}";',
            # apt's own user may not write to our folder.
            'APT::Sandbox::User "root";',
            "#clear APT::Architectures;",
            f"APT::Architectures {{{listed}}};",
            'APT::Get::AllowUnauthenticated "false";',
            'Acquire::AllowInsecureRepositories "false";',
            'Acquire::Languages "none";',
            'Acquire::Retries "3";',
            "",
        ]
    )


def _apt(program: str, *arguments: str, config: Path, cwd: Path | None) -> bytes:
    command = [program, *arguments]
    finished = tools.run(command, timeout_s=APT_TIMEOUT_S, cwd=cwd, env=_environment(config))
    if finished.returncode != 0:
        said = finished.stderr.decode(errors="replace").strip()[-tools.SHOWN_BYTES :]
        remedy = "Look whether there is a network, and whether `apt-get update` works"
        raise ToolError(program, f"{tools.ended(finished)}. {remedy}", printed=said)
    return finished.stdout


def _environment(config: Path) -> dict[str, str]:
    return {**os.environ, "APT_CONFIG": str(config), "LC_ALL": "C.UTF-8"}


def _installed(name: str, architecture: str) -> str:
    """Return what makes apt believe that it has a package, in any version that is asked for."""
    return (
        f"Package: {name}\nStatus: install ok installed\nArchitecture: {architecture}\n"
        f"Multi-Arch: foreign\nVersion: 99:99\nMaintainer: none\nDescription: not wanted\n\n"
    )


def unpack(debs: Sequence[Deb], into: Path) -> None:
    """Unpack packages into one folder, as they lie in a system: /lib is a link to /usr/lib.

    Manual pages and translations are left out. Links lead to places in the folder.

    Raises:
        ToolError: A package is damaged.
    """
    into.mkdir(parents=True, exist_ok=True)
    for deb in debs:
        tools.run_checked(["dpkg-deb", "--extract", deb.path, into], timeout_s=UNPACK_TIMEOUT_S)
    for name in UNUSED_FOLDERS:
        shutil.rmtree(into / "usr/share" / name, ignore_errors=True)
    _merge_usr(into)
    _make_links_relative(into)


def _merge_usr(root: Path) -> None:
    """Move /lib into /usr/lib and so on, and leave a link, as an installed Debian has it."""
    for name in MERGED_FOLDERS:
        old, new = root / name, root / "usr" / name
        if old.is_symlink():
            continue
        if old.is_dir():
            shutil.copytree(old, new, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(old)
        new.mkdir(parents=True, exist_ok=True)
        old.symlink_to(Path("usr") / name)


def _make_links_relative(root: Path) -> None:
    for folder, _, files in os.walk(root):
        for path in (Path(folder, name) for name in files):
            if path.is_symlink() and (target := path.readlink()).is_absolute():
                inside = root / target.relative_to("/")
                path.unlink()
                path.symlink_to(os.path.relpath(inside, folder))


def read_member(deb: Deb, prefix: str) -> bytes:
    """Return the first file of a package whose path begins with `prefix`, such as `boot/vmlinuz`.

    It is read without unpacking the rest, which may be large.

    Raises:
        ToolError: The package is damaged, or has no such file.
    """
    try:
        with deb.path.open("rb") as stream, tarfile.open(fileobj=_data(stream), mode="r|*") as tar:
            for member in tar:
                if member.isfile() and member.name.removeprefix("./").startswith(prefix):
                    content = tar.extractfile(member)
                    return content.read() if content else b""
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise ToolError(deb.path.name, f"cannot be read: {error}", printed="") from None
    raise ToolError(deb.path.name, f"holds no file {prefix}*", printed="")


def _data(stream: io.BufferedReader) -> io.BufferedReader:
    """Return `stream` at the start of the package's files.

    A package is an `ar` archive of three: its format, its description and its files.
    """
    if stream.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise ValueError("it is no ar archive")
    while header := stream.read(_AR_HEADER_BYTES):
        size_bytes = int(header[48:58])
        if header.startswith(b"data.tar"):
            return stream
        stream.seek(size_bytes + size_bytes % 2, os.SEEK_CUR)
    raise ValueError("it holds no data.tar")


def _read(path: Path) -> Deb:
    """Describe a package by its file, whose name holds the name, version and architecture."""
    name, version, architecture = unquote(path.stem).split("_")
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Deb(
        name=name, version=version, architecture=architecture,
        path=path, sha256=digest, size_bytes=path.stat().st_size,
    )  # fmt: skip
