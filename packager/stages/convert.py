"""Turn the network into a program in the target's own format."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import assert_never

import numpy as np

from packager.artifacts import Converted, File, Runtime, Tuned
from packager.cache import step
from packager.contract import Contract
from packager.contract.tensors import normalise
from packager.converters import Conversion
from packager.errors import ConversionError, MissingToolError, PackagerError

EXTRAS = {
    Runtime.EXECUTORCH: "android",
    Runtime.LITERT: "litert",
    Runtime.TFLITE_MICRO: "micro",
    Runtime.TFLITE_LEGACY: "litert",
}
# How PyTorch and ExecuTorch spell the operator that a pass stumbled over.
CULPRITS = (
    re.compile(r"target=(?:torch\.ops\.|executorch\.exir\.dialects\.edge\._ops\.)?(aten\.[\w.]+)"),
    re.compile(r"Operator torch\._ops\.([\w.]+) is not in"),
    re.compile(r"EdgeOpOverload: ([\w.]+)>"),
)


@step(
    version=1,
    tools=(
        "ai-edge-litert", "ai-edge-quantizer", "executorch", "litert-torch", "tflite-micro",
        "torch", "torchao",
    ),
)  # fmt: skip
def convert(
    out: Path, tuned: Tuned, calibration: File, contract: Contract, settings: Conversion
) -> Converted:
    """Apply the rewrites, then convert; int8 ranges come from the calibration samples.

    Raises:
        ConfigError: A rewrite finds nothing to change.
        MissingToolError: A converter is not installed.
        UnsupportedOperatorError: The runtime lacks an operator.
        ConversionError: The converter failed, or wrote what its runtime refuses.
    """
    with _converter_errors(settings.runtime):
        import torch

        from packager import program
        from packager.converters import rewrites

        # Sums in another order would give other digits, and so other ranges.
        torch.set_num_threads(1)
        network = rewrites.apply(program.load(tuned.program), settings.rewrites)
        samples = normalise(np.load(calibration.path)["frames"], contract)
        match settings.runtime:
            case Runtime.EXECUTORCH:
                from packager.converters import executorch

                return executorch.convert(out, network, samples, settings)
            case Runtime.LITERT | Runtime.TFLITE_MICRO | Runtime.TFLITE_LEGACY:
                from packager.converters import litert

                return litert.convert(out, network, samples, settings)
            case _:
                assert_never(settings.runtime)


@contextmanager
def _converter_errors(runtime: Runtime) -> Iterator[None]:
    """Turn whatever a converter raises into one message for the user.

    The converters raise errors of dozens of classes, some of them bare. What the disk
    refuses is not theirs, and keeps its own.
    """
    try:
        yield
    except (PackagerError, OSError):
        raise
    except ModuleNotFoundError as error:
        raise MissingToolError(
            str(error.name),
            needed_by=f"Converting to {runtime}",
            install=f"pip install 'packager[{EXTRAS[runtime]}]'",
        ) from error
    except Exception as error:
        words = str(error).strip() or type(error).__name__
        raise ConversionError(_explain(runtime, words)) from error


def _explain(runtime: Runtime, words: str) -> str:
    found = next((match for pattern in CULPRITS if (match := pattern.search(words))), None)
    culprit = f" at {found[1]}" if found else ""
    problem = words.splitlines()[0].rstrip(".")
    advice = "Replace that part of the model by simpler operators, or leave this target out."
    return f"{runtime}: the converter failed{culprit}: {problem}. {advice}"
