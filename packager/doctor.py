"""Say which packages are here, which are missing, and how to get them.

The names and versions come from the installed package's own metadata, so that
`pyproject.toml` is the only list of them.
"""

import importlib.metadata
from dataclasses import dataclass

from packaging.requirements import Requirement

from packager.errors import MissingToolError

DISTRIBUTION = "packager"
CORE = "core"
"""What every build needs; all else is needed for the extra that it is named by."""

NOT_LISTED = frozenset({"demo", "dev"})
"""Extras that only gather others, or that serve this program's own tests."""


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A package that some builds need.

    Attributes:
        needed_for: `core`, which is every build, or the names of the extras that hold it.
        wanted: Its version, such as `==1.5.1`; empty where any will do.
        found: Its version here; None where it is missing.
        usable: True where it is here in a wanted version.
        remedy: The command that gets it; empty where it is usable.
    """

    name: str
    needed_for: tuple[str, ...]
    wanted: str
    found: str | None
    usable: bool
    remedy: str


def version() -> str:
    """Return the version of this program.

    Raises:
        MissingToolError: It runs from a folder without having been installed.
    """
    return _metadata()["Version"]


def examine() -> tuple[Tool, ...]:
    """Look up every package that a build may need, those of the core first.

    Raises:
        MissingToolError: This program runs from a folder without having been installed.
    """
    metadata = _metadata()
    extras = sorted(set(metadata.get_all("Provides-Extra") or []) - NOT_LISTED)
    requirements = [Requirement(line) for line in metadata.get_all("Requires-Dist") or []]
    users: dict[str, list[str]] = {}
    wanted: dict[str, Requirement] = {}
    for group in (CORE, *extras):
        for requirement in requirements:
            if _belongs(requirement, group):
                users.setdefault(requirement.name, []).append(group)
                wanted[requirement.name] = requirement
    return tuple(_tool(wanted[name], tuple(groups)) for name, groups in users.items())


def exit_code(tools: tuple[Tool, ...]) -> int:
    """Return 0 if all that every build needs is usable, else that of a missing tool."""
    ready = all(tool.usable for tool in tools if CORE in tool.needed_for)
    return 0 if ready else MissingToolError.exit_code


def _belongs(requirement: Requirement, group: str) -> bool:
    if requirement.name == DISTRIBUTION:
        return False
    marker = requirement.marker
    if marker is None:
        return group == CORE
    in_core = marker.evaluate({"extra": ""})
    return in_core if group == CORE else not in_core and marker.evaluate({"extra": group})


def _tool(requirement: Requirement, groups: tuple[str, ...]) -> Tool:
    found = _version_of(requirement.name)
    usable = found is not None and requirement.specifier.contains(found, prereleases=True)
    whole = DISTRIBUTION if CORE in groups else f"{DISTRIBUTION}[{groups[0]}]"
    return Tool(
        name=requirement.name,
        needed_for=groups,
        wanted=str(requirement.specifier),
        found=found,
        usable=usable,
        remedy="" if usable else f"pip install '{whole}'",
    )


def _version_of(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _metadata() -> importlib.metadata.PackageMetadata:
    try:
        return importlib.metadata.metadata(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        raise MissingToolError(
            DISTRIBUTION, needed_by="This command", install="In its folder: pip install -e ."
        ) from None
