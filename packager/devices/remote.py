"""Run a program on another machine, through its shell: what `adb` and `ssh` have in common."""

import re
import secrets
import shlex
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from packager import tools
from packager.devices import Architecture, CallTrace, Ran, Watch, system_calls
from packager.devices.folder import no_file, permissions, plain_name
from packager.devices.kit import INSTALL, Kit
from packager.errors import DeviceError, MissingToolError, ToolError

COMMAND_TIMEOUT_S = 60
COPY_TIMEOUT_S = 600
REACH_TIMEOUT_S = 15
"""For connecting, beside the time that the program itself may take."""
FIRST_SIGNAL_STATUS, LAST_SIGNAL_STATUS = 129, 192
TRACER = "strace"
UNFINISHED = "group"
"""The file that says what to kill: it is there while a program runs."""

LOADERS = {
    Architecture.AARCH64: "ld-linux-aarch64.so.1",
    Architecture.X86_64: "ld-linux-x86-64.so.2",
}
LIBRARIES = (
    "libc.so.6", "libdl.so.2", "libgcc_s.so.1", "libm.so.6", "libpthread.so.0", "librt.so.1",
    "libstdc++.so.6",
)  # fmt: skip
"""They go onto the device with the loader, so that it does not matter which ones it has."""


class Link(Protocol):
    """A way to another machine.

    Attributes:
        name: Of the device, as on the command line.
        parent: The folder there in which a folder is made, as its shell reads it.
    """

    name: str
    parent: str

    def send(self, script: str, *, timeout_s: float, stdin: bytes = b"") -> tools.Finished:
        """Have the machine's shell read a script of one line.

        Raises:
            DeviceError: The machine cannot be reached.
            ToolError: It did not end in time.
        """
        ...

    def push(self, files: Mapping[str, Path], folder: str) -> None:
        """Copy files into a folder there, by the names that they get, as `permissions` says.

        Raises:
            DeviceError: They could not be copied.
            ToolError: Likewise.
        """
        ...

    def pull(self, source: str, destination: Path) -> None:
        """Copy a file from there.

        Raises:
            DeviceError: It could not be copied.
            ToolError: Likewise.
        """
        ...


