"""Run a program of an Arm device in QEMU's user emulation, without a kernel of its own.

The program's instructions are emulated, and its system calls go to this machine's kernel. It
sees the device's libraries and the device's processor: files below `/proc` and `/sys` that name
the processor are its own, as runtimes choose their kernels by them, or even crash.

Counts depend on the environment of a program, so that is fixed: variables, the length of its
path, the size of its stack, and the seed of its random numbers.
"""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from packager import tools
from packager.devices import Architecture, CallTrace, Mark, Ran, Watch, cpus, plugin, system_calls
from packager.devices.cpus import Profile
from packager.devices.folder import ENVIRONMENT, FolderDevice
from packager.devices.kit import INSTALL, Kit
from packager.devices.versions import version_of
from packager.errors import DeviceError, MissingToolError, ToolError

CORES = 1
"""As the processor files say. A runtime that sees more starts a thread for each when it loads,
and the counts of several threads are not exact."""
STACK_BYTES = 8 * 2**20
ASK_TIMEOUT_S = 10
OWN_FOLDERS = ("etc", "proc", "sys")
"""Which `make_root` makes itself. Of the last two the program sees this machine's files too."""
LOADER_FILES = ("ld.so.cache", "ld.so.preload")
"""In `/etc`, and empty: the loader must not look for libraries where this machine has its own."""


class QemuUser(FolderDevice):
    """An emulated processor; see `Device`.

    Peak memory is not known: the emulator's own would be in it. Each mark says whether the
    counts at it are exact, which they are for a program of one thread.
    """

    emulated = True
    clock_counts_instructions = False

    def __init__(self, cpu: str, kit: Kit) -> None:
        """Describe an emulated processor.

        Args:
            cpu: One of `packager.devices.cpus`.
            kit: Has the emulator, the libraries and the plugin.

        Raises:
            ConfigError: There is no such processor.
            MissingToolError: There is no emulator, or the kit is not whole.
            ToolError: The emulator does not run, or has neither that processor nor a stand-in.
        """
        self.name = f"qemu-user:{cpu}"
        self._profile = cpus.profile(cpu)
        self.architecture = self._profile.architecture
        self._emulator = kit.program(_emulator_name(self.architecture))
        self._core = cpus.core(self._profile, self._emulator)
        self._version = f"{self._emulator.name} {version_of(self._emulator)}"
        self.description = (
            f"{cpus.described(self._profile, self._core)}, emulated by {self._version}"
        )
        self._sysroot = _sysroot(kit, self.architecture)
        self._plugin = kit.plugin
        self.watches = frozenset({Watch.NOTHING, Watch.SYSTEM_CALLS})
        if self._plugin.is_file() and _takes_plugins(self._emulator):
            self.watches |= {Watch.INSTRUCTIONS}

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            make_root(self._opened().path / "root", self._sysroot, self._profile)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def run(self, argv: Sequence[str], *, timeout_s: float, watch: Watch = Watch.NOTHING) -> Ran:
        """Run a program; see `Device`. An absolute name is that of a program of the kit."""
        assert watch in self.watches, f"{self.name} cannot watch {watch}"
        folder = self._opened()
        with folder.record() as record:
            command = [
                str(self._emulator), "-cpu", self._core.name, "-L", str(folder.path / "root"),
                "-s", str(STACK_BYTES), "-seed", "1", *self._watching(watch, record),
                self._program(argv[0]), *argv[1:],
            ]  # fmt: skip
            try:
                finished = tools.run(
                    command, timeout_s=timeout_s, cwd=folder.files, env=ENVIRONMENT
                )
                self._require_emulation(finished)
                counting, tracing = watch is Watch.INSTRUCTIONS, watch is Watch.SYSTEM_CALLS
                marks = _marks(record, finished) if counting else ()
                calls = self._calls(record) if tracing else None
            except ToolError as error:
                raise DeviceError(self.name, str(error)) from None
        return Ran(
            returncode=finished.returncode,
            stdout=finished.stdout,
            stderr=finished.stderr,
            marks=marks,
            calls=calls,
        )

    def _watching(self, watch: Watch, record: Path) -> list[str]:
        """Return the emulator's options for what is to be observed."""
        match watch:
            case Watch.NOTHING:
                return []
            case Watch.INSTRUCTIONS:
                return ["-plugin", plugin.option(self._plugin, record / "marks")]
            case Watch.SYSTEM_CALLS:
                # A file for each thread, named after it. The path is relative, as the emulator
                # takes no other % in it.
                return ["-d", "strace,tid", "-D", f"../{record.name}/%d"]

    def _program(self, name: str) -> str:
        folder = self._opened()
        if not name.startswith("/"):
            folder.require_program(name)
            return name
        place = folder.path / "root" / name.lstrip("/")
        if not place.is_file():
            problem = f"the kit has no program {name!r}. {INSTALL}"
            raise DeviceError(self.name, problem)
        return str(place)

    def _require_emulation(self, finished: tools.Finished) -> None:
        """Fail if the emulator came to grief, not the program in it."""
        if finished.returncode == -signal.SIGKILL:
            remedy = "Look whether this machine has too little memory, then run the same again."
            raise DeviceError(self.name, f"the emulator was killed by SIGKILL. {remedy}")
        complaint = finished.stderr.startswith(f"{self._emulator.name}: ".encode())
        if finished.returncode > 0 and complaint:
            said = finished.stderr[: tools.SHOWN_BYTES].decode(errors="replace").strip()
            raise DeviceError(self.name, f"the emulator does not run it. It says: {said}")

    def _calls(self, record: Path) -> CallTrace:
        return system_calls.read(record, source=f"{self._version} -strace")


def make_root(root: Path, sysroot: Path, profile: Profile) -> None:
    """Make what a program sees as `/`: the device's own files first, then this machine's."""
    root.mkdir()
    _link_all(sysroot, root, without=OWN_FOLDERS)
    etc = root / "etc"
    etc.mkdir()
    if (sysroot / "etc").is_dir():
        _link_all(sysroot / "etc", etc, without=LOADER_FILES)
    for name in LOADER_FILES:
        (etc / name).touch()
    for name, content in cpus.system_files(profile, cores=CORES).items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content, "utf-8")


def _link_all(source: Path, into: Path, *, without: tuple[str, ...]) -> None:
    for path in source.iterdir():
        if path.name not in without:
            (into / path.name).symlink_to(path.absolute())


def _emulator_name(architecture: Architecture) -> str:
    match architecture:
        case Architecture.AARCH64:
            return "qemu-aarch64"
        case Architecture.ARMV7:
            return "qemu-arm"
        case Architecture.X86_64:
            raise AssertionError("no profile is of this architecture")


def _sysroot(kit: Kit, architecture: Architecture) -> Path:
    """Return the folder that programs see as `/`.

    Raises:
        MissingToolError: The kit lacks it.
    """
    is_legacy = architecture is Architecture.ARMV7
    place = kit.root / "python" / architecture if is_legacy else kit.sysroot(architecture)
    if not place.is_dir():
        what = str(place.relative_to(kit.root))
        raise MissingToolError(what, needed_by="An emulated device", install=INSTALL)
    return place


def _takes_plugins(emulator: Path) -> bool:
    """Return whether an emulator was built with plugins: those linked statically never are."""
    helped = tools.run([emulator, "--help"], timeout_s=ASK_TIMEOUT_S)
    return b"-plugin" in helped.stdout


def _marks(record: Path, finished: tools.Finished) -> tuple[Mark, ...]:
    place = record / "marks"
    written = place.read_bytes() if place.exists() else b""
    return plugin.marks(written, ended_by_itself=finished.returncode >= 0)
