"""Load a program on this machine and run arrays through it: one module for each runtime."""

import platform
from typing import Protocol, assert_never

import numpy as np
from numpy.typing import NDArray

from packager.artifacts import Converted, Runtime
from packager.contract.tensors import dequantise, to_device


class Session(Protocol):
    """A loaded program.

    Attributes:
        name: What runs it, with version and machine, such as `LiteRT 2.3.0 on x86_64`.
    """

    name: str

    def run(self, inputs: NDArray[np.generic]) -> NDArray[np.generic]:
        """Run device inputs (n, ...) one by one; return the raw outputs (n, ...).

        Both are in the program's own layout and type; see `Converted.input` and `output`.
        """


def open_session(converted: Converted) -> Session:
    """Load a converted program with its own runtime.

    Raises:
        MissingToolError: The runtime is not installed.
        ConversionError: The runtime does not accept the program.
    """
    match converted.runtime:
        case Runtime.EXECUTORCH:
            from packager.runtimes import executorch

            return executorch.open_session(converted)
        case Runtime.LITERT:
            from packager.runtimes import litert

            return litert.open_session(converted)
        case Runtime.TFLITE_MICRO:
            from packager.runtimes import tflite_micro

            return tflite_micro.open_session(converted)
        case Runtime.TFLITE_LEGACY:
            from packager.runtimes import tflite_legacy

            return tflite_legacy.open_session(converted)
        case _:
            assert_never(converted.runtime)


def predict(converted: Converted, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run prepared samples (n, channels, ...) and return real outputs (n, outputs)."""
    session = open_session(converted)
    raw = session.run(to_device(batch, converted.input))
    return dequantise(raw, converted.output).reshape(len(batch), -1)


def machine() -> str:
    """Return the processor family of this machine, such as `x86_64`."""
    return platform.machine()
