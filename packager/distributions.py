"""Which software built a bundle, to the exact version."""

import importlib.metadata
import platform
import zlib
from dataclasses import dataclass
from typing import assert_never

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from packager import doctor, environments
from packager.artifacts import Runtime


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """A piece of software, under its name on the package index where it has one."""

    name: str
    version: str


def extra_for(runtime: Runtime) -> str:
    """Return the extra of this package that brings what a runtime's programs need."""
    match runtime:
        case Runtime.EXECUTORCH:
            return "android"
        case Runtime.LITERT | Runtime.TFLITE_LEGACY:
            return "litert"
        case Runtime.TFLITE_MICRO:
            return "micro"
        case _:
            assert_never(runtime)


def built_with(runtime: Runtime) -> tuple[Distribution, ...]:
    """Return Python, zlib and every distribution that a build for `runtime` rests on.

    The distributions are those that this package requires, with the extra of the runtime,
    and all that these require in turn: the same environment gives the same list, whatever
    else is installed in it.

    Returns:
        Sorted by name.

    Raises:
        MissingToolError: This program runs from a folder without having been installed.
    """
    found = {doctor.DISTRIBUTION: doctor.version()}
    waiting = [Requirement(f"{doctor.DISTRIBUTION}[{extra_for(runtime)}]")]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        distribution = _find(name)
        if distribution is None:
            continue  # such as a package that is needed on another platform only
        found[name] = distribution.version
        new = {(name, extra) for extra in ("", *requirement.extras)} - seen
        seen |= new
        waiting += [r for _, extra in sorted(new) for r in _requirements(distribution, extra)]
    if runtime is Runtime.TFLITE_LEGACY:
        # It runs in an environment of its own, which this package's metadata does not know.
        found[runtime.value] = environments.TFLITE_LEGACY.versions()[runtime.value]
    # The compressed bytes of an archive depend on zlib.
    found |= {"python": platform.python_version(), "zlib": zlib.ZLIB_RUNTIME_VERSION}
    return tuple(Distribution(name=name, version=found[name]) for name in sorted(found))


def _find(name: str) -> importlib.metadata.Distribution | None:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _requirements(distribution: importlib.metadata.Distribution, extra: str) -> list[Requirement]:
    """Return what a distribution requires here, with one of its extras or with none ("")."""
    requirements = [Requirement(line) for line in distribution.requires or []]
    return [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": extra})]
