"""Say what the converted program takes of the device's memory."""

from pathlib import Path
from typing import assert_never

from packager.artifacts import Converted, Measured, Runtime
from packager.cache import step
from packager.runtimes import machine


@step(version=1, tools=("executorch", "tflite-micro"))
def measure(_out: Path, converted: Converted) -> Measured:
    """Measure flash and working memory, each as far as this machine can tell.

    Raises:
        MissingToolError: The runtime is not installed.
        ConversionError: The runtime does not accept the program.
    """
    ram_bytes, source = _ram(converted)
    return Measured(
        flash_bytes=converted.program.size_bytes, ram_bytes=ram_bytes, ram_source=source
    )


def _ram(converted: Converted) -> tuple[int | None, str]:
    """Return the working memory of one inference in bytes, and how it was obtained."""
    path = converted.program.path
    match converted.runtime:
        case Runtime.TFLITE_MICRO:
            from packager.runtimes import tflite_micro

            source = f"the smallest arena in which TensorFlow Lite Micro ran it on {machine()}"
            return tflite_micro.arena_bytes(path), source
        case Runtime.EXECUTORCH:
            from packager.runtimes import executorch

            # Where XNNPACK took the whole network these are no more than input and output.
            planned = f"{executorch.planned_memory_bytes(path):,} bytes are planned outside XNNPACK"
            return None, f"{planned}, which does not say what it takes; measure it on the device"
        case Runtime.LITERT:
            return None, "LiteRT does not say what an inference takes; measure it on the device"
        case Runtime.TFLITE_LEGACY:
            words = "does not say what an inference takes; measure it on the device"
            return None, f"tflite-runtime {words}"
        case _:
            assert_never(converted.runtime)
