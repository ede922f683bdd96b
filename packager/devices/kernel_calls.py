"""Read the record of system calls that a Linux kernel writes of a program.

Its tracefs has two lines for most calls, with all numbers but the process's and the time in
hexadecimal:

    <...>-97 [000] ..... 4.108651: sys_socket(family: 2, type: 1, protocol: 0)
    <...>-97 [000] ..... 4.109641: sys_socket -> 0x3
"""

import re
from collections import defaultdict
from dataclasses import dataclass, replace

from packager.devices import CallTrace, guest, system_calls
from packager.errors import ToolError

LINE = re.compile(
    r" *<\.\.\.>-(\d+) +\[\d+\] \S+ +[\d.]+: sys_(\w+)(?:\(([^()]*)\)| -> 0x([0-9a-f]+))"
)
ARGUMENT = re.compile(r"\w+: ([0-9a-f]+)")
SIGN_BIT, WORD = 2**63, 2**64


@dataclass(frozen=True, kw_only=True)
class _Event:
    """A call that begins, which has arguments, or one that ends, which has a result."""

    process: str
    name: str
    arguments: str | None
    result: int | None


def read(raw: bytes, *, source: str) -> CallTrace:
    """Return the system calls of a program from the kernel's record of its process.

    Args:
        raw: The record, from before its process became the program.
        source: What wrote it, such as `Linux 6.1.0-56-arm64`.

    Raises:
        ToolError: A line is not understood, or the program never started.
    """
    lines = [line for line in raw.decode(errors="backslashreplace").split("\n") if line]
    events = [_event(line, source) for line in lines if not line.startswith("#")]
    begin = _begin(events)
    if begin is None:
        last = lines[-1] if lines else ""
        raise ToolError(source, "recorded no start of the program", printed=last)
    done: defaultdict[str, list[str]] = defaultdict(list)
    pending: dict[str, str] = {}
    for event in events[begin:]:
        if event.result is None:
            pending[event.process] = f"{event.name}({event.arguments})"
        elif event.process in pending:  # or its call was made before: it is the first of a child
            done[event.process].append(f"{pending.pop(event.process)} = {event.result}\n")
    for process, call in pending.items():
        done[process].append(f"{call} = ?\n")
    trace = system_calls.trace(["".join(calls).encode() for calls in done.values()], source=source)
    return replace(trace, raw=raw)


def _event(line: str, source: str) -> _Event:
    match = LINE.fullmatch(line)
    if match is None:
        raise ToolError(source, "recorded a line that is not understood", printed=line)
    arguments = None if match[3] is None else _decimal(match[3])
    result = None if match[4] is None else _signed(match[4])
    return _Event(process=match[1], name=match[2], arguments=arguments, result=result)


def _begin(events: list[_Event]) -> int | None:
    """Return where the program begins: its process gave up root, and then became the program."""
    is_nobody = False
    for place, event in enumerate(events):
        is_nobody |= (event.name, event.arguments) == ("setuid", str(guest.NOBODY))
        if is_nobody and (event.name, event.result) == ("execve", 0):
            return place + 1
    return None


def _decimal(arguments: str) -> str:
    return ", ".join(str(int(value, 16)) for value in ARGUMENT.findall(arguments))


def _signed(result: str) -> int:
    value = int(result, 16)
    return value - WORD if value & SIGN_BIT else value
