"""A model that the user's own Python code builds: `module:function`, and a checkpoint."""

import importlib
import io
import logging
import pickle
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

import torch
from torch import Tensor, nn

from packager import program
from packager.artifacts import File, ModelFiles
from packager.contract import Contract
from packager.errors import ExportError, ModelError, did_you_mean


def load(files: ModelFiles, *, seed: int) -> nn.Module:
    """Build the user's network and give it its weights.

    Args:
        files: From `sources.resolve`.
        seed: Of the initial weights, where there is no checkpoint.

    Raises:
        ModelError: The module cannot be imported, the factory fails, or the checkpoint
            does not fit; names file and line of the user's code, or the tensor.
    """
    torch.manual_seed(seed)
    network = _call_factory(files)
    if files.weights is not None:
        _load_weights(network, files.weights)
    return network.eval()


def _call_factory(files: ModelFiles) -> nn.Module:
    factory = _import_factory(files)
    try:
        network = factory()
    except Exception as error:
        where = user_line(error, files) or "model.factory"
        problem = f"{files.factory} failed: {type(error).__name__}: {error}"
        raise ModelError(where, problem) from error
    if not isinstance(network, nn.Module):
        problem = f"{files.factory} returned {type(network).__name__}, not an nn.Module."
        raise ModelError("model.factory", problem)
    return network


def _import_factory(files: ModelFiles) -> Callable[[], object]:
    module_name, _, function = files.factory.partition(":")
    own = files.code[0].path
    with _importing_from(own, module_name):
        try:
            module = importlib.import_module(module_name)
        except Exception as error:
            where = user_line(error, files) or str(own)
            problem = f"cannot be imported: {type(error).__name__}: {error}"
            raise ModelError(where, problem) from error
    factory = getattr(module, function, None)
    if not callable(factory):
        known = [name for name, value in vars(module).items() if callable(value)]
        problem = f"{own.name} has no function {function!r}. {did_you_mean(function, known)}"
        raise ModelError("model.factory", problem)
    return factory  # type: ignore[no-any-return]


@contextmanager
def _importing_from(own: Path, module_name: str) -> Iterator[None]:
    """Look for modules beside the factory's first, and forget them afterwards.

    Two recipes may both call their module `model`; a module that stayed imported would be
    taken for the second one's.
    """
    root = own.parents[module_name.count(".") + (own.name == "__init__.py")]
    before = dict(sys.modules)
    sys.modules.pop(module_name, None)
    sys.path.insert(0, str(root))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(root))
        for name, module in list(sys.modules.items()):
            origin = getattr(module, "__file__", None)
            own_module = origin and Path(origin).is_relative_to(root)
            if name not in before and own_module and not program.is_library(str(origin)):
                del sys.modules[name]
        sys.modules.update(before)


def _load_weights(network: nn.Module, weights: File) -> None:
    state = read_checkpoint(weights.path)
    expected = network.state_dict()
    missing = sorted(set(expected) - set(state))
    unknown = sorted(set(state) - set(expected))
    if missing:
        hint = did_you_mean(missing[0], unknown) if unknown else ""
        problem = f"has no tensor {missing[0]!r} ({len(missing)} are missing). {hint}"
        raise ModelError(str(weights.path), problem.strip())
    if unknown:
        problem = f"has a tensor {unknown[0]!r} that the network does not ({len(unknown)} in all)."
        raise ModelError(str(weights.path), problem)
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(tensor.shape)}, the network's is {tuple(expected[name].shape)}"
            raise ModelError(str(weights.path), f"{name} is {shapes}.")
    network.load_state_dict(state)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, running none of its code.

    A table `state_dict` inside the file is taken, and the prefix `module.` that
    `DataParallel` writes is dropped.

    Raises:
        ModelError: The file is damaged, or holds more than tensors.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        first = str(error).partition("\n")[0]
        remedy = "Save it again with safetensors.torch.save_file(model.state_dict(), ...)."
        problem = f"is damaged or holds more than tensors, and is not unpickled ({first}). {remedy}"
        raise ModelError(str(path), problem) from None
    table = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(table, dict) or not all(isinstance(v, Tensor) for v in table.values()):
        raise ModelError(str(path), "holds no state dict: names with tensors.")
    return {str(name).removeprefix("module."): tensor for name, tensor in table.items()}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    import safetensors
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise ModelError(str(path), f"is not a readable safetensors file: {error}.") from None


def export(
    network: nn.Module, files: ModelFiles, contract: Contract
) -> torch.export.ExportedProgram:
    """Capture the user's network.

    Raises:
        ExportError: Names the operator and the line of the user's code that stopped it.
    """
    printed = io.StringIO()
    try:
        with _logging_errors_only(), redirect_stderr(printed):
            return program.export(network, contract.input_shape)
    except Exception as error:
        error.add_note(printed.getvalue())  # the graph, for whoever asks for a traceback
        where = user_line(error, files) or files.factory
        problem = _first_sentence(error)
        raise ExportError(_operator(error), where=where, problem=problem) from error


@contextmanager
def _logging_errors_only() -> Iterator[None]:
    """Keep warnings away that repeat, at length, what the error will say."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _operator(error: Exception) -> str:
    """Return the operator that an export error is about, as far as it says so."""
    for known in _chain(error):
        function = getattr(known, "func", None)
        if function is not None:
            return str(function)
    frames = [f for e in _chain(error) for f in traceback.extract_tb(e.__traceback__)]
    own = [f for f in frames if not program.is_library(f.filename)]
    return f"'{own[-1].line}'" if own and own[-1].line else type(error).__name__


def _first_sentence(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = lines[0] if lines else type(error).__name__
    return f"{told.rstrip('.')}. Rewrite that line without values that depend on the data."


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def user_line(error: BaseException, files: ModelFiles) -> str:
    """Return the innermost line of the user's code in a traceback, as `model.py:31`."""
    own = {str(file.path) for file in files.code}
    if isinstance(error, SyntaxError) and error.filename in own:
        return f"{Path(error.filename).name}:{error.lineno}"
    for known in _chain(error):
        lines = [f for f in traceback.extract_tb(known.__traceback__) if f.filename in own]
        if lines:
            return f"{Path(lines[-1].filename).name}:{lines[-1].lineno}"
    return ""
