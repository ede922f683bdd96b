"""Run samples through a program with tflite-runtime: a script, for an environment of its own.

Arguments: the program's path, the file of inputs, the file for outputs; both are `.npy`
files with the samples one a row. Without the last two the program is only loaded. The
versions of tflite-runtime and NumPy go to stdout as JSON. The exit code is 3, and the words
of tflite-runtime go to stderr, where it refuses the program.
"""

import importlib.metadata
import json
import sys

import numpy as np
from numpy.typing import NDArray

PACKAGES = ("tflite-runtime", "numpy")
REFUSED = 3


def main(program: str, *files: str) -> None:
    """Say what runs here, then load the program and run each sample by itself."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    sys.stdout.write(json.dumps(versions))
    try:
        run(program, *files)
    except (ValueError, RuntimeError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(REFUSED)


def run(program: str, *files: str) -> None:
    """Load the program; write the outputs (n, ...) of the inputs (n, ...) where there are any.

    Raises:
        ValueError: tflite-runtime refuses the program, or an input.
        RuntimeError: An operator refuses what it is given.
    """
    from tflite_runtime.interpreter import Interpreter, OpResolverType

    # As on 32-bit Arm, where there is no XNNPACK. Not the reference kernels: those answer at
    # random where a layer of int8 weights with a scale for each channel gets several rows.
    kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(program, num_threads=1, experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    if not files:
        return
    inputs, outputs = files
    given = interpreter.get_input_details()[0]["index"]
    answered = interpreter.get_output_details()[0]["index"]
    answers: list[NDArray[np.generic]] = []
    for sample in np.load(inputs, allow_pickle=False):
        interpreter.set_tensor(given, sample[np.newaxis])
        interpreter.invoke()
        answers.append(interpreter.get_tensor(answered))
    np.save(outputs, np.concatenate(answers), allow_pickle=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
