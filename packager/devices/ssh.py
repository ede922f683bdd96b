"""Reach a machine that runs Linux with OpenSSH.

The user's own configuration and keys are used. Nothing is asked: a machine whose key is not
known yet, or that wants a password, is refused.
"""

import io
import re
import shlex
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packager import tools
from packager.devices.folder import permissions
from packager.devices.kit import Kit
from packager.devices.remote import COPY_TIMEOUT_S, RemoteDevice
from packager.errors import ConfigError, DeviceError
from packager.storage import write_whole

PROGRAM = "ssh"
CONNECT_TIMEOUT_S = 10
FAILED = 255
"""The exit code of ssh itself."""

ADDRESS = re.compile(
    r"(?:(?P<user>[\w.][\w.-]*)@)?"
    r"(?P<host>\w[\w.-]*|\[[0-9a-fA-F:.]+\])"
    r"(?::(?P<port>[1-9]\d{0,4}))?"
)  # neither user nor host can begin as an option does

OPTIONS = (
    "-T", "-x", "-a",
    "-o", "BatchMode=yes",
    "-o", "StrictHostKeyChecking=yes",
    "-o", f"ConnectTimeout={CONNECT_TIMEOUT_S}",
    "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3",
    "-o", "ClearAllForwardings=yes", "-o", "PermitLocalCommand=no",
    # A connection that others share would outlive this one, as a process.
    "-o", "ControlMaster=no",
    "-o", "LogLevel=ERROR",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a machine is.

    Attributes:
        text: As on the command line.
        user: None for what ssh's configuration says, as with `port`.
        host: A name, also one from that configuration, or a number.
    """

    text: str
    user: str | None
    host: str
    port: int | None


def address(text: str) -> Address:
    """Return the address that `[USER@]HOST[:PORT]` means; a host's number can be in brackets.

    Raises:
        ConfigError: It is not of that form.
    """
    found = ADDRESS.fullmatch(text)
    if found is None:
        problem = f"{text!r} is no address. Write ssh:HOST, ssh:USER@HOST or ssh:USER@HOST:PORT."
        raise ConfigError("--on", problem)
    port = None if found["port"] is None else int(found["port"])
    return Address(text=text, user=found["user"], host=found["host"].strip("[]"), port=port)


def open_ssh(where: Address, kit: Kit, *, config: Path | None) -> RemoteDevice:
    """Return the machine at an address, as a device.

    Args:
        where: Its address.
        kit: Has the libraries that go onto it.
        config: Of ssh; None for the user's own.

    Raises:
        DeviceError: It cannot be reached.
        MissingToolError: There is no ssh here.
    """
    link = SshLink(where, config=config)
    return RemoteDevice(link, kit, description=f"{where.host}, by ssh", emulated=False)


class SshLink:
    """A connection for each command; see `packager.devices.remote.Link`."""

    parent = "${TMPDIR:-/tmp}"

    def __init__(self, where: Address, *, config: Path | None) -> None:
        self.name = f"ssh:{where.text}"
        install = "On Debian: apt-get install openssh-client."
        program = tools.find(PROGRAM, needed_by=self.name, install=install)
        self._command = [
            str(program), *OPTIONS,
            *([] if config is None else ["-F", str(config)]),
            *([] if where.user is None else ["-l", where.user]),
            *([] if where.port is None else ["-p", str(where.port)]),
            where.host,
        ]  # fmt: skip

    def send(self, script: str, *, timeout_s: float, stdin: bytes = b"") -> tools.Finished:
        """Have the shell there read a script; see `Link`."""
        # The user's own shell there may be of another kind, and only has to start this one.
        argv = [*self._command, f"exec sh -c {shlex.quote(script)}"]
        finished = tools.run(argv, timeout_s=timeout_s, stdin=stdin)
        if finished.returncode == FAILED and not finished.stdout:
            said = finished.stderr[-tools.SHOWN_BYTES :].decode(errors="replace").strip()
            problem = f"it cannot be reached. ssh says: {said or 'nothing'}"
            remedy = f"Connect once by hand, `{shlex.join(['ssh', *self._command[1:]])}`."
            raise DeviceError(self.name, f"{problem}\n{remedy}")
        return finished

    def push(self, files: Mapping[str, Path], folder: str) -> None:
        """Copy files there; see `Link`. Machines without an SFTP server take them too."""
        script = f"tar -xf - -C {shlex.quote(folder)}"
        sent = self.send(script, timeout_s=COPY_TIMEOUT_S, stdin=_archive(files))
        if sent.returncode != 0:
            said = sent.stderr[-tools.SHOWN_BYTES :].decode(errors="replace").strip()
            raise DeviceError(self.name, f"{', '.join(files)} cannot be put there: {said}")

    def pull(self, source: str, destination: Path) -> None:
        """Copy a file from there; see `Link`."""
        sent = self.send(f"cat {shlex.quote(source)}", timeout_s=COPY_TIMEOUT_S)
        if sent.returncode != 0:
            said = sent.stderr[-tools.SHOWN_BYTES :].decode(errors="replace").strip()
            raise DeviceError(self.name, f"{source} cannot be copied: {said}")
        write_whole(destination, sent.stdout)


def _archive(files: Mapping[str, Path]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, path in files.items():
            entry = tarfile.TarInfo(name)
            entry.mode = permissions(path)
            data = path.read_bytes()
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return content.getvalue()
