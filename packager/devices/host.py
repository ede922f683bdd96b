"""Run a program on this machine itself, in a private temporary folder."""

import platform
from collections.abc import Sequence
from pathlib import Path

from packager import tools
from packager.devices import Architecture, CallTrace, Ran, Watch, system_calls
from packager.devices.folder import ENVIRONMENT, FolderDevice
from packager.devices.kit import Kit
from packager.devices.versions import version_of
from packager.errors import DeviceError, ToolError

NAME = "host"
TRACER = "strace"


class Host(FolderDevice):
    """This machine; see `Device`.

    Instructions are not counted: a processor's own counters need privileges, count what other
    programs and the kernel do in between, and do not repeat; and instructions of this machine
    say nothing about a device of another kind.

    While system calls are watched, a run ends when every process that the program started has
    ended.
    """

    name = NAME
    emulated = False
    clock_counts_instructions = False
    watches = frozenset({Watch.NOTHING, Watch.SYSTEM_CALLS})

    def __init__(self, kit: Kit) -> None:
        """Describe this machine.

        Args:
            kit: Has what watches system calls.

        Raises:
            DeviceError: Nothing can be built for its processor.
            MissingToolError: The kit is not whole.
        """
        try:
            self.architecture = Architecture(platform.machine())
        except ValueError:
            known = ", ".join(Architecture)
            problem = f"this machine is {platform.machine()!r}, and programs are for {known}"
            raise DeviceError(NAME, f"{problem}. Choose an emulated device.") from None
        self.description = f"this machine, {platform.system()} on {self.architecture}"
        self._tracer = kit.program(TRACER)

    def run(self, argv: Sequence[str], *, timeout_s: float, watch: Watch = Watch.NOTHING) -> Ran:
        """Run a program; see `Device`."""
        assert watch in self.watches, f"{self.name} cannot watch {watch}"
        folder = self._opened()
        folder.require_program(argv[0])
        with folder.record() as record:
            watcher: list[str] = []
            if watch is Watch.SYSTEM_CALLS:
                watcher = [str(self._tracer), "-ff", "-qq", "-o", str(record / "thread"), "--"]
            try:
                finished = tools.run(
                    [*watcher, *argv], timeout_s=timeout_s, cwd=folder.files, env=ENVIRONMENT
                )
                calls = self._calls(record, finished) if watch is Watch.SYSTEM_CALLS else None
            except ToolError as error:
                raise DeviceError(NAME, str(error)) from None
        return Ran(
            returncode=finished.returncode,
            stdout=finished.stdout,
            stderr=finished.stderr,
            calls=calls,
        )

    def _calls(self, record: Path, finished: tools.Finished) -> CallTrace:
        if not any(record.iterdir()):
            printed = finished.stderr[-tools.SHOWN_BYTES :].decode(errors="replace")
            raise ToolError(TRACER, "recorded nothing: it may not trace here", printed=printed)
        return system_calls.read(record, source=f"{TRACER} {version_of(self._tracer)}")
