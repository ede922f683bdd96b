"""Run jobs side by side in worker processes that are quiet, and die with their parent."""

import contextlib
import ctypes
import multiprocessing
import multiprocessing.process
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeVar

from packager import progress
from packager.errors import ConversionError

J = TypeVar("J")
R = TypeVar("R")

PR_SET_PDEATHSIG = 1


def run(work: Callable[[J], R], jobs: Sequence[J], *, log: Path) -> list[R]:
    """Return `work(job)` for each job, in order; count each one that is done as progress.

    Ctrl-C ends the workers at once.

    Args:
        work: A function of a module, so that a worker can import it.
        jobs: Values that can be pickled.
        log: Receives what the converters print.

    Raises:
        ConversionError: A worker was killed, most likely for want of memory.
    """
    if not jobs:
        return []
    count = min(len(jobs), os.cpu_count() or 1)
    # Spawned, not forked: a fork of a process that runs threads of PyTorch can hang.
    spawn = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    try:
        with (
            progress.track("targets", len(jobs)) as advance,
            ProcessPoolExecutor(count, spawn, _start_worker, (log, os.getpid())) as executor,
            _ended_by_ctrl_c(others),
        ):
            return [_counted(result, advance) for result in executor.map(work, jobs)]
    except BrokenProcessPool:
        message = f"A worker process was killed, most likely for want of memory. See {log}."
        raise ConversionError(message) from None


def _counted(result: R, advance: Callable[[str], None]) -> R:
    advance("")
    return result


@contextlib.contextmanager
def _ended_by_ctrl_c(others: set[multiprocessing.process.BaseProcess]) -> Iterator[None]:
    """End the workers on Ctrl-C, before the pool waits for what they have begun."""
    try:
        yield
    except KeyboardInterrupt:
        for worker in set(multiprocessing.active_children()) - others:
            worker.terminate()
        raise


def _start_worker(log: Path, parent: int) -> None:
    # Ignored where a shell runs the build in the background: then so it stays.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    with contextlib.suppress(OSError, AttributeError):  # Linux only; elsewhere the pool ends it
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    # C++ libraries print to the descriptors themselves; stdout belongs to --json.
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)
