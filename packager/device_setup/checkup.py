"""Say which programs devices need, which of them are here, and how to get the others."""

import shutil

from packager.devices.kit import NAME, PROGRAMS, default_root, read_record
from packager.doctor import Tool

SET_UP = "packager setup-device qemu"
EMULATED = "emulated devices"
REAL = (("adb", "adb", "adb"), ("scp", "ssh", "openssh-client"), ("ssh", "ssh", "openssh-client"))
"""Programs, the kind of real device that each reaches, and the Debian package that brings it."""


def examine() -> tuple[Tool, ...]:
    """Look up the device kit, the programs that it uses, and those that reach real devices.

    Whether the kit's files are intact is not looked at: `packager setup-device` does that.
    """
    root = default_root()
    record = read_record(root)
    named = record.programs if record else {name: name for name in PROGRAMS}
    kit = _tool(NAME, EMULATED, str(root) if record else None, SET_UP)
    emulated = [
        _tool(name, EMULATED, shutil.which(str(root / place) if "/" in place else place), SET_UP)
        for name, place in named.items()
    ]
    real = [
        _tool(name, f"{kind} devices", shutil.which(name), f"apt-get install {package}")
        for name, kind, package in REAL
    ]
    return (kit, *emulated, *real)


def _tool(name: str, user: str, found: str | None, remedy: str) -> Tool:
    return Tool(
        name=name, needed_for=(user,), wanted="", found=found,
        usable=found is not None, remedy=remedy if found is None else "",
    )  # fmt: skip
