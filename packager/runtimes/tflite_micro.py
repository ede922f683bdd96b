"""Run `.tflite` programs as firmware does: TensorFlow Lite Micro with its reference kernels."""

import importlib.metadata
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from packager import tflite_file
from packager.artifacts import Converted
from packager.errors import ConversionError, MissingToolError, UnsupportedOperatorError
from packager.recipe import Rewrite
from packager.runtimes import machine

try:
    from tflite_micro import runtime
except ModuleNotFoundError:
    raise MissingToolError(
        "tflite-micro",
        needed_by="Running a TensorFlow Lite Micro program",
        install="pip install 'packager[micro]'",
    ) from None

# Far more than any microcontroller has; memory that is not touched costs nothing.
AMPLE_ARENA_BYTES = 256 * 2**20
TRIAL = Path(__file__).with_name("tflite_micro_trial.py")
TRIAL_TIMEOUT_S = 300

_ARENA = re.compile(r"Arena allocation total (\d+) bytes")
_NO_OPERATOR = re.compile(r"Failed to get registration from op code (\S+)")
_OWN_WORDS = re.compile(r"^(?!Traceback| {2}|\w*Error: )(?=.*\S).*$", re.MULTILINE)


class TfliteMicroSession:
    """A program in TensorFlow Lite Micro's interpreter."""

    def __init__(self, program: Path) -> None:
        self.name = f"TensorFlow Lite Micro {_version()} on {machine()}"
        self._interpreter = runtime.Interpreter.from_file(
            str(program), arena_size=AMPLE_ARENA_BYTES
        )

    def run(self, inputs: NDArray[np.generic]) -> NDArray[np.generic]:
        """Run device inputs (n, ...) one by one; return the raw outputs (n, ...)."""
        return np.concatenate([self._run_one(inputs[i : i + 1]) for i in range(len(inputs))])

    def _run_one(self, sample: NDArray[np.generic]) -> NDArray[np.generic]:
        self._interpreter.set_input(sample, 0)
        self._interpreter.invoke()
        return np.asarray(self._interpreter.get_output(0))


def open_session(converted: Converted) -> TfliteMicroSession:
    """Load a program into TensorFlow Lite Micro, after a trial in a process of its own.

    Raises:
        UnsupportedOperatorError: TensorFlow Lite Micro lacks an operator of the program.
        ConversionError: The file is damaged, keeps weights outside the flatbuffer, or is
            refused for another reason.
    """
    arena_bytes(converted.program.path)
    return TfliteMicroSession(converted.program.path)


def arena_bytes(program: Path) -> int:
    """Return the smallest arena, a multiple of 16, in which the program runs.

    It is what the interpreter's own recording allocator counts on this machine, whose
    pointers take 64 bits: on a 32-bit device the structures for tensors and operators are
    smaller, so the figure is an upper estimate there, unless that device's kernels (such as
    CMSIS-NN's) ask for more scratch memory than the reference kernels.

    Raises:
        UnsupportedOperatorError: TensorFlow Lite Micro lacks an operator of the program.
        ConversionError: The program is damaged or refused.
    """
    tflite_file.read(program)
    _require_inline(program)
    tried = _try(program)
    recorded = _ARENA.search(tried.stderr)
    if tried.returncode != 0 or recorded is None:
        _explain(program.name, tried)
    return int(recorded[1])


def _require_inline(program: Path) -> None:
    outside = tflite_file.external_buffers(program.read_bytes())
    if outside:
        raise ConversionError(
            f"{program.name}: weights lie outside the flatbuffer (buffers: {outside}). TensorFlow "
            "Lite Micro would not read them, and answer at random. Convert the model again."
        )


def _try(program: Path) -> subprocess.CompletedProcess[str]:
    # -P, or this folder would shadow the package that the script imports.
    command = [sys.executable, "-P", str(TRIAL), str(program), str(AMPLE_ARENA_BYTES)]
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            errors="replace",
            timeout=TRIAL_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        problem = f"one inference took more than {TRIAL_TIMEOUT_S} s"
        raise ConversionError(f"{program.name}: {problem} in TensorFlow Lite Micro.") from None


def _explain(where: str, tried: subprocess.CompletedProcess[str]) -> NoReturn:
    missing = _NO_OPERATOR.search(tried.stderr)
    if missing is not None:
        rewrites = ", ".join(Rewrite)
        advice = f"Replace it in the model, or by a rewrite (convert.rewrites: {rewrites})."
        name = f"TensorFlow Lite Micro {_version()}"
        raise UnsupportedOperatorError(missing[1], runtime=name, where=where, advice=advice)
    said = " ".join(line.strip() for line in _OWN_WORDS.findall(tried.stderr))
    ended = f"ended by {signal.Signals(-tried.returncode).name}" if tried.returncode < 0 else ""
    reason = ". ".join(part for part in (said, ended) if part) or "no reason given"
    raise ConversionError(f"{where}: TensorFlow Lite Micro refuses the program: {reason}.")


def _version() -> str:
    return importlib.metadata.version("tflite-micro")
