"""External programs: find them, run them, and leave nothing of them behind."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from packager.errors import MissingToolError, ToolError

KEEPER = "setpriv"
"""Starts a program that the kernel kills when its parent dies; part of util-linux."""
NOT_STARTED = (126, 127)
"""Its exit codes where the program cannot be started."""
SHOWN_BYTES = 2000
"""Of what a failed program printed last: enough for its own message."""
MAX_OUTPUT_BYTES = 256 * 2**20
OUTPUT_CHECK_S = 0.25
"""How often a program's output is measured while it runs: one that prints for ever must not
fill the disk until its time is up."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A program that ended by itself.

    Attributes:
        returncode: Its exit code; minus the number of the signal that killed it.
    """

    returncode: int
    stdout: bytes
    stderr: bytes


def find(program: str, *, needed_by: str, install: str) -> Path:
    """Return where a program is.

    Args:
        program: Its name, looked for on the PATH.
        needed_by: What cannot be done without it.
        install: The sentence that says how to get it.

    Raises:
        MissingToolError: It is not here.
    """
    found = shutil.which(program)
    if found is None:
        raise MissingToolError(program, needed_by=needed_by, install=install)
    return Path(found)


def run(
    argv: Sequence[str | Path],
    *,
    timeout_s: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
) -> Finished:
    """Run a program to its end, whatever its exit code.

    The program and all that it started are killed when the time is up, when it has ended itself,
    when this process is interrupted, and (on Linux, itself at least) when this process dies.
    What makes a session of its own, as a daemon does, gets away.

    Args:
        argv: The program and its arguments; no shell reads them.
        timeout_s: How long it may take.
        cwd: The folder that it runs in; None for this process's.
        env: All of its environment; None for this process's.
        stdin: What it reads; nothing by default, never the terminal.

    Raises:
        MissingToolError: There is no such program.
        ToolError: It cannot be started, did not end in time, or printed more than can be kept.
    """
    name = Path(argv[0]).name
    with tempfile.TemporaryFile() as given, _outputs() as (out, err):
        given.write(stdin)
        given.seek(0)
        command = _command(name, argv, cwd)
        try:
            # Without a function to run before the program: a process that is forked for one while
            # threads of a framework run can hang.
            process = subprocess.Popen(
                command, cwd=cwd, env=env, stdin=given, stdout=out, stderr=err,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise ToolError(name, f"cannot be started: {error.strerror}", printed="") from None
        try:
            problem = _wait(process, (out, err), timeout_s=timeout_s)
        finally:
            _kill_group(process)
        if problem is not None:
            raise ToolError(name, problem, printed=_last(err) or _last(out))
        finished = Finished(returncode=process.returncode, stdout=_all(out), stderr=_all(err))
        _require_started(name, command, finished)
        return finished


def run_checked(
    argv: Sequence[str | Path],
    *,
    timeout_s: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
) -> Finished:
    """Run a program that must succeed; see `run`.

    Raises:
        MissingToolError: There is no such program.
        ToolError: It failed, did not end in time, or printed more than can be kept.
    """
    finished = run(argv, timeout_s=timeout_s, cwd=cwd, env=env, stdin=stdin)
    if finished.returncode != 0:
        printed = (finished.stderr.strip() or finished.stdout.strip())[-SHOWN_BYTES:]
        raise ToolError(
            Path(argv[0]).name, ended(finished), printed=printed.decode(errors="replace")
        )
    return finished


def ended(finished: Finished) -> str:
    """Return how a program ended, in words: `ended with exit code 3`, `was killed by SIGKILL`."""
    if finished.returncode >= 0:
        return f"ended with exit code {finished.returncode}"
    number = -finished.returncode
    known = number in set(signal.Signals)
    return f"was killed by {signal.Signals(number).name if known else f'signal {number}'}"


@contextlib.contextmanager
def _outputs() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    # Files, not pipes: a program's left-over child that holds a pipe open would hang us.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        yield out, err


def _command(name: str, argv: Sequence[str | Path], cwd: Path | None) -> list[str]:
    """Return what is started: the program, by one that lets it die with this process.

    Raises:
        MissingToolError: There is no such program.
        ToolError: It is a file of another kind.
    """
    program = str(argv[0])
    # A name with a slash is looked for in the folder that the program runs in.
    found = shutil.which(program) if "/" not in program else program
    if found is None or not (cwd or Path()).joinpath(found).exists():
        remedy = "`packager doctor` says how to get it."
        raise MissingToolError(name, needed_by="This step", install=remedy)
    command = [found, *(str(part) for part in argv[1:])]
    keeper = shutil.which(KEEPER)  # of Linux; elsewhere the program is only killed by `run`
    if keeper is None:
        return command
    _require_program(name, (cwd or Path()) / found)
    return [keeper, "--pdeathsig", "KILL", "--", *command]


def _require_program(name: str, place: Path) -> None:
    """Fail where the keeper would hand a file that is no program to a shell."""
    try:
        with place.open("rb") as stream:
            begin = stream.read(4)
    except OSError:
        return  # it may be started though it cannot be read
    if begin[:2] != b"#!" and begin != b"\x7fELF":
        raise ToolError(name, "cannot be started: it is no program", printed="")


def _require_started(name: str, command: Sequence[str], finished: Finished) -> None:
    """Fail where it was the keeper that ended, because the program is none."""
    kept = Path(command[0]).name == KEEPER
    if kept and finished.returncode in NOT_STARTED and finished.stderr.startswith(b"setpriv: "):
        reason = finished.stderr.decode(errors="replace").strip().rpartition(": ")[2]
        raise ToolError(name, f"cannot be started: {reason}", printed="")


def _wait(
    process: subprocess.Popen[bytes], outputs: tuple[IO[bytes], IO[bytes]], *, timeout_s: float
) -> str | None:
    """Wait until a program ends; return what it must be killed for, in words, if it does not."""
    end_s = time.monotonic() + timeout_s
    while True:
        left_s = max(0.0, end_s - time.monotonic())
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(min(left_s, OUTPUT_CHECK_S))
        # Not by seeking: the program writes where the file's position is.
        if sum(os.fstat(stream.fileno()).st_size for stream in outputs) > MAX_OUTPUT_BYTES:
            return f"printed more than {MAX_OUTPUT_BYTES} bytes, and was killed"
        if process.returncode is not None:
            return None
        if left_s == 0.0:
            return f"did not end within {timeout_s:g} s, and was killed"


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End whatever is left of a program, and take the program's own exit in."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last(stream: IO[bytes]) -> str:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - SHOWN_BYTES))
    return stream.read().strip().decode(errors="replace")


def _all(stream: IO[bytes]) -> bytes:
    stream.seek(0)
    return stream.read()
