"""Run jobs side by side in worker processes that are quiet, and die with their parent."""

import contextlib
import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeVar

from packager.errors import ConversionError

J = TypeVar("J")
R = TypeVar("R")

PR_SET_PDEATHSIG = 1


def run(work: Callable[[J], R], jobs: Sequence[J], *, log: Path) -> list[R]:
    """Return `work(job)` for each job, in order.

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
    parent = os.getpid()
    try:
        with ProcessPoolExecutor(count, spawn, _start_worker, (log, parent)) as executor:
            return list(executor.map(work, jobs))
    except BrokenProcessPool:
        message = f"A worker process was killed, most likely for want of memory. See {log}."
        raise ConversionError(message) from None


def _start_worker(log: Path, parent: int) -> None:
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