class RemoteDevice:
    """A machine that is reached over a link; see `Device`.

    Programs in its folder are run by a loader and a C library that are put beside them. An
    absolute name is that of a program which the machine has itself, and runs as it is.

    When a run takes too long the program is killed over a second connection. Where the link
    is lost meanwhile, or this process is killed, it runs on, and the folder stays.

    Peak memory is not known. System calls are watched where the machine has strace.
    """

    clock_counts_instructions = False

    def __init__(self, link: Link, kit: Kit, *, description: str, emulated: bool) -> None:
        """Ask the machine what it is.

        Raises:
            DeviceError: It cannot be reached, or nothing can be built for its processor.
            MissingToolError: The kit lacks a library for it.
        """
        self.name = link.name
        self.emulated = emulated
        self._link = link
        told = self._checked(f"uname -m; uname -sr; {TRACER} --version 2>&1 || :")
        machine, kernel, *about_tracer = (told.decode(errors="replace") + "\n").split("\n")
        self.architecture = self._architecture(_printable(machine))
        self.description = f"{description}, {_printable(kernel)} on {self.architecture}"
        found = re.search(r"version (\d+(?:\.\d+)*)", about_tracer[0])
        self._tracer = found[1] if found else None
        self._libraries = _libraries(kit, self.architecture)
        self.watches = frozenset(
            {Watch.NOTHING} if self._tracer is None else {Watch.NOTHING, Watch.SYSTEM_CALLS}
        )
        self._folder: str | None = None
        self._programs: set[str] = set()

    def __enter__(self) -> Self:
        folder = f"{self._link.parent}/packager-device-{secrets.token_hex(8)}"
        made = self._checked(f"umask 077; mkdir {folder} && cd {folder} && mkdir files && pwd")
        path = made.decode(errors="replace").strip()
        # What comes from the machine becomes part of scripts, and one of them removes it.
        if not re.fullmatch(r"/[\w./-]+/packager-device-[0-9a-f]{16}", path):
            raise DeviceError(self.name, f"it made the folder {path!r}, which is no plain path")
        self._folder = path
        try:
            self._push({library.name: library for library in self._libraries})
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._close()
        except DeviceError:
            # It cannot be reached any more: what went wrong first says more.
            if error is None:
                raise

    def put(self, source: Path, name: str) -> None:
        """Copy a file into the machine's folder; see `Device`."""
        plain_name(name, device=self.name)
        if not source.is_file():
            raise DeviceError(self.name, f"{source} cannot be put there: it is no file.")
        self._push({name: source})

    def get(self, name: str, destination: Path) -> None:
        """Copy a file back from the machine's folder; see `Device`."""
        place = f"{self._opened()}/files/{plain_name(name, device=self.name)}"
        there = self._checked(f"if [ -f {shlex.quote(place)} ]; then echo yes; fi")
        if there.strip() != b"yes":
            raise no_file(name, device=self.name)
        try:
            self._link.pull(place, destination)
        except ToolError as error:
            raise DeviceError(self.name, str(error)) from None

    def run(self, argv: Sequence[str], *, timeout_s: float, watch: Watch = Watch.NOTHING) -> Ran:
        """Run a program there; see `Device`."""
        assert watch in self.watches, f"{self.name} cannot watch {watch}"
        folder = self._opened()
        words = self._words(argv)
        if watch is Watch.SYSTEM_CALLS:
            self._checked(f"rm -rf {folder}/record; mkdir {folder}/record")
            words = [TRACER, "-ff", "-qq", "-o", f"{folder}/record/thread", "--", *words]
        try:
            status, finished = self._sent(
                _run_script(folder, words), timeout_s=timeout_s + REACH_TIMEOUT_S
            )
        except ToolError as error:
            self._checked(_kill_script(folder))
            remedy = "Look for what it waits for, or give it more time."
            raise DeviceError(self.name, f"{argv[0]} {error.problem}. {remedy}") from None
        is_signal = FIRST_SIGNAL_STATUS <= status <= LAST_SIGNAL_STATUS
        return Ran(
            returncode=FIRST_SIGNAL_STATUS - 1 - status if is_signal else status,
            stdout=finished.stdout,
            stderr=finished.stderr,
            calls=self._calls() if watch is Watch.SYSTEM_CALLS else None,
        )

    def _words(self, argv: Sequence[str]) -> list[str]:
        if argv[0].startswith("/"):
            return list(argv)
        folder, _, name = argv[0].rpartition("/")
        if folder != "." or name not in self._programs:
            problem = f"{argv[0]!r} is no program in its folder. Put it there, and call it ./NAME."
            raise DeviceError(self.name, problem)
        loader = LOADERS.get(self.architecture)
        return [*([] if loader is None else [f"./{loader}", "--library-path", "."]), *argv]

    def _calls(self) -> CallTrace:
        script = f"for record in {self._opened()}/record/*; do cat $record; echo; done"
        try:
            record = self._checked(script)
            return system_calls.trace([record], source=f"{TRACER} {self._tracer}")
        except ToolError as error:
            raise DeviceError(self.name, str(error)) from None

    def _architecture(self, machine: str) -> Architecture:
        try:
            return Architecture(machine)
        except ValueError:
            known = ", ".join(Architecture)
            problem = f"the machine is {machine!r}, and programs are for {known}"
            raise DeviceError(self.name, f"{problem}. Choose another device.") from None

    def _push(self, files: Mapping[str, Path]) -> None:
        try:
            self._link.push(files, f"{self._opened()}/files")
        except ToolError as error:
            raise DeviceError(self.name, str(error)) from None
        self._programs |= {name for name, file in files.items() if permissions(file) & stat.S_IXUSR}

    def _checked(self, script: str) -> bytes:
        """Return what a script printed that must succeed."""
        try:
            status, finished = self._sent(script, timeout_s=COMMAND_TIMEOUT_S)
        except ToolError as error:
            raise DeviceError(self.name, str(error)) from None
        if status != 0:
            said = _printable(finished.stderr[: tools.SHOWN_BYTES].decode(errors="replace"))
            raise DeviceError(self.name, f"its shell fails with status {status}: {said}")
        return finished.stdout

    def _sent(self, script: str, *, timeout_s: float) -> tuple[int, tools.Finished]:
        """Have the shell read a script; return its status, and what was printed before that.

        The status comes last in what is printed, behind a key that no program can know: that
        of the link's own program can mean anything.
        """
        key = secrets.token_hex(16)
        finished = self._link.send(f"({script}); s=$?; echo; echo {key} $s", timeout_s=timeout_s)
        printed, found, status = finished.stdout.rpartition(f"\n{key} ".encode())
        if not found or not status.strip().isdigit():
            said = _printable(finished.stderr[-tools.SHOWN_BYTES :].decode(errors="replace"))
            problem = f"the connection ended before the command did. It said: {said or 'nothing'}"
            raise DeviceError(self.name, problem)
        whole = tools.Finished(
            returncode=finished.returncode, stdout=printed, stderr=finished.stderr
        )
        return int(status), whole

    def _close(self) -> None:
        """Kill what still runs, and remove the folder."""
        if self._folder is None:
            return
        try:
            self._checked(f"{_kill_script(self._folder)}; rm -rf {self._folder}")
        finally:
            self._folder = None

    def _opened(self) -> str:
        assert self._folder is not None, "a device is used within its `with` statement"
        return self._folder


def _run_script(folder: str, words: Sequence[str]) -> str:
    """Return the script that runs a program, and notes meanwhile what to kill.

    That is the process group, with all that the program started, where the shell leads one:
    it has then been started for this script alone. `$3` is the group, from the fields of
    `/proc/PID/stat` behind the name.
    """
    mark = f"{folder}/{UNFINISHED}"
    command = " ".join(shlex.quote(word) for word in words)
    return (
        f"cd {folder}/files || exit; s=$(cat /proc/$$/stat); set -- ${{s##*) }}; "
        f'env -i LC_ALL=C PYTHONHASHSEED=0 PATH="$PATH" {command} </dev/null & p=$!; '
        f"if [ $3 = $$ ]; then echo -$$; else echo $p; fi >{mark}; "
        f"wait $p; s=$?; rm -f {mark}; exit $s"
    )


def _kill_script(folder: str) -> str:
    mark = f"{folder}/{UNFINISHED}"
    return f"if [ -f {mark} ]; then kill -9 $(cat {mark}); rm -f {mark}; fi"


def _libraries(kit: Kit, architecture: Architecture) -> list[Path]:
    """Return the loader and the libraries that go onto a device; none for 32 bits.

    A program for 32 bits is run by the device's own Python.

    Raises:
        MissingToolError: The kit lacks one.
    """
    if architecture not in LOADERS:
        return []
    found = []
    for name in (LOADERS[architecture], *LIBRARIES):
        folder = kit.sysroot(architecture) / "usr" / "lib" / f"{architecture}-linux-gnu"
        if not (folder / name).is_file():
            raise MissingToolError(name, needed_by="A remote device", install=INSTALL)
        found.append(folder / name)
    return found


def _printable(text: str) -> str:
    """Return text that is safe to print: a machine can send what steers a terminal."""
    return "".join(c if c.isprintable() else " " for c in text).strip()
