"""What the modules of packager import, read from their source without importing them."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.conftest import REPOSITORY

ROOT = REPOSITORY / "packager"


def source_of(module: str) -> Path | None:
    """Return the file of a module such as `packager.cache`; None if there is none."""
    place = REPOSITORY.joinpath(*module.split("."))
    candidates = (place.with_suffix(".py"), place / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def imports_of(module: str) -> set[str]:
    """Return every module that `module` may import, now or inside a function."""
    return _imported(ast.walk(_parse(module)))


def imports_at_once(module: str) -> set[str]:
    """Return every module that importing `module` imports."""
    return _imported(_top_level(_parse(module).body))


def closure(modules: set[str], step: Callable[[str], set[str]]) -> set[str]:
    """Return `modules` and all of packager that `step` leads to from there."""
    reached: set[str] = set()
    waiting = set(modules)
    while waiting:
        module = waiting.pop()
        reached.add(module)
        waiting |= {m for m in step(module) if source_of(m)} - reached
    return reached


def _parse(module: str) -> ast.Module:
    source = source_of(module)
    assert source is not None, module
    return ast.parse(source.read_text("utf-8"))


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            continue
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With):
            yield from _top_level(statement.body)


def _imported(nodes: Iterator[ast.AST] | Iterator[ast.stmt]) -> set[str]:
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {parent for name in found for parent in _with_packages(name)}


def _with_packages(module: str) -> list[str]:
    """Return the module and its packages, all of which are imported with it."""
    parts = module.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]
