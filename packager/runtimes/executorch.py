"""Run `.pte` programs with ExecuTorch's own runtime and XNNPACK's kernels."""

import hashlib
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from packager.artifacts import Converted
from packager.errors import ConversionError, MissingToolError, UnsupportedOperatorError
from packager.runtimes import machine

if TYPE_CHECKING:
    from executorch.exir.schema import ExecutionPlan
    from torch import Tensor

METHOD = "forward"


class Method(Protocol):
    """What runs one sample."""

    def execute(self, inputs: "Sequence[Tensor]") -> "Sequence[Tensor]":
        """Return the outputs, each in memory of its own."""


class Program(Protocol):
    """A loaded file; its methods live no longer than it does."""

    def load_method(self, name: str) -> Method:
        """Return the method, ready to run."""


class ExecutorchSession:
    """A loaded program.

    Attributes:
        name: Such as `ExecuTorch 1.5.1 (XNNPACK) on x86_64`.
    """

    def __init__(self, program: Program, method: Method, place: Path) -> None:
        self.name = (
            f"ExecuTorch {importlib.metadata.version('executorch')} (XNNPACK) on {machine()}"
        )
        self._program = program
        self._method = method
        self._place = place

    def run(self, inputs: NDArray[np.generic]) -> NDArray[np.generic]:
        """Run inputs (n, channels, ...) one by one; return outputs (n, ...), both float32.

        Raises:
            ConversionError: A sample has another shape than the program wants, or one of
                the program's operators has no kernel for what it is given.
        """
        import torch

        samples = torch.from_numpy(np.ascontiguousarray(inputs, np.float32)).split(1)
        try:
            outputs = [self._method.execute([sample])[0] for sample in samples]
        except RuntimeError as error:
            message = (
                f"{self._place.name}: ExecuTorch stopped at an input of shape "
                f"{(1, *inputs.shape[1:])}: {error}."
            )
            raise ConversionError(message) from error
        return np.asarray(torch.cat(outputs).numpy())


def open_session(converted: Converted) -> ExecutorchSession:
    """Load a program with ExecuTorch's runtime for this machine.

    Raises:
        MissingToolError: ExecuTorch is not installed.
        UnsupportedOperatorError: The runtime lacks an operator of the program.
        ConversionError: The file is damaged.
    """
    place = converted.program.path
    content = place.read_bytes()
    # The runtime checks the structure of a file, and runs one with damaged weights.
    if hashlib.sha256(content).hexdigest() != converted.program.sha256:
        raise _damaged(place, "its content has changed since it was converted")
    program = _load(content, place)
    try:
        return ExecutorchSession(program, program.load_method(METHOD), place)
    except RuntimeError as error:
        missing = _missing_operators(content)
        if not missing:
            raise _damaged(place, str(error)) from error
        raise UnsupportedOperatorError(
            missing[0],
            runtime="ExecuTorch's runtime",
            where="model",
            advice="Replace it in the model, or leave out the targets that use ExecuTorch.",
        ) from error


def planned_memory_bytes(program: Path) -> int:
    """Return the memory that ExecuTorch plans for one inference: inputs, outputs and between.

    What a delegate such as XNNPACK allocates for itself, and the weights, are not part of it.

    Raises:
        MissingToolError: ExecuTorch is not installed.
        ConversionError: The file is damaged.
    """
    content = program.read_bytes()
    _load(content, program)
    # The first entry stands for constants and is always 0.
    return sum(_plan(content).non_const_buffer_sizes)


def _load(content: bytes, place: Path) -> Program:
    try:
        from executorch.runtime import Runtime
    except ModuleNotFoundError as error:
        raise MissingToolError(
            "executorch",
            needed_by=f"Running {place.name}",
            install="pip install 'packager[android]'",
        ) from error
    try:
        program: Program = Runtime.get().load_program(content)
    except RuntimeError as error:
        raise _damaged(place, str(error)) from error
    return program


def _damaged(place: Path, problem: str) -> ConversionError:
    return ConversionError(
        f"{place}: not a program that ExecuTorch can run: {problem}. Run the build again."
    )


def _missing_operators(content: bytes) -> list[str]:
    from executorch.runtime import Runtime

    known = Runtime.get().operator_registry.operator_names
    used = {f"{op.name}.{op.overload}".rstrip(".") for op in _plan(content).operators}
    return sorted(used - known)


def _plan(content: bytes) -> "ExecutionPlan":
    from executorch.exir._serialize import _deserialize_pte_binary

    plans: list[ExecutionPlan] = _deserialize_pte_binary(content).program.execution_plan
    return next(plan for plan in plans if plan.name == METHOD)
