"""Which program runs a bundle, and how it is built."""

from pathlib import Path
from typing import assert_never

from packager.apps import Payload, handheld, legacy
from packager.artifacts import Runtime
from packager.bundles import OpenedBundle
from packager.devices import Architecture
from packager.devices.kit import Kit
from packager.errors import ConfigError


def build_app(
    opened: OpenedBundle, architecture: Architecture, kit: Kit, *, cache_root: Path
) -> Payload:
    """Build what runs a bundle on devices of an architecture, or take it from the cache.

    Raises:
        ConfigError: Bundles of this runtime are not run by a program of ours.
        MissingToolError: The kit lacks what the program is built with.
        ToolError: The compiler failed.
    """
    match opened.manifest.runtime:
        case Runtime.EXECUTORCH | Runtime.LITERT:
            return handheld.build(opened, architecture, kit, cache_root=cache_root)
        case Runtime.TFLITE_LEGACY:
            return legacy.build(opened, architecture)
        case Runtime.TFLITE_MICRO:
            problem = "runs in the firmware of a microcontroller, which no device here runs yet."
            raise ConfigError(str(opened.archive.path), problem)
        case _:
            assert_never(opened.manifest.runtime)
