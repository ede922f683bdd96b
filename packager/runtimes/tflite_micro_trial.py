"""Run a program once in TensorFlow Lite Micro: a script, for a process of its own.

TensorFlow Lite Micro was made for firmware: it writes what it has to say to stderr, and
an arena that is too small, or a wrong offset in the file, ends the process.

Arguments: the program's path, and the size of the arena in bytes.
"""

import sys

import numpy as np
from tflite_micro import runtime


def main(program: str, arena_bytes: int) -> None:
    """Run one inference of zeros, then write the recorded allocations to stderr."""
    interpreter = runtime.Interpreter.from_file(program, arena_size=arena_bytes)
    details = interpreter.get_input_details(0)
    interpreter.set_input(np.zeros(details["shape"], details["dtype"]), 0)
    interpreter.invoke()
    interpreter.print_allocations()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
