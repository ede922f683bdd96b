"""Say how far a long task is, without knowing who listens.

A stage calls `track`; the command line installs a listener that draws a bar; in a
worker process, a test or a library nobody listens and nothing happens.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Listener(Protocol):
    """Shows the tasks that are under way."""

    def start(self, task: str, total: int) -> None:
        """Show a task of `total` units."""

    def advance(self, task: str, note: str) -> None:
        """Count one unit as done; `note` says how things stand, such as a loss."""

    def finish(self, task: str) -> None:
        """Take the task away."""


_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send the progress of everything inside the block to `listener`."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def track(task: str, total: int) -> Iterator[Callable[[str], None]]:
    """Announce a task of `total` units; call the result once for each unit done."""
    listener = _listener.get()
    if listener is None:
        yield lambda _note: None
        return
    listener.start(task, total)
    try:
        yield lambda note: listener.advance(task, note)
    finally:
        listener.finish(task)
