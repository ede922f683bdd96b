"""How a model comes in: one module for each source."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from packager.artifacts import File, ModelFiles
from packager.errors import ConfigError, ModelError, did_you_mean
from packager.recipe import ModelSource

# Folders beside a recipe that hold no code of the model.
NO_CODE = {"build", "dist", "node_modules", "__pycache__", "site-packages"}
CHECKPOINTS = (".safetensors", ".pt", ".pth", ".th", ".ckpt", ".bin")


def resolve(source: ModelSource, folder: Path) -> ModelFiles:
    """Find and hash the files that the model is made of.

    Args:
        source: From the recipe, with absolute paths.
        folder: Where the factory's module is looked for before the installed packages.

    Raises:
        ConfigError: `factory` is not of the form `module:function`.
        ModelError: A file or the module is missing.
    """
    if source.program is not None:
        program = _existing("model.program", source.program, (".pt2",))
        return ModelFiles(factory="", code=(), weights=None, program=program)
    assert source.factory is not None, "the recipe has a factory or a program"
    weights = source.checkpoint and _existing("model.checkpoint", source.checkpoint, CHECKPOINTS)
    code = _code(source.factory, folder)
    return ModelFiles(factory=source.factory, code=code, weights=weights or None, program=None)


def _existing(key: str, path: Path, suffixes: tuple[str, ...]) -> File:
    if not path.is_file():
        near = [p.name for p in path.parent.glob(f"*{path.suffix}")] if path.parent.is_dir() else []
        hint = did_you_mean(path.name, near) if near else "Check the path."
        raise ModelError(key, f"{path} is not there. {hint}")
    if path.suffix not in suffixes:
        raise ModelError(key, f"{path.name} should end in {' or '.join(suffixes)}.")
    return File.of(path)


def _code(factory: str, folder: Path) -> tuple[File, ...]:
    """Return the factory's module file and every Python file that it may import locally."""
    module, colon, function = factory.partition(":")
    if not (colon and function.isidentifier() and all(p.isidentifier() for p in module.split("."))):
        raise ConfigError("model.factory", f"{factory!r} should be 'module:function'.")
    local = folder.joinpath(*module.split("."))
    candidates = (local.with_suffix(".py"), local / "__init__.py")
    own = next((path for path in candidates if path.is_file()), None)
    if own is None:
        return _installed_code(module, folder)
    others = sorted(path for path in _python_files(folder) if path != own)
    return tuple(File.of(path) for path in (own, *others))


def _python_files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir() and not path.name.startswith(".") and path.name not in NO_CODE:
            yield from _python_files(path)
        elif path.suffix == ".py":
            yield path


def _installed_code(module: str, folder: Path) -> tuple[File, ...]:
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None or found.origin is None or not Path(found.origin).is_file():
        near = sorted(path.stem for path in folder.glob("*.py"))
        hint = did_you_mean(module, near) if near else "Write it, or install its package."
        problem = (
            f"there is no module {module!r} in {folder} or among the installed packages. {hint}"
        )
        raise ModelError("model.factory", problem)
    return (File.of(Path(found.origin)),)
