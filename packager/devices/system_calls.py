"""Read records of system calls: what strace writes, and what the user emulator writes.

Both write `name(arguments) = result`, the emulator with the number of the process before it:

    socket(AF_INET, SOCK_STREAM, IPPROTO_IP) = 9
    11313 socket(PF_INET,SOCK_STREAM,IPPROTO_IP) = 11

Have each thread write a file of its own, or calls of two threads end up in one line.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packager.devices import CallTrace
from packager.errors import ToolError

MAX_RECORD_BYTES = 256 * 2**20

# A process that forks can leave its own call unfinished, and a child's follows in the line.
CALL = re.compile(r"(?:^(?:\d+ )?|(?<=\))\d+ )(?:([a-z_]\w*)\(|Unknown syscall (\d+))")
OTHER = re.compile(r"--- |\+\+\+ | = |$")
"""How lines begin that are no calls: signals, the end of a process, a result that came late."""
FIRST_ARGUMENT = re.compile(r"[^,)]*")
RESULT = re.compile(r"\)\s*= (\d+)")
PAIR = re.compile(r"\[(\d+), (\d+)\]")

CREATE = frozenset({"socket", "socketpair"})
USE = frozenset({
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen",
    "recv", "recvfrom", "recvmmsg", "recvmsg", "send", "sendmmsg", "sendmsg", "sendto",
    "setsockopt", "shutdown",
})  # fmt: skip
UNSEEN = frozenset({"io_uring_enter", "io_uring_register", "io_uring_setup", "socketcall"})
"""By these a program can use sockets in ways that the record does not show."""
LOCAL = frozenset({
    "AF_LOCAL", "AF_NETLINK", "AF_UNIX", "PF_LOCAL", "PF_NETLINK", "PF_UNIX", "1", "16",
})  # fmt: skip
"""The families that stay on the machine: between processes, and with the kernel."""


@dataclass(frozen=True, kw_only=True)
class _Call:
    name: str
    first_argument: str
    line: str


def read(folder: Path, *, source: str) -> CallTrace:
    """Return what was recorded in a folder, in one file for each thread.

    Raises:
        ToolError: The record is missing, too large, or cannot be understood.
    """
    paths = sorted(folder.iterdir(), key=lambda path: (len(path.name), path.name))
    if not paths:
        raise ToolError(source, "recorded no system call", printed="")
    if sum(path.stat().st_size for path in paths) > MAX_RECORD_BYTES:
        raise ToolError(source, f"recorded more than {MAX_RECORD_BYTES} bytes", printed="")
    return trace([path.read_bytes() for path in paths], source=source)


def trace(records: Sequence[bytes], *, source: str) -> CallTrace:
    """Return the system calls of a program from the records of its threads.

    A call on a file descriptor counts as network unless a socket of a local family was created
    under that number: it can have been inherited. So does each call of `UNSEEN`.

    Raises:
        ToolError: A line is not understood, so that nobody can say what it was.
    """
    raw = b"".join(records)
    calls = [
        call
        for line in raw.decode(errors="backslashreplace").split("\n")
        for call in _calls(line, source)
    ]
    local = frozenset(number for call in calls for number in _local_sockets(call))
    network = [call.line for call in calls if _is_network(call, local)]
    return CallTrace(
        source=source,
        counts=tuple(sorted(Counter(call.name for call in calls).items())),
        network=tuple(dict.fromkeys(network)),
        raw=raw,
    )


def _calls(line: str, source: str) -> list[_Call]:
    found = [
        _Call(
            name=match[1] or f"unknown {match[2]}",
            first_argument=FIRST_ARGUMENT.match(line, match.end())[0],  # type: ignore[index]  # also matches nothing
            line=line,
        )
        for match in CALL.finditer(line)
    ]
    if not found and not OTHER.match(line):
        raise ToolError(source, "recorded a line that is not understood", printed=line)
    return found


def _local_sockets(call: _Call) -> list[str]:
    if call.name not in CREATE or call.first_argument not in LOCAL:
        return []
    pair = PAIR.search(call.line)
    if call.name == "socketpair":
        return [pair[1], pair[2]] if pair else []
    result = RESULT.search(call.line)
    return [result[1]] if result else []


def _is_network(call: _Call, local: frozenset[str]) -> bool:
    if call.name in CREATE:
        return call.first_argument not in LOCAL
    return call.name in UNSEEN or (call.name in USE and call.first_argument not in local)
