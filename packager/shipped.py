"""Where the folders lie that are data to this program: targets, examples, sample apps."""

from pathlib import Path


def folder(name: str) -> Path:
    """Return such a folder, in a checkout or an installed copy."""
    package = Path(__file__).parent
    installed = package / f"_{name}"
    return installed if installed.is_dir() else package.parent / name
