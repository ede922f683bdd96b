"""What the tests of devices share: a kit with the plugin of these sources, programs, leftovers."""

import time
from dataclasses import replace
from pathlib import Path

from packager import tools
from packager.devices import Architecture
from packager.devices.kit import Kit
from packager.devices.plugin import compile_plugin
from tests.conftest import require_kit

SOURCE = Path(__file__).with_name("device_program.c")
COMPILERS = {Architecture.AARCH64: "aarch64-linux-gnu-g++", Architecture.X86_64: "g++"}
KIT_FOLDERS = ("kernel", "runtime", "sysroot")


def kit_with_own_plugin(folder: Path) -> Kit:
    """Return this machine's kit, but for the plugin: that may be of older sources."""
    made = require_kit()
    for name in KIT_FOLDERS:
        (folder / name).symlink_to(made.root / name)
    programs = {name: str(made.program(name)) for name in made.record.programs}
    kit = Kit(root=folder, record=replace(made.record, programs=programs))
    compile_plugin(kit)
    return kit


def compiled(kit: Kit, architecture: Architecture, into: Path, *flags: str) -> Path:
    """Return the test program for an architecture."""
    sysroot = f"--sysroot={kit.sysroot(architecture)}"
    compiler = kit.program(COMPILERS[architecture])
    argv = [str(compiler), sysroot, "-xc", "-std=gnu17", "-O1", "-pthread", *flags]
    tools.run_checked([*argv, str(SOURCE), "-o", str(into)], timeout_s=60)
    return into


def processes_in(folder: Path) -> list[str]:
    """Return the processes that work in a folder or one below it, by their command."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            place = (process / "cwd").readlink()
            command = (process / "cmdline").read_bytes()
        except OSError:  # it has ended in the meantime
            continue
        if command and folder in (place, *place.parents):
            found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found


def none_stays_in(folder: Path, *, within_s: float = 5.0) -> bool:
    """Return whether all processes that work in a folder end in time."""
    end_s = time.monotonic() + within_s
    while processes_in(folder):
        if time.monotonic() > end_s:
            return False
        time.sleep(0.02)
    return True
