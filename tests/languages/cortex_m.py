"""Run cases through generated C on an emulated Cortex-M4, without an operating system."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from packager.codegen import Language
from packager.contract import IoContract
from tests.conftest import require_program
from tests.languages.c import (
    RUNNERS,
    WARNINGS,
    check_call,
    compile_all,
    write_calls,
    write_contracts,
)

MACHINE = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
FLAGS = (*MACHINE, "-std=c99", "-O1", "-ffreestanding", *WARNINGS)
LINKED = ("-nostdlib", "-T", str(RUNNERS / "cortex_m.ld"))
EMULATOR = (
    "-M", "mps2-an386", "-display", "none", "-monitor", "none", "-serial", "none",
    "-semihosting-config", "enable=on,target=native",
)  # fmt: skip


def run(contracts: Sequence[IoContract], cases: Path, folder: Path) -> Path:
    """Generate, compile and run all contracts as one program; return the file of results."""
    compiler = require_program("arm-none-eabi-gcc", "apt-get install gcc-arm-none-eabi")
    emulator = require_program("qemu-system-arm", "apt-get install qemu-system-arm")
    sources = [*write_contracts(contracts, folder, Language.C), write_calls(contracts, folder)]
    sources += [RUNNERS / "runner.c", RUNNERS / "mcu.c", RUNNERS / "cortex_m.c"]
    objects = compile_all((compiler, *FLAGS), sources, folder)
    program = folder / "runner.elf"
    command = [compiler, *MACHINE, *LINKED, *map(str, objects), "-lgcc", "-o", str(program)]
    check_call(command, folder)
    # The program knows its files by name only.
    if cases != folder / "cases":
        shutil.copyfile(cases, folder / "cases")
    check_call([emulator, *EMULATOR, "-kernel", str(program)], folder)
    return folder / "results"
