"""Run `.tflite` programs as a 32-bit handheld does: tflite-runtime, the last one for 32-bit Arm.

It is of 2023 and needs NumPy 1, so it runs in an environment of its own and is talked to by
files. It knows fewer operators than LiteRT, and computes dynamic-range quantised programs
wrongly without a word, on every processor: programs for it are float32 or int8 throughout.
"""

import json
import re
import tempfile
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from packager import environments, tflite_file, tools
from packager.artifacts import Converted
from packager.environments import TFLITE_LEGACY
from packager.errors import ConversionError, ToolError, UnsupportedOperatorError
from packager.runtimes import machine, tflite_legacy_worker
from packager.runtimes.tflite_legacy_worker import REFUSED

VERSION = "2.14.0"
WORKER = Path(tflite_legacy_worker.__file__)
LOAD_TIMEOUT_S = 120
SAMPLE_TIMEOUT_S = 60
"""For one inference, far more than any program that fits a handheld needs."""

_NO_OPERATOR = re.compile(r"Didn't find op for builtin opcode '(\w+)' version '(\d+)'")


class TfliteLegacySession:
    """A program that tflite-runtime accepted; each batch runs in a process of its own.

    Attributes:
        name: Such as `tflite-runtime 2.14.0 on x86_64`.
    """

    def __init__(self, program: Path) -> None:
        self.name = f"tflite-runtime {VERSION} on {machine()}"
        self._program = program

    def run(self, inputs: NDArray[np.generic]) -> NDArray[np.generic]:
        """Run device inputs (n, ...) one by one; return the raw outputs (n, ...).

        Raises:
            ConversionError: The program fails on a sample.
            ToolError: An inference hangs.
        """
        with tempfile.TemporaryDirectory(prefix="packager-") as folder:
            given, answered = Path(folder, "inputs.npy"), Path(folder, "outputs.npy")
            np.save(given, inputs, allow_pickle=False)
            timeout_s = LOAD_TIMEOUT_S + SAMPLE_TIMEOUT_S * len(inputs)
            _work(self._program, given, answered, timeout_s=timeout_s)
            outputs: NDArray[np.generic] = np.load(answered, allow_pickle=False)
        return outputs


def open_session(converted: Converted) -> TfliteLegacySession:
    """Load a program into tflite-runtime once, in an environment that is made where needed.

    Raises:
        MissingToolError: The environment cannot be made.
        UnsupportedOperatorError: tflite-runtime lacks an operator of the program.
        ConversionError: The file is damaged, or tflite-runtime refuses the program.
        ToolError: The runtime is not the one that was pinned, or hangs.
    """
    path = converted.program.path
    tflite_file.read(path)
    _work(path, timeout_s=LOAD_TIMEOUT_S)
    return TfliteLegacySession(path)


def _work(program: Path, *files: Path, timeout_s: float) -> None:
    """Run the worker, and see that it was of the versions that are pinned."""
    python = environments.interpreter(TFLITE_LEGACY)
    # Isolated: neither the user's packages nor this folder's modules are in its way.
    command: list[str | Path] = [python, "-I", WORKER, program, *files]
    finished = tools.run(command, timeout_s=timeout_s)
    printed = finished.stderr.decode(errors="replace").strip()
    if finished.returncode == REFUSED or finished.returncode < 0:
        explain(program.name, printed or f"it {tools.ended(finished)}")
    if finished.returncode != 0:
        problem = f"{tools.ended(finished)} in the environment {python.parents[1]}"
        raise ToolError(WORKER.name, problem, printed=printed[-tools.SHOWN_BYTES :])
    found, wanted = json.loads(finished.stdout), TFLITE_LEGACY.versions()
    if found != wanted:
        problem = f"ran {found}, and {wanted} were asked for. Remove {python.parents[1]}"
        raise ToolError(WORKER.name, problem, printed="")


def explain(where: str, said: str) -> NoReturn:
    """Turn what tflite-runtime said of a program into an error.

    Args:
        where: Names the program.
        said: Its own words, or how it ended where it had none.

    Raises:
        UnsupportedOperatorError: It lacks an operator of the program.
        ConversionError: It refuses the program for another reason.
    """
    name = f"tflite-runtime {VERSION}"
    missing = _NO_OPERATOR.search(said)
    if missing is not None:
        advice = "Replace it in the model, or leave out the targets for 32-bit handhelds."
        operator = f"{missing[1]} of version {missing[2]}"
        raise UnsupportedOperatorError(operator, runtime=name, where=where, advice=advice)
    first = said.partition("\n")[0].rstrip(".")
    raise ConversionError(f"{where}: {name} refuses the program: {first}.")
