"""Run a program as the only job of a whole emulated machine: kernel, memory, no network card.

The machine boots Debian's kernel for Arm, runs the program under a limit of memory, sends
back what came of it, and switches itself off; see `packager/devices/init.sh`. It is made anew
for each run. Addresses, clock and the seed of random numbers are always the same, so that with
instructions watched a program's own timing repeats to the digit.
"""

import re
import secrets
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from packager import tools
from packager.devices import (
    Architecture,
    CallTrace,
    Ran,
    Watch,
    cpus,
    guest,
    initramfs,
    kernel_calls,
)
from packager.devices.folder import FolderDevice, plain_name
from packager.devices.guest import Order
from packager.devices.kit import INSTALL, Kit
from packager.devices.session import SHOWN_CHARACTERS, End, Session, plain, report
from packager.errors import DeviceError, MissingToolError, ToolError
from packager.storage import storage_errors, write_whole

EMULATOR = "qemu-system-aarch64"
MIB = 2**20
PAGE_BYTES = 4096
KERNEL_BYTES = 80 * MIB
"""What Debian's kernel 6.1 needs beside the files: to boot 51 MiB were measured, and a record of
system calls takes some."""
MAX_SENT_BYTES = 512 * MIB
ASK_TIMEOUT_S = 30

MACHINE = (
    "-M", "virt,dtb-randomness=off", "-smp", "1", "-rtc", "base=2026-01-01,clock=vm",
    "-nic", "none", "-nodefaults", "-display", "none", "-monitor", "none", "-no-reboot",
)  # fmt: skip
COUNTING = ("-icount", "shift=0,sleep=off")
"""The clock goes on by a nanosecond with each instruction, and jumps when there is none to run."""
# loglevel=4: errors, such as a program killed for want of memory. A ramfs takes what memory it
# needs, where the usual tmpfs gives up at half of it.
KERNEL_ARGUMENTS = (
    "console=ttyAMA0 quiet loglevel=4 panic=-1 rdinit=/init rootfstype=ramfs nokaslr "
    "cryptomgr.notests"
)


