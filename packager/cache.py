"""Run a step once for each distinct input.

A step is a function `(out, *inputs) -> artifact`. Its key is the digest of its name,
its version, the versions of the tools it declares, and its inputs; files count by
content, not by path. The key's fields are kept in clear beside the result, so that a
miss can say which of them changed.
"""

import fcntl
import hashlib
import importlib.metadata
import json
import platform
import shutil
import tempfile
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

import pydantic

from packager.artifacts import File, Visit
from packager.storage import storage_errors

P = ParamSpec("P")
T = TypeVar("T")

KEY_FILE = "key.json"
RESULT_FILE = "result.json"
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

    def run(self, step: Step[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the step's result, computing it only if it is not here yet.

        A result whose files no longer match their digests is discarded and computed again.

        Raises:
            StorageError: The cache folder cannot be written, or the disk is full.
        """
        key = _key_fields(step, args, kwargs)
        entry = self.root / f"{step.name}-{_digest(key)[:16]}"
        with storage_errors(self.root), _locked(self.root / f".{entry.name}.lock"):
            known = _read_result(step, entry)
            if known is None:
                reason = self._reason(step, key, entry)
                known = self._compute(step, key, entry, args, kwargs)
                self.visits.append(
                    Visit(step=step.name, label=self.label, reused=False, reason=reason)
                )
            else:
                self.visits.append(Visit(step=step.name, label=self.label, reused=True, reason=""))
            self._remember(step, entry)
        return known

    def _compute(self, step: Step[P, T], key: object, entry: Path, args: Any, kwargs: Any) -> T:
        work = Path(tempfile.mkdtemp(dir=self.root, prefix=f".{step.name}-"))
        try:
            result = step.run(work, *args, **kwargs)
            _write(work / KEY_FILE, key)
            _write(work / RESULT_FILE, encode(_relative(result, work)))
            work.replace(entry)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        resolved = _read_result(step, entry)
        assert resolved is not None, "what was just written can be read"
        return resolved

    def _reason(self, step: Step[P, T], key: dict[str, Any], entry: Path) -> str:
        """Say what differs from the last run of the same step under the same label."""
        if entry.is_dir():
            shutil.rmtree(entry)
            return "the cached result was damaged"
        latest = self._latest(step)
        last_key = latest.read_text("utf-8") if latest.is_file() else ""
        last = self.root / last_key / KEY_FILE
        if not last_key or not last.is_file():
            return "first run"
        before = dict(_leaves(json.loads(last.read_text("utf-8"))))
        now = dict(_leaves(json.loads(json.dumps(key))))
        changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        named = [f"{name}: {_brief(before, name)} -> {_brief(now, name)}" for name in changed]
        return "; ".join(named[:4]) + (f"; and {len(named) - 4} more" if len(named) > 4 else "")

    def _latest(self, step: Step[P, T]) -> Path:
        return self.root / f".latest-{step.name}-{self.label}"

    def _remember(self, step: Step[P, T], entry: Path) -> None:
        with storage_errors(self.root):
            self._latest(step).write_text(entry.name)


@contextmanager
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
    named = {str(index): value for index, value in enumerate(args)} | kwargs
    return {
        "step": step.name,
        "version": step.version,
        "tools": {name: _version(name) for name in step.tools},
        # Kernels differ between processor families, and with them the last digits.
        "machine": platform.machine(),
        "inputs": {name: _plain(by_content(value)) for name, value in named.items()},
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
    map_files(value, lambda file: found.append(file) or file)  # type: ignore[func-returns-value]
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
    """Yield each scalar of nested tables and lists with its dotted name."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{name}[{index}]")
    else:
        yield name, value


def _brief(leaves: dict[str, Any], name: str) -> str:
    text = str(leaves.get(name, "nothing"))
    return text if len(text) <= 40 else f"{text[:12]}..."


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", "utf-8")
