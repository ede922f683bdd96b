"""Write a first recipe that builds as it stands: a copy of the phantom example."""

from pathlib import Path

from packager import shipped
from packager.errors import ConfigError
from packager.storage import copy_whole, storage_errors

RECIPE_FILE = "packager.toml"
KEPT_SUFFIXES = frozenset({".toml", ".py", ".md"})


def write_example(folder: Path, example: Path) -> tuple[Path, ...]:
    """Copy the files of `example` to `folder` and return their new places, the recipe first.

    Raises:
        ConfigError: A file of that name is there already; nothing was written.
        StorageError: The disk is full or the folder cannot be written.
    """
    sources = sorted(
        (path for path in example.iterdir() if path.suffix in KEPT_SUFFIXES),
        key=lambda path: (path.name != RECIPE_FILE, path.name),
    )
    places = {path: folder / path.name for path in sources}
    for place in places.values():
        if place.exists():
            raise ConfigError(str(place), "is there already. Name another folder.")
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for source, place in places.items():
        copy_whole(source, place)
    return tuple(places.values())


def default_example() -> Path:
    """Return the folder of the phantom example, in a checkout or an installed copy."""
    return shipped.folder("examples") / "phantom"
