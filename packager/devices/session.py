"""What an emulated machine left between power-on and power-off, and what is wrong with it."""

import re
from dataclasses import dataclass
from enum import StrEnum

from packager.devices import guest, serial
from packager.devices.guest import Report
from packager.devices.kit import INSTALL
from packager.errors import DeviceError

FATAL = re.compile(r"(?:Kernel panic - not syncing|Initramfs unpacking failed|packager): [^\n]+")
"""What the console says when the machine cannot do its work."""
OF_MEMORY = re.compile(r"memory|write error")
SHOWN_CHARACTERS = 600


class End(StrEnum):
    """How the emulator came to its end."""

    BY_ITSELF = "by itself"
    FAILED = "failed"
    KILLED = "killed"
    TOO_LATE = "too late"


@dataclass(frozen=True, kw_only=True)
class Session:
    """What a machine left.

    Attributes:
        end: Of the emulator.
        problem: That end in words, such as `was killed by SIGKILL`; empty where it was
            by itself.
        console: What the kernel printed; see `plain`.
        sent: What came over the second serial port.
        key: What opens each line of it that is not content.
    """

    end: End
    problem: str
    console: str
    sent: bytes
    key: str


def plain(raw: bytes) -> str:
    """Return text that is safe to print: a machine can send what steers a terminal."""
    text = raw.decode(errors="replace").replace("\r\n", "\n")
    return "".join(c for c in text if c.isprintable() or c == "\n").strip()


def report(session: Session, *, device: str) -> Report:
    """Return what the machine says of its run.

    Raises:
        DeviceError: It came to a bad end, or what it sent is not whole.
    """
    fatal = FATAL.search(session.console)
    if session.end is not End.BY_ITSELF:
        where = "while the program ran" if _started(session) else "before the program ran"
        problem = f"the emulator {session.problem}, {where}"
        raise DeviceError(device, f"{problem}. {_remedy(session)} {_said(session)}")
    if fatal is not None:
        advice = f"Look at the device kit: {INSTALL}"
        if OF_MEMORY.search(fatal[0]):
            advice = "Give it more memory, or put fewer files there."
        raise DeviceError(device, f"the machine stopped: {fatal[0]}. {advice}")
    if not _started(session):
        problem = "the machine switched itself off before the program ran"
        raise DeviceError(device, f"{problem}. {INSTALL} {_said(session)}")
    try:
        return guest.report(serial.received(session.sent, key=session.key))
    except ValueError as error:
        problem = f"what the machine sent over its serial port is damaged: {error}"
        raise DeviceError(device, f"{problem}. Run the same again. {_said(session)}") from None


def _started(session: Session) -> bool:
    return serial.has_started(session.sent, key=session.key)


def _said(session: Session) -> str:
    if not session.console:
        return "Its console said nothing."
    return f"Its console said last: {session.console[-SHOWN_CHARACTERS:]}"


def _remedy(session: Session) -> str:
    if session.end is End.FAILED:
        return "`packager doctor` checks the emulator."
    if session.end is End.KILLED:
        return "Look whether this computer has too little memory, then run the same again."
    if _started(session):
        return "Give it more time, or look for what the program waits for."
    return f"Give it more time; if that does not help: {INSTALL}"
