"""Give a 32-bit handheld what proves a bundle there: one script for the device's own Python.

There is no C++ program for it: tflite-runtime exists for 32-bit Arm as a Python package only.
The script begins at the program's input and ends at its output; see `scan.py` itself.
"""

from packager.apps import Payload, PayloadFile
from packager.apps.handheld import sources_root
from packager.artifacts import File, Runtime
from packager.bundles import OpenedBundle
from packager.devices import Architecture
from packager.errors import ConfigError

PROGRAM = "scan.py"
COMMAND = ("/usr/bin/python3.11", "-sP", PROGRAM)
"""An absolute name is the device's own program. `-s` and `-P`: only its own packages."""
NOTICES = """\
scan.py is part of packager, under the Apache License 2.0. Nothing is linked into it and
nothing goes onto the device with it: Python, NumPy and tflite-runtime are the device's own.
"""


def build(opened: OpenedBundle, architecture: Architecture) -> Payload:
    """Return the script that runs a bundle; it is the same for each of them.

    Raises:
        ConfigError: The bundle's runtime, or the architecture, is not a 32-bit handheld's.
    """
    where = opened.manifest.target
    if opened.manifest.runtime is not Runtime.TFLITE_LEGACY:
        problem = f"runs on {opened.manifest.runtime}, which has an app of its own"
        raise ConfigError(where, f"{problem}.")
    if architecture is not Architecture.ARMV7:
        remedy = "Name a device with 32-bit Arm, such as qemu-user:cortex-a7."
        raise ConfigError(where, f"is made for {Architecture.ARMV7}, not {architecture}. {remedy}")
    script = sources_root() / "handheld" / "legacy" / PROGRAM
    return Payload(
        architecture=architecture,
        program=PayloadFile(name=PROGRAM, file=File.of(script)),
        libraries=(),
        command=COMMAND,
        notices=NOTICES,
    )
