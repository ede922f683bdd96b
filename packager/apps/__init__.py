"""Sample apps: build what runs a bundle on a device."""

from dataclasses import dataclass

from packager.artifacts import File
from packager.devices import Architecture


@dataclass(frozen=True, kw_only=True)
class PayloadFile:
    """A file that goes onto the device, under a plain name in one flat folder."""

    name: str
    file: File


@dataclass(frozen=True, kw_only=True)
class Payload:
    """All that a device needs to run a bundle, but the bundle itself.

    Attributes:
        architecture: Of the program.
        program: What is run.
        libraries: What it loads, beside it.
        command: How the program is called in the device's folder, such as `("./scan",)`.
        notices: Licences of what was linked or lies beside it, as one text.
    """

    architecture: Architecture
    program: PayloadFile
    libraries: tuple[PayloadFile, ...]
    command: tuple[str, ...]
    notices: str
