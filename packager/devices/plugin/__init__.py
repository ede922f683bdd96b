"""The emulator's plugin that counts instructions: compile it, load it, read what it wrote."""

import json
from enum import IntEnum
from pathlib import Path

from packager import tools
from packager.devices import Architecture, Mark
from packager.devices.kit import Kit
from packager.devices.versions import version_of
from packager.errors import ToolError
from packager.validations import SimdCount

SOURCE = Path(__file__).with_name("count.c")
NAME = SOURCE.name
COMPILE_TIMEOUT_S = 60


class Interface(IntEnum):
    """A version of the emulator's plugin interface."""

    FIRST = 1
    """Up to QEMU 8."""
    PER_VCPU = 4
    """From QEMU 9.2, where each emulated processor counts for itself."""


def compile_plugin(kit: Kit) -> None:
    """Put the plugin into a kit that is being made, for the emulator that the kit names.

    Raises:
        MissingToolError: There is no C compiler or no emulator.
        ToolError: It cannot be compiled.
    """
    kit.plugin.parent.mkdir(exist_ok=True)
    sysroot = f"--sysroot={kit.sysroot(Architecture.X86_64)}"
    interface = interface_of(kit.program("qemu-aarch64"))
    compile_for(interface, compiler=(str(kit.program("gcc")), sysroot), into=kit.plugin)


def interface_of(emulator: Path) -> Interface:
    """Return which plugin interface an emulator has, by its version.

    Raises:
        ToolError: It does not say its version.
    """
    major = int(version_of(emulator).split(".")[0])
    return Interface.FIRST if major < 9 else Interface.PER_VCPU


def compile_for(interface: Interface, *, compiler: tuple[str, ...], into: Path) -> None:
    """Compile the plugin for this machine.

    Raises:
        MissingToolError: There is no such compiler.
        ToolError: It failed.
    """
    flags = ("-shared", "-fPIC", "-O2", "-fvisibility=hidden", f"-DAPI={interface}")
    tools.run_checked([*compiler, *flags, SOURCE, "-o", into], timeout_s=COMPILE_TIMEOUT_S)


def option(plugin: Path, record: Path) -> str:
    """Return the emulator's `-plugin` option: a comma in a path is doubled, or it would end it.

    Args:
        plugin: The library.
        record: A file that does not exist yet, as an absolute path.
    """
    return f"{_escaped(plugin)},out={_escaped(record)}"


def marks(record: bytes, *, ended_by_itself: bool) -> tuple[Mark, ...]:
    """Return the marks that the plugin wrote down, in order.

    Args:
        record: All that it wrote.
        ended_by_itself: True where no signal killed the program: then the record has an end.

    Raises:
        ToolError: A line is missing or is not the plugin's.
    """
    try:
        lines = [json.loads(line) for line in record.splitlines()]
        ends = [int(line["end"]) for line in lines if "end" in line]
        found = tuple(_mark(line) for line in lines if "end" not in line)
    except (ValueError, TypeError, KeyError, AttributeError):
        shown = record[-tools.SHOWN_BYTES :].decode(errors="replace")
        raise ToolError(NAME, "wrote a record that cannot be read", printed=shown) from None
    # A forked child's marks are in the record too, but not in the count of the end.
    whole = len(ends) == 1 and len(found) >= ends[0] if ended_by_itself else not ends
    if not whole:
        raise ToolError(NAME, f"wrote a record of {len(found)} marks without its end", printed="")
    return found


def _mark(line: dict[str, object]) -> Mark:
    tag, exact, instructions, simd = (line[key] for key in ("tag", "exact", "instructions", "simd"))
    if not (
        isinstance(tag, int)
        and isinstance(exact, bool)
        and isinstance(instructions, int)
        and isinstance(simd, dict)
    ):
        raise TypeError
    classes = tuple(SimdCount(name=str(name), instructions=int(n)) for name, n in simd.items())
    return Mark(tag=tag, exact=exact, instructions=instructions, simd=classes)


def _escaped(path: Path) -> str:
    return str(path.absolute()).replace(",", ",,")