class QemuSystem(FolderDevice):
    """An emulated machine; see `Device`.

    The program runs as nobody, and cannot change the files that were put beside it. Those that
    it makes there come back with the run, those in folders below do not. The time that a run
    may take includes booting.

    Its peak of memory is what it cannot do without: its own data, what the kernel holds for
    it, and the files that it writes, which are in memory here. Code and files that it only
    reads are not counted. The kernel hands out memory to be counted in portions of 256 KiB, so
    the peak may be as much more than the program had; the limit is kept to the page.
    """

    architecture = Architecture.AARCH64
    emulated = True
    # While instructions are watched; in steps of 16, as the machine's counter has 62.5 MHz.
    clock_counts_instructions = True
    watches = frozenset({Watch.NOTHING, Watch.INSTRUCTIONS, Watch.SYSTEM_CALLS})

    def __init__(
        self, cpu: str, kit: Kit, *, ram_bytes: int, memory_limit_bytes: int | None
    ) -> None:
        """Describe a machine; each run makes it and switches it on.

        Args:
            cpu: One of `packager.devices.cpus`.
            kit: Has the emulator, the kernel and the libraries.
            ram_bytes: The machine's memory; it gets more where it would not boot with that, or
                the program could not have what it may use.
            memory_limit_bytes: How much the program may use; None for all that there is.

        Raises:
            ConfigError: There is no such processor.
            MissingToolError: There is no emulator, or the kit is not whole.
            ToolError: The emulator does not run.
        """
        self.name = f"qemu-system:{cpu}"
        self._profile = cpus.profile(cpu)
        self._emulator = kit.program(EMULATOR)
        self._core = cpus.core(self._profile, self._emulator)
        self._kernel = kit.kernel / "vmlinuz"
        self._system = guest.system(kit)
        self._asked_bytes = ram_bytes
        self._limit_bytes = memory_limit_bytes
        processor = cpus.described(self._profile, self._core)
        self._linux = _linux(self._kernel)
        self._words = f"{processor}, emulated by {_version(self._emulator)} with {self._linux}"
        self.description = self._words

    def __enter__(self) -> Self:
        super().__enter__()
        self.description = self._described()
        return self

    def put(self, source: Path, name: str) -> None:
        """Copy a file into the machine's folder; see `Device`."""
        super().put(source, name)
        self.description = self._described()

    def run(self, argv: Sequence[str], *, timeout_s: float, watch: Watch = Watch.NOTHING) -> Ran:
        """Switch the machine on, and run a program as its only job; see `Device`."""
        assert watch in self.watches, f"{self.name} cannot watch {watch}"
        self._require_runnable(argv)
        order = Order(
            argv=argv,
            key=secrets.token_hex(16),
            limit_bytes=self._limit_bytes,
            record_calls=watch is Watch.SYSTEM_CALLS,
            cpuinfo=self._cpuinfo(),
        )
        content = initramfs.archive({
            **self._system,
            **guest.orders(order),
            **{f"{guest.PROGRAM_FOLDER}/{path.name}": _entry(path) for path in self._files()},
        })  # fmt: skip
        with tempfile.TemporaryDirectory(dir=self._opened().path) as name:
            with storage_errors(Path(name)):
                (Path(name) / "initrd").write_bytes(content)
            session = self._power_on(Path(name), order.key, watch, timeout_s=timeout_s)
        told = report(session, device=self.name)
        for made, data in told.files.items():
            write_whole(self._opened().files / plain_name(made, device=self.name), data)
        self.description = self._described()
        return Ran(
            returncode=told.returncode,
            stdout=told.stdout,
            stderr=told.stderr,
            peak_memory_bytes=told.peak_memory_bytes,
            memory_limit_bytes=self._limit_bytes,
            out_of_memory=told.out_of_memory,
            network_devices=told.network_devices,
            calls=None if told.calls is None else self._calls(told.calls),
        )

    def _power_on(self, folder: Path, key: str, watch: Watch, *, timeout_s: float) -> Session:
        """Run the machine of `folder`'s initrd until it switches itself off."""
        argv = [
            self._emulator, *MACHINE, *(COUNTING if watch is Watch.INSTRUCTIONS else ()),
            "-cpu", self._core.name, "-m", f"{self._machine_bytes() // MIB}M",
            "-kernel", self._kernel, "-initrd", "initrd", "-append", KERNEL_ARGUMENTS,
            "-serial", "file:console",
            "-chardev", "file,id=sent,path=sent", "-device", "pci-serial,chardev=sent",
        ]  # fmt: skip
        end, problem = End.BY_ITSELF, ""
        try:
            finished = tools.run(argv, timeout_s=timeout_s, cwd=folder)
        except ToolError as error:
            end, problem = End.TOO_LATE, error.problem
        else:
            if finished.returncode != 0:
                end = End.KILLED if finished.returncode < 0 else End.FAILED
                printed = plain(finished.stderr)[-SHOWN_CHARACTERS:] or "nothing"
                problem = f"{tools.ended(finished)} (it printed: {printed})"
        return Session(
            end=end,
            problem=problem,
            console=plain(self._content(folder / "console")),
            sent=self._content(folder / "sent"),
            key=key,
        )

    def _content(self, path: Path) -> bytes:
        """Return what the emulator wrote to a file; it makes none before it runs."""
        if not path.exists():
            return b""
        if path.stat().st_size > MAX_SENT_BYTES:
            problem = f"the machine sent more than {MAX_SENT_BYTES} bytes over a serial port."
            raise DeviceError(self.name, f"{problem} Look at what the program writes.")
        return path.read_bytes()

    def _calls(self, record: bytes) -> CallTrace:
        try:
            return kernel_calls.read(record, source=self._linux)
        except ToolError as error:
            problem = f"the record of system calls cannot be read. {error}"
            raise DeviceError(self.name, f"{problem} Run the same again.") from None

    def _require_runnable(self, argv: Sequence[str]) -> None:
        for argument in argv:
            if "\n" in argument or "\0" in argument:
                problem = f"the argument {argument!r} has a line break, and cannot be passed on."
                raise DeviceError(self.name, f"{problem} Choose another name.")
        folder, _, name = argv[0].rpartition("/")
        place = self._opened().files / plain_name(name, device=self.name)
        if folder != "." or not place.is_file() or not place.stat().st_mode & stat.S_IXUSR:
            problem = f"{argv[0]!r} is no program in its folder. Put it there, and call it ./NAME."
            raise DeviceError(self.name, problem)

    def _files(self) -> list[Path]:
        return sorted(self._opened().files.iterdir())

    def _cpuinfo(self) -> str | None:
        """Return what is to be said of a processor that another one plays."""
        return cpus.cpuinfo_text(self._profile, cores=1) if self._core.stands_in else None

    def _machine_bytes(self) -> int:
        """Return how much memory the machine gets: what was asked for, or the least that will do.

        While it boots it holds the archive and the files that are unpacked from it, and
        afterwards the files and what the program may use.
        """
        sizes = [len(entry.content) for entry in self._system.values()]
        sizes += [path.stat().st_size for path in self._files()]
        disk_bytes = sum(_up(size, PAGE_BYTES) for size in sizes)
        least = KERNEL_BYTES + disk_bytes + max(disk_bytes, self._limit_bytes or 0)
        return _up(max(self._asked_bytes, least), MIB)

    def _described(self) -> str:
        limit = "all of it" if self._limit_bytes is None else f"{self._limit_bytes} bytes"
        return (
            f"{self._words}, {self._machine_bytes() // MIB} MiB of memory, of which the program "
            f"may use {limit}, no network card"
        )


def _entry(path: Path) -> initramfs.Entry:
    return initramfs.file(path.read_bytes(), permissions=stat.S_IMODE(path.stat().st_mode))


def _up(size: int, step: int) -> int:
    return -(-size // step) * step


def _version(emulator: Path) -> str:
    """Return the emulator and its version, such as `qemu-system-aarch64 7.2.22`."""
    finished = tools.run_checked([emulator, "--version"], timeout_s=ASK_TIMEOUT_S)
    printed = plain(finished.stdout)
    found = re.search(r"version ([0-9.]+)", printed)
    if found is None:
        raise ToolError(EMULATOR, "does not say its version", printed=printed[:SHOWN_CHARACTERS])
    return f"{EMULATOR} {found[1]}"


def _linux(kernel: Path) -> str:
    """Return the kernel and its version, such as `Linux 6.1.0-56-arm64`, as its image says."""
    try:
        image = kernel.read_bytes()
    except OSError:
        needs = "An emulated machine"
        raise MissingToolError(kernel.name, needed_by=needs, install=INSTALL) from None
    found = re.search(rb"Linux version ([0-9A-Za-z.+~-]+)", image)
    return "Linux of an unknown version" if found is None else f"Linux {found[1].decode()}"
