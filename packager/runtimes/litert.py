"""Run `.tflite` programs as an application on Linux or Android does: LiteRT with XNNPACK."""

import importlib.metadata

import numpy as np
from numpy.typing import NDArray

from packager import tflite_file
from packager.artifacts import Converted
from packager.errors import ConversionError, MissingToolError
from packager.runtimes import machine

try:
    from ai_edge_litert.interpreter import Interpreter
except ModuleNotFoundError:
    raise MissingToolError(
        "ai-edge-litert",
        needed_by="Running a LiteRT program",
        install="pip install 'packager[litert]'",
    ) from None


class LiteRtSession:
    """A program in LiteRT's interpreter, on one thread."""

    def __init__(self, interpreter: Interpreter) -> None:
        version = importlib.metadata.version("ai-edge-litert")
        self.name = f"LiteRT {version} (XNNPACK) on {machine()}"
        self._interpreter = interpreter
        self._input = int(interpreter.get_input_details()[0]["index"])
        self._output = int(interpreter.get_output_details()[0]["index"])

    def run(self, inputs: NDArray[np.generic]) -> NDArray[np.generic]:
        """Run device inputs (n, ...) one by one; return the raw outputs (n, ...)."""
        return np.concatenate([self._run_one(inputs[i : i + 1]) for i in range(len(inputs))])

    def _run_one(self, sample: NDArray[np.generic]) -> NDArray[np.generic]:
        self._interpreter.set_tensor(self._input, sample)
        self._interpreter.invoke()
        return np.asarray(self._interpreter.get_tensor(self._output))


def open_session(converted: Converted) -> LiteRtSession:
    """Load a program into LiteRT.

    Raises:
        ConversionError: The file is damaged, or LiteRT refuses the program.
    """
    path = converted.program.path
    tflite_file.read(path)
    try:
        # Operators that XNNPACK does not know run in LiteRT's own kernels.
        interpreter = Interpreter(model_path=str(path), num_threads=1)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        first = str(error).partition("\n")[0]
        raise ConversionError(f"{path.name}: LiteRT refuses the program: {first}.") from None
    return LiteRtSession(interpreter)
