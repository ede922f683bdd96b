"""Reach an Android phone with adb, which comes with Android's developer tools.

Nothing is installed on the phone: a folder below `/data/local/tmp`, where programs may be run
from adb's shell, holds the same files as any other device, among them a loader and a C library,
as Android's own is another one.

This has been tested with a stand-in for adb, and not with a phone.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packager import tools
from packager.devices.folder import permissions
from packager.devices.kit import Kit
from packager.devices.remote import COMMAND_TIMEOUT_S, COPY_TIMEOUT_S, RemoteDevice
from packager.errors import DeviceError, did_you_mean

PROGRAM = "adb"
INSTALL = "Install Android's platform-tools, on Debian: apt-get install adb."
READY = "device"
REMEDIES = {
    "unauthorized": "Unlock the phone, and allow this computer in the question on its screen.",
    "authorizing": "Wait until the phone has answered, and run the same again.",
    "offline": "Unplug the phone and plug it in again, or run `adb reconnect`.",
    "no permissions": "Let this user use the USB device: see `adb devices`.",
}
OTHER_REMEDY = "Start the phone as usual, with USB debugging allowed."
LISTED = re.compile(r"(?P<serial>\S+)\s+(?P<state>no permissions|\S+).*")
SHELL = "shell_v2"
"""Without it, from before Android 7, outputs are mixed and exit codes are lost."""


@dataclass(frozen=True, kw_only=True)
class Attached:
    """What `adb devices` lists.

    Attributes:
        state: `device` when it can be used.
    """

    serial: str
    state: str


def open_adb(serial: str | None, kit: Kit) -> RemoteDevice:
    """Return an attached phone as a device.

    Args:
        serial: Which one; None where there is only one.
        kit: Has the libraries that go onto it.

    Raises:
        DeviceError: It is not attached or not ready, or there are several.
        MissingToolError: There is no adb here.
    """
    name = PROGRAM if serial is None else f"{PROGRAM}:{serial}"
    program = tools.find(PROGRAM, needed_by=name, install=INSTALL)
    listed = tools.run_checked([program, "devices"], timeout_s=COMMAND_TIMEOUT_S)
    phone = chosen(attached(listed.stdout.decode(errors="replace")), serial, device=name)
    link = AdbLink(program, phone.serial, name=name)
    model, release, qemu = link.facts()
    description = f"{model}, Android {release}, by adb"
    return RemoteDevice(link, kit, description=description, emulated=qemu == "1")


def attached(listing: str) -> tuple[Attached, ...]:
    """Return what is attached, from what `adb devices` prints below its heading."""
    _, _, rows = listing.partition("List of devices attached")
    matches = (LISTED.fullmatch(row.strip()) for row in rows.splitlines() if row.strip())
    return tuple(Attached(serial=m["serial"], state=m["state"]) for m in matches if m)


def chosen(phones: tuple[Attached, ...], serial: str | None, *, device: str) -> Attached:
    """Return the phone with a serial number, or the only one.

    Raises:
        DeviceError: There is none, or more than one, or it is not ready.
    """
    serials = [phone.serial for phone in phones]
    fitting = [phone for phone in phones if serial in (None, phone.serial)]
    if not phones:
        raise DeviceError(device, "no phone is attached. Plug one in, and allow USB debugging.")
    if not fitting:
        problem = (
            f"no phone with this serial number is attached. {did_you_mean(str(serial), serials)}"
        )
        raise DeviceError(device, problem)
    if len(fitting) > 1:
        names = ", ".join(f"{PROGRAM}:{name}" for name in serials)
        raise DeviceError(device, f"{len(fitting)} phones are attached. Name one of {names}.")
    phone = fitting[0]
    if phone.state != READY:
        remedy = REMEDIES.get(phone.state, OTHER_REMEDY)
        raise DeviceError(device, f"the phone {phone.serial} is {phone.state!r}. {remedy}")
    return phone


class AdbLink:
    """A connection for each command; see `packager.devices.remote.Link`."""

    parent = "/data/local/tmp"

    def __init__(self, program: Path, serial: str, *, name: str) -> None:
        """Ask adb whether it can run programs there.

        Raises:
            DeviceError: The phone's Android is too old for that.
        """
        self.name = name
        self._command = [str(program), "-s", serial]
        features = tools.run_checked([*self._command, "features"], timeout_s=COMMAND_TIMEOUT_S)
        if SHELL not in features.stdout.decode(errors="replace").split():
            raise DeviceError(name, "its Android is older than 7, which adb cannot run tests on.")

    def facts(self) -> list[str]:
        """Return model, Android's version, and whether Android says that it is emulated."""
        names = ("ro.product.model", "ro.build.version.release", "ro.boot.qemu")
        script = "; ".join(f"getprop {name}" for name in names)
        told = self.send(script, timeout_s=COMMAND_TIMEOUT_S).stdout.decode(errors="replace")
        lines = [re.sub(r"[^\w .()+-]", "", line) for line in told.split("\n")]
        return [*lines, "", "", ""][: len(names)]

    def send(self, script: str, *, timeout_s: float, stdin: bytes = b"") -> tools.Finished:
        """Have the phone's shell read a script; see `Link`."""
        # adb hands this on to the shell as it is.
        argv = [*self._command, "shell", "-T", f"exec sh -c {shlex.quote(script)}"]
        return tools.run(argv, timeout_s=timeout_s, stdin=stdin)

    def push(self, files: Mapping[str, Path], folder: str) -> None:
        """Copy files there; see `Link`."""
        modes = []
        for name, source in files.items():
            place = f"{folder}/{name}"
            tools.run_checked(
                [*self._command, "push", source.absolute(), place], timeout_s=COPY_TIMEOUT_S
            )
            modes.append(f"chmod {permissions(source):o} {shlex.quote(place)}")
        changed = self.send(" && ".join(modes), timeout_s=COMMAND_TIMEOUT_S)
        if changed.returncode != 0:
            said = changed.stderr[-tools.SHOWN_BYTES :].decode(errors="replace").strip()
            raise DeviceError(self.name, f"{', '.join(files)} cannot be put there: {said}")

    def pull(self, source: str, destination: Path) -> None:
        """Copy a file from there; see `Link`."""
        tools.run_checked(
            [*self._command, "pull", source, destination.absolute()], timeout_s=COPY_TIMEOUT_S
        )
