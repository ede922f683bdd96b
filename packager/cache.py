"""Run a step once for each distinct input.

A step is a function `(out, *inputs) -> artifact`. Its key is the digest of its name,
its version, the versions of the tools it declares, and its inputs; files count by
content, not by path. The key's fields are kept in clear beside the result, so that a
miss can say which of them changed.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import inspect
import json
import platform
import shutil
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

import pydantic

from packager.artifacts import File, Visit
from packager.storage import storage_errors, write_whole

P = ParamSpec("P")
T = TypeVar("T")

KEY_FILE = "key.json"
RESULT_FILE = "result.json"
WORK_SUFFIX = ".work"
CACHEDIR_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n"


@dataclass(frozen=True)
class Step(Generic[P, T]):
    """A function and all that its result depends on besides its arguments."""

    run: Callable[Concatenate[Path, P], T]
    name: str
    version: int
    tools: tuple[str, ...]

    @property
    def result_type(self) -> type[T]:
        """The artifact that the step returns."""
        return typing.cast("type[T]", typing.get_type_hints(self.run)["return"])


def step(
    *, version: int, tools: tuple[str, ...] = ()
) -> Callable[[Callable[Concatenate[Path, P], T]], Step[P, T]]:
    """Mark a function as a cacheable step.

    Args:
        version: Raise it whenever the same inputs may now give another result.
        tools: Distributions whose version is part of the key, where they are installed.
    """

    def mark(run: Callable[Concatenate[Path, P], T]) -> Step[P, T]:
        return Step(run, run.__module__.rpartition(".")[2], version, tools)

    return mark


class Cache:
    """Results of steps, in one folder that several processes may share."""

    def __init__(self, root: Path, *, label: str = "") -> None:
        self.root = root
        self.label = label
        self.visits: list[Visit] = []
        with storage_errors(root):
            root.mkdir(parents=True, exist_ok=True)
            (root / "CACHEDIR.TAG").write_text(CACHEDIR_TAG)
            self._remove_abandoned()

    def run(self, step: Step[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the step's result, computing it only if it is not here yet.

        A result whose files no longer match their digests is discarded and computed again.

        Raises:
            StorageError: The cache folder cannot be written, or the disk is full.
        """
        key = _key_fields(step, args, kwargs)
        entry = self.root / f"{step.name}-{_digest(key)[:16]}"
        with storage_errors(self.root), _locked(self._lock(entry.name)):
            result = _read_result(step, entry)
            reused = result is not None
            reason = "" if reused else self._reason(step, key, entry)
            if result is None:
                result = self._compute(step, key, entry, args, kwargs)
            write_whole(self._latest(step), entry.name.encode())
        self.visits.append(Visit(step=step.name, label=self.label, reused=reused, reason=reason))
        return result

    def _compute(self, step: Step[P, T], key: object, entry: Path, args: Any, kwargs: Any) -> T:
        work = self._work(entry.name)
        shutil.rmtree(work, ignore_errors=True)  # left by a run that was killed
        work.mkdir()
        try:
            result = step.run(work, *args, **kwargs)
            _write(work / KEY_FILE, key)
            _write(work / RESULT_FILE, encode(_relative(result, work)))
            if entry.exists():
                shutil.rmtree(entry)
            work.replace(entry)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        resolved = _read_result(step, entry)
        assert resolved is not None, "what was just written can be read"
        return resolved

    def _reason(self, step: Step[P, T], key: dict[str, Any], entry: Path) -> str:
        """Say what differs from the last run of the same step under the same label."""
        if entry.is_dir():
            return "the cached result was damaged"
        latest = self._latest(step)
        last = latest.read_text("utf-8") if latest.is_file() else ""
        before = _read_key(self.root / last / KEY_FILE)
        if before is None:
            return "first run"
        was, now = dict(_leaves(before)), dict(_leaves(json.loads(json.dumps(key))))
        changed = [name for name in {**was, **now} if was.get(name) != now.get(name)]
        named = [f"{name}: {_brief(was, name)} -> {_brief(now, name)}" for name in changed]
        return "; ".join(named[:4]) + (f"; and {len(named) - 4} more" if len(named) > 4 else "")

    def _latest(self, step: Step[P, T]) -> Path:
        return self.root / f".latest-{step.name}-{self.label}"

    def _lock(self, name: str) -> Path:
        return self.root / f".{name}.lock"

    def _work(self, name: str) -> Path:
        return self.root / f".{name}{WORK_SUFFIX}"

    def _remove_abandoned(self) -> None:
        """Remove what killed runs left; who still works on an entry holds its lock."""
        for work in self.root.glob(f".*{WORK_SUFFIX}"):
            name = work.name.removeprefix(".").removesuffix(WORK_SUFFIX)
            with self._lock(name).open("w") as stream, contextlib.suppress(BlockingIOError):
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time work on the same entry; the kernel frees it if that one dies."""
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def encode(value: object) -> Any:
    """Return an artifact as plain dicts, lists and scalars."""
    return pydantic.TypeAdapter(type(value)).dump_python(value, mode="json")


def decode(cls: type[T], plain: object) -> T:
    """Return the artifact that `encode` made plain.

    Raises:
        pydantic.ValidationError: `plain` does not have the shape of `cls`.
    """
    return pydantic.TypeAdapter(cls).validate_json(json.dumps(plain), strict=True)


def _key_fields(step: Step[P, T], args: Any, kwargs: Any) -> dict[str, Any]:
    given = inspect.signature(step.run).bind(Path(), *args, **kwargs).arguments
    # The first parameter is the folder that the step writes to, which is no input.
    named = list(given.items())[1:]
    return {
        "step": step.name,
        "version": step.version,
        "tools": {name: _version(name) for name in step.tools},
        # Kernels differ between processor families, and with them the last digits.
        "machine": platform.machine(),
        "inputs": {name: _plain(by_content(value)) for name, value in named},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return encode(value)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _digest(key: object) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def _read_key(path: Path) -> dict[str, Any] | None:
    """Return the fields of a key, or None where they are not there or damaged."""
    try:
        return decode(dict[str, Any], json.loads(path.read_text("utf-8")))
    except (FileNotFoundError, ValueError):
        return None


def _read_result(step: Step[P, T], entry: Path) -> T | None:
    """Return the result in `entry`, or None where there is none or it is damaged."""
    try:
        plain = json.loads((entry / RESULT_FILE).read_text("utf-8"))
        result = decode(step.result_type, plain)
    except (FileNotFoundError, ValueError):
        return None
    resolved = map_files(result, lambda file: replace(file, path=entry / file.path))
    return resolved if all(_intact(file) for file in files_of(resolved)) else None


def _intact(file: File) -> bool:
    return file.path.is_file() and File.of(file.path) == file


def by_content(value: T) -> T:
    """Return `value` with files that have a name and a digest, but no place."""
    return map_files(value, lambda file: replace(file, path=Path(file.path.name)))


def _relative(value: T, root: Path) -> T:
    return map_files(value, lambda file: replace(file, path=file.path.relative_to(root)))


def files_of(value: object) -> list[File]:
    """Return every file in an artifact, in the order of its fields."""
    found: list[File] = []

    def note(file: File) -> File:
        found.append(file)
        return file

    map_files(value, note)
    return found


def map_files(value: T, change: Callable[[File], File]) -> T:
    """Return an artifact with each of its files replaced."""
    return typing.cast("T", _map_files(value, change))


def _map_files(value: Any, change: Callable[[File], File]) -> Any:
    if isinstance(value, File):
        return change(value)
    if is_dataclass(value) and not isinstance(value, type):
        new = {f.name: _map_files(getattr(value, f.name), change) for f in fields(value)}
        return replace(value, **new)
    if isinstance(value, tuple):
        return tuple(_map_files(item, change) for item in value)
    return value


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each scalar of nested tables and lists, and each empty one, by dotted name."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from _leaves(item, f"{name}[{index}]")
    else:
        yield name, value


def _brief(leaves: dict[str, Any], name: str) -> str:
    text = str(leaves.get(name, "nothing"))
    return text if len(text) <= 40 else f"{text[:12]}..."


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", "utf-8")
