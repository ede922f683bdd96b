"""Try the emulator out: what it can do, and where it computes wrongly.

Emulators of one version differ in what they were built with, and some compute wrongly: QEMU
7.2's `-cpu max` offers an extension, SME, with which int8 networks go wrong. So nothing is
concluded from a version. A small int8 network, whose answer is known from whole-number
arithmetic, is run by the runtime itself on every processor that is offered.
"""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from packager import progress, shipped, tools
from packager.artifacts import Runtime
from packager.devices import Architecture, Device, Watch, cpus
from packager.devices.cpus import Profile
from packager.devices.kit import Kit
from packager.devices.qemu_system import QemuSystem
from packager.devices.qemu_user import QemuUser, make_root
from packager.devices.versions import version_of
from packager.errors import DeviceError, ToolError
from packager.kit_record import Emulator

KNOWN_ANSWER = (-8, 4, -3, 14, -13, 0, -5, 1, -16, -5)
"""Of the network in `probe/known.tflite`; tests/known_network.py works it out."""

PROBE = Path(__file__).parent / "probe"
NETWORK = PROBE / "known.tflite"
LIBRARY = "libLiteRt.so"
PYTHON = "/usr/bin/python3.11"
EMULATOR = "qemu-aarch64"

FIRST_CPU = "cortex-a53"
"""On this is tried what has nothing to do with the processor."""
RISKY_CORE = "max"
"""What the emulator takes unless it is told otherwise. It is never used, and tried for a warning."""

COMPILE_TIMEOUT_S = 120
RUN_TIMEOUT_S = 60
MACHINE_BYTES = 256 * 2**20


@dataclass(frozen=True, kw_only=True)
class Program:
    """The known network, and what runs it.

    Attributes:
        files: What a device needs in its folder.
        argv: Starts it there.
    """

    files: tuple[Path, ...]
    argv: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where all the files lie, if they do in one place."""
        return self.files[0].parent


def examine(kit: Kit) -> Emulator:
    """Find out what the emulator of a kit can do; its plugin must be there.

    Raises:
        ToolError: A compiler or the runtime does not work, or the emulator computes wrongly
            on every processor.
    """
    with (
        tempfile.TemporaryDirectory() as name,
        progress.track("trying the emulator out", len(cpus.PROFILES) + 3) as advance,
    ):
        folder = Path(name)
        require_right_here(compiled(kit, Architecture.X86_64, folder / "native"))
        program = compiled(kit, Architecture.AARCH64, folder / "arm")
        advance("this machine")
        faults = {}
        for cpu, profile in cpus.PROFILES.items():
            faults[cpu] = fault_on_processor(kit, profile, program)
            advance(cpu)
        core_fault = fault_on_core(kit, RISKY_CORE, program)
        needs_cpuinfo = not _runs_without_cpuinfo(kit, program)
        advance(RISKY_CORE)
        machine_fault = _fault_of_machine(kit, program)
        advance("a whole machine")
        counts = _counts(kit, program)
    exact = tuple(cpu for cpu, fault in faults.items() if fault is None)
    if not exact:
        problem = f"computes wrongly on every processor; {FIRST_CPU} {faults[FIRST_CPU]}"
        raise ToolError(EMULATOR, problem, printed="")
    told = {**faults, f"-cpu {RISKY_CORE}": core_fault, "the emulated machine": machine_fault}
    return Emulator(
        version=version_of(kit.program(EMULATOR)),
        counts=counts,
        boots=machine_fault is None,
        needs_cpuinfo=needs_cpuinfo,
        exact_cpus=exact,
        faults=tuple(f"{what} {fault}" for what, fault in told.items() if fault is not None),
    )


def compiled(kit: Kit, architecture: Architecture, folder: Path) -> Program:
    """Compile the program that runs the known network; lay it out in a new folder.

    Raises:
        ToolError: A compiler does not work, or LiteRT is not as it should be.
    """
    folder.mkdir()
    libraries = kit.runtime(Runtime.LITERT, architecture) / "lib"
    is_native = architecture is Architecture.X86_64
    compiler = kit.program("g++" if is_native else "aarch64-linux-gnu-g++")
    options = [f"--sysroot={kit.sysroot(architecture)}", f"-I{_litert_header().parent}", "-O1"]
    linked = [f"-L{libraries}", "-lLiteRt", "-Wl,-rpath,$ORIGIN"]
    command: list[str | Path] = [compiler, *options, "-x", "c", PROBE / "probe.c"]
    tools.run_checked([*command, "-o", folder / "probe", *linked], timeout_s=COMPILE_TIMEOUT_S)
    for path in (libraries / LIBRARY, NETWORK):
        shutil.copy(path, folder)
    return Program(files=tuple(folder.iterdir()), argv=("./probe", NETWORK.name))


def _litert_header() -> Path:
    """Return the declarations of LiteRT, which the sample app has."""
    return shipped.folder("sample_apps") / "handheld" / "cpp" / "src" / "litert_c_api.h"


def require_right_here(program: Program) -> None:
    """Fail unless this machine itself gives the known answer: else it could judge no emulator.

    Raises:
        ToolError: It does not.
    """
    finished = tools.run_checked(program.argv, timeout_s=RUN_TIMEOUT_S, cwd=program.folder)
    if _answer(finished.stdout) != KNOWN_ANSWER:
        problem = "gives a wrong answer on this machine"
        raise ToolError("LiteRT", problem, printed=finished.stdout.decode(errors="replace"))


def fault_on_processor(kit: Kit, profile: Profile, program: Program) -> str | None:
    """Say what is wrong with an emulated processor; None where it gives the known answer."""
    is_32_bit = profile.architecture is Architecture.ARMV7
    try:
        return _fault(QemuUser(profile.name, kit), _interpreted() if is_32_bit else program)
    except ToolError as error:
        return str(error)


def fault_on_core(kit: Kit, core: str, program: Program) -> str | None:
    """Say what is wrong with one of the emulator's own processors; None if nothing is."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "root"
        make_root(root, kit.sysroot(Architecture.AARCH64), cpus.PROFILES[FIRST_CPU])
        command = [str(kit.program(EMULATOR)), "-cpu", core, "-L", str(root), *program.argv]
        finished = tools.run(command, timeout_s=RUN_TIMEOUT_S, cwd=program.folder)
    return _fault_in(finished.returncode, finished.stdout)


