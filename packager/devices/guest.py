"""What an emulated machine holds when it is switched on, and what it says of a run."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packager.devices import Architecture, initramfs
from packager.devices.initramfs import Entry
from packager.devices.kit import INSTALL, Kit
from packager.errors import MissingToolError

INIT = Path(__file__).with_name("init.sh")
APPLETS = (
    "base64", "cat", "env", "fallocate", "gzip", "hexdump", "ls", "mkdir", "mount", "poweroff", "sh",
    "sha256sum", "start-stop-daemon", "stat", "stty", "truncate",
)  # fmt: skip
"""Of busybox: those that `init.sh` uses."""
LIBRARIES = (
    "libc.so.6", "libdl.so.2", "libgcc_s.so.1", "libm.so.6", "libpthread.so.0", "librt.so.1",
    "libstdc++.so.6",
)  # fmt: skip
"""Of the machine itself; others lie beside the program."""
LIBRARY_FOLDER = "lib/aarch64-linux-gnu"
LOADER = "lib/ld-linux-aarch64.so.1"
PROGRAM_FOLDER = "payload"
FACTS = ("status", "peak_memory_bytes", "killed_for_memory", "network_devices")
SIGNAL_STATUSES = range(129, 193)
"""What a shell sees of a program that one of the 64 signals ended."""
NOBODY = 65534
"""The user that runs the program."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a machine is to do.

    Attributes:
        argv: The program and its arguments, without line breaks.
        key: See `packager.devices.serial`.
        limit_bytes: Of the program's memory; None for no limit.
        record_calls: Is the kernel to record the program's system calls?
        cpuinfo: What `/proc/cpuinfo` is to say; None for what the kernel says.
    """

    argv: Sequence[str]
    key: str
    limit_bytes: int | None
    record_calls: bool
    cpuinfo: str | None


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a machine sent of a run.

    Attributes:
        returncode: As in `Ran`; but an exit code of 129 to 192 cannot be told from a signal,
            and is taken for one.
        calls: The kernel's record of the program's system calls; None where it was not asked.
        files: What the program made or changed, by name.
    """

    returncode: int
    stdout: bytes
    stderr: bytes
    peak_memory_bytes: int
    out_of_memory: bool
    network_devices: tuple[str, ...]
    calls: bytes | None
    files: dict[str, bytes]


def system(kit: Kit) -> dict[str, Entry]:
    """Return what every machine holds: its first process, busybox, and the C and C++ libraries.

    Raises:
        MissingToolError: The kit lacks one of them.
    """
    libraries = kit.sysroot(Architecture.AARCH64) / "usr" / LIBRARY_FOLDER
    files = {
        "bin/busybox": kit.kernel / "busybox",
        LOADER: libraries / Path(LOADER).name,
        **{f"{LIBRARY_FOLDER}/{name}": libraries / name for name in LIBRARIES},
    }
    return {
        "init": initramfs.file(INIT.read_bytes(), permissions=0o700),
        "dev/console": initramfs.character_device(5, 1, permissions=0o600),
        "etc/passwd": initramfs.file(
            f"nobody:x:{NOBODY}:{NOBODY}::/:/bin/false\n".encode(), permissions=0o644
        ),
        **{name: _executable(path) for name, path in files.items()},
        **{f"bin/{name}": initramfs.link("busybox") for name in APPLETS},
        **{name: initramfs.folder(permissions=0o755) for name in ("proc", "run", "sys")},
        "boot": initramfs.folder(permissions=0o700),
        PROGRAM_FOLDER: initramfs.folder(permissions=0o777),
    }


def orders(order: Order) -> dict[str, Entry]:
    """Return the files that tell the first process what to do."""
    limit = "max" if order.limit_bytes is None else str(order.limit_bytes)
    entries = {
        "boot/argv": _secret("\n".join(order.argv)),
        "boot/key": _secret(order.key),
        "boot/limit": _secret(limit),
    }
    if order.record_calls:
        entries["boot/record"] = _secret("")
    if order.cpuinfo is not None:
        entries["boot/cpuinfo"] = initramfs.file(order.cpuinfo.encode(), permissions=0o444)
    return entries


def _secret(text: str) -> Entry:
    return initramfs.file(f"{text}\n".encode(), permissions=0o600)


def report(files: Mapping[str, bytes]) -> Report:
    """Return what a machine says of a run in the files that it sent.

    Raises:
        ValueError: A file or a fact is missing, or is not what the first process writes.
    """
    for name in ("facts", "stdout", "stderr"):
        if name not in files:
            raise ValueError(f"it has no file {name!r}")
    facts = _facts(files["facts"].decode())
    status = int(facts["status"])
    folder = f"{PROGRAM_FOLDER}/"
    return Report(
        returncode=128 - status if status in SIGNAL_STATUSES else status,
        stdout=files["stdout"],
        stderr=files["stderr"],
        peak_memory_bytes=int(facts["peak_memory_bytes"]),
        out_of_memory=int(facts["killed_for_memory"]) > 0,
        network_devices=tuple(facts["network_devices"].split()),
        calls=files.get("calls"),
        files={n.removeprefix(folder): d for n, d in files.items() if n.startswith(folder)},
    )


def _facts(text: str) -> dict[str, str]:
    lines = [line.partition(" ") for line in text.splitlines()]
    facts = {name: value for name, _, value in lines}
    wrong = [
        name for name in FACTS[:-1] if re.fullmatch("[0-9]{1,19}", facts.get(name, "")) is None
    ]
    if wrong or tuple(name for name, _, _ in lines) != FACTS:
        raise ValueError(f"its facts are not {', '.join(FACTS)}: {text[:200]!r}")
    return facts


def _executable(path: Path) -> Entry:
    try:
        return initramfs.file(path.read_bytes(), permissions=0o755)
    except OSError:
        raise MissingToolError(
            path.name, needed_by="An emulated machine", install=INSTALL
        ) from None
