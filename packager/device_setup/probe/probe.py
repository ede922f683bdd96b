"""Run the known network once with tflite-runtime, and print its output, one number a line.

    python3 probe.py known.tflite

What it is fed is made as in `probe.c`. This runs on the device, with nothing else beside it.
"""

import sys

import numpy as np
from tflite_runtime.interpreter import Interpreter


def made_input(shape: tuple[int, ...]) -> "np.ndarray[tuple[int, ...], np.dtype[np.int8]]":
    """Return what `make_input` of `probe.c` makes."""
    state, values = 1, []
    for _ in range(int(np.prod(shape))):
        state = (state * 1664525 + 1013904223) % 2**32
        values.append((state >> 24) - 128)
    return np.array(values, np.int8).reshape(shape)


def main() -> None:
    """Feed the network, and print what comes out."""
    interpreter = Interpreter(sys.argv[1], num_threads=1)
    interpreter.allocate_tensors()
    (given,), (wanted,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(given["index"], made_input(tuple(given["shape"])))
    interpreter.invoke()
    print(*interpreter.get_tensor(wanted["index"]).reshape(-1), sep="\n")  # noqa: T201 its result


if __name__ == "__main__":
    main()