def _runs_without_cpuinfo(kit: Kit, program: Program) -> bool:
    sysroot, emulator = kit.sysroot(Architecture.AARCH64), kit.program(EMULATOR)
    core = cpus.core(cpus.PROFILES[FIRST_CPU], emulator).name
    command = [str(emulator), "-cpu", core, "-L", str(sysroot), *program.argv]
    return tools.run(command, timeout_s=RUN_TIMEOUT_S, cwd=program.folder).returncode == 0


def _fault_of_machine(kit: Kit, program: Program) -> str | None:
    """Say what is wrong with the emulated machine; None where it gives the known answer."""
    try:
        machine = QemuSystem(FIRST_CPU, kit, ram_bytes=MACHINE_BYTES, memory_limit_bytes=None)
    except ToolError as error:
        return str(error)
    return _fault(machine, program)


def _counts(kit: Kit, program: Program) -> bool:
    """Return whether two runs count the same instructions."""
    device = QemuUser(FIRST_CPU, kit)
    if Watch.INSTRUCTIONS not in device.watches:
        return False
    with device:
        for path in program.files:
            device.put(path, path.name)
        try:
            first, second = (
                device.run(program.argv, timeout_s=RUN_TIMEOUT_S, watch=Watch.INSTRUCTIONS).marks
                for _ in range(2)
            )
        except DeviceError:
            return False
    return bool(first) and first == second


def _fault(device: Device, program: Program) -> str | None:
    try:
        with device:
            for path in program.files:
                device.put(path, path.name)
            ran = device.run(program.argv, timeout_s=RUN_TIMEOUT_S)
    except DeviceError as error:
        return str(error)
    return _fault_in(ran.returncode, ran.stdout)


def _fault_in(returncode: int, printed: bytes) -> str | None:
    if returncode != 0:
        return f"ends the known network with {returncode}"
    if _answer(printed) != KNOWN_ANSWER:
        return "computes a wrong answer to the known int8 network"
    return None


def _interpreted() -> Program:
    """Return the program for a device that has Python and tflite-runtime."""
    script = PROBE / "probe.py"
    return Program(files=(script, NETWORK), argv=(PYTHON, "-sP", script.name, NETWORK.name))


def _answer(printed: bytes) -> tuple[int, ...]:
    try:
        return tuple(int(line) for line in printed.split())
    except ValueError:
        return ()
